"""What `clients/caller.py` is told, and what Sonde must then say of its calls."""

import json
import pathlib

from harness import HERE, Sonde, StandIn, differences, until

CALLER = HERE / "clients" / "caller.py"


def caller_environment(stand_in: StandIn, at: str, **more: str) -> dict[str, str]:
    """The environment of a caller that reaches the stand-in at this address."""
    return {
        "CALL_AT": at,
        "CALL_CA": pathlib.Path(stand_in.ca).read_text(),
        "CALL_WANTED": json.dumps({"input": 1234, "cached": 1000, "output": 56}),
        "PYTHONUNBUFFERED": "1",
    } | more


def assert_exact(sonde: Sonde, key: str, stand_in: StandIn, count: int = 2) -> list[dict]:
    """Switches the workload on where it is not yet; its next calls are the stand-in's answers, to
    the digit."""
    row = next(row for row in sonde.services() if row["sonde.workload.key"] == key)
    if row["sonde.capture.desired"] != "network":
        sonde.rows("services", "set", key, "--capture", "network")
    known = {call["gen_ai.response.id"] for call in sonde.calls(key)}

    def fresh() -> list[dict] | None:
        calls = [call for call in sonde.calls(key) if call["gen_ai.response.id"] not in known]
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
