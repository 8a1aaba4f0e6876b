"""Unmodified programs of real frameworks, wherever they run: what each does, how a container of any
kind is given one, and how its run is read from the traces of a Sonde."""

import pathlib

from agent import FRAMEWORKS, environment, venv
from harness import Sonde, StandIn, ask_socket, until

# What each program does, as the operations of its spans, the outermost first.
PROGRAMS = {
    "langchain_chain": ["invoke_workflow", "chat"],
    "langgraph_agent": ["invoke_workflow", "chat", "execute_tool", "chat"],
    "openai_agent": ["invoke_workflow", "invoke_agent", "chat", "execute_tool", "chat"],
    "crew": ["invoke_workflow", "invoke_agent", "chat", "execute_tool", "chat"],
}
# What a program's container, unit or Deployment is called.
SERVICES = {name: name.replace("_", "-") for name in PROGRAMS}
# Where a container has an API of its own.
PORT = 8443


def command(name: str) -> list[str]:
    """What a container runs: the program once, as it is; then it stays."""
    return ["python3", "/srv/frameworks/once.py", name]


def variables() -> dict[str, str]:
    """What the programs are told in a container, whose Python is that of the packages."""
    told = environment(None)
    frameworks = {name: value for name, value in told.items() if name.startswith("CREWAI_")}
    return frameworks | {
        "OPENAI_BASE_URL": f"https://api.openai.com:{PORT}/v1",
        "OPENAI_API_KEY": "sk-stand-in",
        "SSL_CERT_FILE": "/srv/ca/ca.pem",
        "PYTHONPATH": "/srv/venv/lib/python3.11/site-packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Some keep notes there.
        "HOME": "/tmp",
    }


def places(api: StandIn) -> dict[str, tuple[pathlib.Path, str]]:
    """What a container sees of the machine, read-only: by name, where it is, and as what."""
    return {
        "venv": (venv("requirements").parent, "/srv/venv"),
        "frameworks": (FRAMEWORKS, "/srv/frameworks"),
        "ca": (pathlib.Path(api.ca), "/srv/ca/ca.pem"),
    }


def whole(sonde: Sonde, key: str, name: str) -> list[dict] | None:
    """All spans of one trace of a run that is over, once they are there."""
    wanted = PROGRAMS[name]
    # What only the kernel saw so far has a trace of its own, until the SDK tells of it.
    calls = (call for call in sonde.calls(key) if call.get("parent_span_id"))
    for trace in {call["trace_id"] for call in calls}:
        told = ask_socket(sonde.data / "sonde.sock", "GET", f"traces/{trace}")
        calls = [call for call in told["calls"] if "gen_ai.response.id" in call]
        runs = [run for run in told.get("runs", []) if run["gen_ai.operation.name"] in wanted]
        kinds = ["chat" for _ in calls] + [run["gen_ai.operation.name"] for run in runs]
        if set(kinds) == set(wanted) and len(calls) == wanted.count("chat"):
            return [*calls, *runs]
    return None


def assert_whole(sonde: Sonde, keys: dict[str, str], seconds: float = 90) -> None:
    """Of each program a run comes that is one tree, exact to the token; `keys` are by program."""
    for name, key in keys.items():
        try:
            spans = until(
                f"a run of {name} is whole", lambda n=name, k=key: whole(sonde, k, n), seconds, 1
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{sonde.calls(key)[-2:]}") from error
        known = {span["span_id"] for span in spans}
        roots = [span for span in spans if span.get("parent_span_id") not in known]
        assert [root["gen_ai.operation.name"] for root in roots] == ["invoke_workflow"], name
        for span in spans:
            if span["gen_ai.operation.name"] == "chat":
                assert span["gen_ai.usage.input_tokens"] == 42
                assert span["gen_ai.usage.output_tokens"] == 17
                assert span["sonde.workload.key"] == key
            if span["gen_ai.operation.name"] == "execute_tool":
                assert span["name"] == "weather", name
