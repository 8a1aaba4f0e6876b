"""What `clients/caller.py` is told, and what Sonde must then say of its calls."""

import json
import pathlib
import urllib.parse
from collections.abc import Callable

from harness import HERE, Sonde, StandIn, ask_socket, differences, until

CALLER = HERE / "clients" / "caller.py"


def caller_environment(stand_in: StandIn, at: str, **more: str) -> dict[str, str]:
    """The environment of a caller that reaches the stand-in at this address."""
    return {
        "CALL_AT": at,
        "CALL_CA": pathlib.Path(stand_in.ca).read_text(),
        "CALL_WANTED": json.dumps({"input": 1234, "cached": 1000, "output": 56}),
        "PYTHONUNBUFFERED": "1",
    } | more


# From a workload that is up to what was wanted in effect again, whatever was restarted.
RECOVERED_WITHIN = 10


def history(sonde: Sonde, key: str) -> list[dict]:
    """What happened to a workload, newest first."""
    path = f"services/{urllib.parse.quote(key, safe='')}/history"
    return ask_socket(sonde.data / "sonde.sock", "GET", path)["entries"]


def assert_recovers(sonde: Sonde, key: str, stand_in: StandIn, act: Callable[[], set[int]]) -> None:
    """`act` breaks and restores something, and gives the pids of the workload as soon as it is up.
    Within ten seconds what was wanted of it (`network`) is in effect in them, without a person;
    history says what happened and why; and their calls are captured, each once."""
    row = next(row for row in sonde.services() if row["sonde.workload.key"] == key)
    assert row["sonde.capture.observed"] == "network", row
    before = {entry["time"] for entry in history(sonde, key)}
    pids = act()

    def is_in_effect() -> bool:
        rows = sonde.cli("services", "--output", "json", check=False).stdout.splitlines()
        rows = [json.loads(line) for line in rows]
        row = next((row for row in rows if row["sonde.workload.key"] == key), None)
        return (
            row is not None
            and {one["process.pid"] for one in row["sonde.instances"]} == pids
            and row["sonde.capture.desired"] == "network"
            and row["sonde.capture.observed"] == "network"
            and row["sonde.capture.state"] == "capturing"
        )

    until("what was wanted is in effect again", is_in_effect, RECOVERED_WITHIN, patience=1)
    calls = assert_exact(sonde, key, stand_in)
    assert {call["process.pid"] for call in calls} <= pids
    entries = [entry for entry in history(sonde, key) if entry["time"] not in before]
    assert entries, "history says nothing of it"
    assert all(entry["reason"] for entry in entries if entry["kind"] == "state"), entries
    assert not [entry for entry in entries if entry["kind"] == "wish"], "nobody had to wish again"


def assert_exact(sonde: Sonde, key: str, stand_in: StandIn, count: int = 2) -> list[dict]:
    """Switches the workload on where it is not yet; its next calls are the stand-in's answers, to
    the digit."""
    row = next(row for row in sonde.services() if row["sonde.workload.key"] == key)
    if row["sonde.capture.desired"] != "network":
        sonde.rows("services", "set", key, "--capture", "network")
    known = {call.get("gen_ai.response.id") for call in sonde.calls(key)}

    def fresh() -> list[dict] | None:
        # One that ended with its pod before it was answered has no id.
        answered = [call for call in sonde.calls(key) if call.get("gen_ai.response.id")]
        calls = [call for call in answered if call["gen_ai.response.id"] not in known]
        return calls if len(calls) >= count else None

    calls = until(f"{count} calls of {key}", fresh, 30, 0.3)
    answered = {answer["id"] for answer in stand_in.answers()}
    for call in calls:
        wanted = {
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.usage.input_tokens": 1234,
            "gen_ai.usage.cache_read.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 56,
            "server.address": "api.openai.com",
            "sonde.workload.key": key,
            "http.response.status_code": 200,
            "error.type": None,
            "sonde.incomplete": None,
        }
        assert not differences(call, wanted)
        assert call["gen_ai.response.id"] in answered
    assert len({call["gen_ai.response.id"] for call in calls}) == len(calls)
    return calls
