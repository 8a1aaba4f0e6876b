"""Unmodified programs of real frameworks: their agents, tools, chains and model calls are one tree,
exact to the token, without a word of what was said."""

import os
import subprocess

import pytest

from agent import CANARY, FRAMEWORKS, Span, environment, run, venv
from framework_runs import PROGRAMS
from harness import CURL, StandIn, until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A stand-in that has each tool that is offered called once."""
    directory = tmp_path_factory.mktemp("tools")
    listen = f"127.78.{os.getpid() % 250 + 1}.1:443" if os.geteuid() == 0 else "127.0.0.1:0"
    running = StandIn(directory, listen, more=["--calls-tools"])
    yield running
    running.stop()


def tree(spans: list[Span]) -> list[str]:
    """The operations of one run, from its root on; fails where they are not one tree."""
    # Agents that are made before the run are no part of it.
    run = [span for span in spans if span.attributes["gen_ai.operation.name"] != "create_agent"]
    known = {span.id for span in run}
    assert len({span.trace for span in run}) == 1, [(span.name, span.trace) for span in run]
    roots = [span for span in run if span.parent not in known]
    assert len(roots) == 1, [span.name for span in roots]
    return [span.attributes["gen_ai.operation.name"] for span in run]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_run_is_one_tree_with_exact_tokens(name, api, sink):
    env = environment(sink, api)
    done = run(venv("requirements") / "python", FRAMEWORKS / f"{name}.py", env=env, seconds=120)
    assert done.returncode == 0, done.stderr
    operations = tree(sink.spans)
    assert set(operations) == set(PROGRAMS[name])
    assert operations.count("chat") == PROGRAMS[name].count("chat")
    assert operations.count("execute_tool") == PROGRAMS[name].count("execute_tool")
    for span in sink.spans:
        said = span.attributes
        if said["gen_ai.operation.name"] == "chat":
            assert said["gen_ai.usage.input_tokens"] == 42
            assert said["gen_ai.usage.output_tokens"] == 17
            assert said["gen_ai.response.id"].startswith("chatcmpl-")
        if said["gen_ai.operation.name"] == "execute_tool":
            assert said["gen_ai.tool.name"] == "weather"
        assert not span.failed
    assert CANARY not in sink.bytes


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["langgraph_agent", "openai_agent", "crew"])
def test_what_the_kernel_saw_of_the_same_calls_is_counted_once(name, sonde, api, tmp_path):
    """`sonde run`, with the same program watched by the kernel: each call is one row of two views,
    in the tree of the run."""
    resolve = {
        name: value
        for name, value in api.environment().items()
        if name in ("STAND_IN_HOSTS", "SSL_CERT_FILE", "PYTHONPATH")
    }
    env = environment(None, **resolve, OPENAI_API_KEY="sk-stand-in")
    program = [venv("requirements") / "python", FRAMEWORKS / f"{name}.py"]
    command = [sonde.binary, "run", "--data-dir", sonde.data]
    command += ["--agent-bundle", tmp_path / "agents" / "python", "--", *program]
    before = {row["sonde.workload.key"] for row in sonde.services()}

    def start() -> None:
        done = run(*command, env=env, seconds=120)
        assert done.returncode == 0, done.stderr

    def service() -> list[str]:
        rows = sonde.services()
        return [
            row["sonde.workload.key"]
            for row in rows
            if row["sonde.workload.key"] not in before and row["service.name"] == f"{name}.py"
        ]

    start()
    (key,) = until("the program is discovered", service, 20)
    # Some frameworks make calls more that the stand-in refuses; a run makes the same each time.
    wanted = PROGRAMS[name].count("chat")
    answered = [row for row in sonde.calls(key) if "gen_ai.response.id" in row]
    assert len(answered) == wanted, "what waited was sent before the program ended"
    told = len(sonde.calls(key))
    # Nothing of it runs now; the next start is watched from its beginning.
    sonde.cli("services", "set", key, "--capture", "network")
    start()

    def joined() -> list[dict]:
        rows = [row for row in sonde.calls(key) if row.get("sonde.also")]
        return rows if len(rows) >= wanted else []

    rows = until("kernel and SDK are joined", joined, 20)
    assert len(rows) == wanted
    assert len(sonde.calls(key)) == 2 * told, "each call is counted once"
    for row in rows:
        assert row["gen_ai.usage.input_tokens"] == 42
        assert row["gen_ai.usage.output_tokens"] == 17
        assert row["sonde.workload.key"] == key
    assert len({row["trace_id"] for row in rows}) == 1
    address = f"http://localhost/api/v1/traces/{rows[0]['trace_id']}"
    traced = subprocess.run(
        [CURL, "-sS", "--fail", "--unix-socket", sonde.data / "sonde.sock", address],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "weather" in traced.stdout, traced.stdout
