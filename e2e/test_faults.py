"""Calls that go wrong show as what they are."""

import time

import pytest

from harness import KINDS, until

pytestmark = pytest.mark.kernel

OPENAI, ANTHROPIC = KINDS[0], KINDS[2]


def failed(sonde, key: str) -> dict:
    """The only call of a workload that was switched on just now."""
    calls = until("the failed call is listed", lambda: sonde.calls(key), 10)
    assert len(calls) == 1
    return calls[0]


@pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC], ids=lambda kind: kind.name)
def test_a_rate_limit_tells_how_long_to_wait(kind, sonde, watched):
    program, key = watched(kind, "429")
    said, _ = program.call(stream=True, status=429, retry_after="7")
    assert said["status"] == 429
    call = failed(sonde, key)
    assert call["http.response.status_code"] == 429
    assert call["error.type"]
    assert float(call["sonde.retry_after"]) == 7
    assert call["gen_ai.request.model"] == kind.model
    assert "gen_ai.usage.input_tokens" not in call
    assert "sonde.cost" not in call


def test_a_server_error_is_an_error(sonde, watched):
    program, key = watched(OPENAI, "500")
    program.call(stream=False, status=500)
    call = failed(sonde, key)
    assert call["http.response.status_code"] == 500
    assert call["error.type"]


@pytest.mark.parametrize("kind", [OPENAI, ANTHROPIC], ids=lambda kind: kind.name)
def test_a_stream_that_is_cut_is_no_success(kind, sonde, watched):
    program, key = watched(kind, "cut")
    said, _ = program.call(stream=True, words=20, pause=0.02, cut_after=6)
    assert not said["ok"]
    call = failed(sonde, key)
    assert call["error.type"]
    assert call["http.response.status_code"] == 200
    assert call["gen_ai.response.finish_reasons"] == ["error"]
    assert call["gen_ai.response.time_to_first_chunk"] >= 0


def test_a_client_that_is_killed_leaves_its_call(sonde, watched):
    program, key = watched(OPENAI, "killed")
    program.ask(stream=True, words=200, pause=0.05)
    time.sleep(1.0)
    program.process.kill()
    call = failed(sonde, key)
    assert call["error.type"] or call["sonde.incomplete"]
    assert call["gen_ai.response.finish_reasons"] == ["error"]
    assert call["sonde.duration"] == pytest.approx(1.0, abs=0.5)
