"""Every client: discovered first, silent at off, exact at network, silent again."""

import decimal
import json
import subprocess
import time

import pytest

from harness import CURL, KINDS, cost, differences, expected, until

pytestmark = pytest.mark.kernel

# Long enough for a call to arrive that should not.
SILENCE = 1.5


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_client_is_discovered_switched_on_and_off(kind, sonde, client):
    program = client(kind)
    assert program.call(stream=False)[0]["ok"]
    row = sonde.service(program.pid)
    key = row["sonde.workload.key"]
    assert row["sonde.providers"] == [kind.provider]
    assert row["process.runtime.name"] == kind.runtime
    assert row["sonde.platform"] == "process"
    assert row["sonde.capture.desired"] == "off"
    assert row["sonde.capture.observed"] == "off"

    assert program.call(stream=True)[0]["ok"]
    time.sleep(SILENCE)
    assert sonde.calls(key) == []

    sonde.wish(key, "network")
    for stream in (False, True):
        wanted = {"input": 1500, "cached": 1024, "output": 211, "words": 25, "pause": 0.002}
        said, answer = program.call(stream=stream, **wanted)
        assert said["ok"]
        call = sonde.call(key, answer["id"])
        assert not differences(call, expected(kind, stream, wanted))
        assert decimal.Decimal(call["sonde.cost"]) == cost(kind.model, wanted)
        assert call["service.name"] == row["service.name"]

    sonde.wish(key, "off")
    seen = len(sonde.calls(key))
    assert program.call(stream=True)[0]["ok"]
    time.sleep(SILENCE)
    assert len(sonde.calls(key)) == seen


def test_curl_is_captured_in_the_middle_of_its_work(sonde, stand_in):
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]})
    wanted = {"input": 77, "output": 33}
    command = [CURL, "--silent", "--show-error", "--rate", "60/m", "--cacert", stand_in.ca]
    place = f"{stand_in.address}:{stand_in.port}"
    command += ["--connect-to", f"api.openai.com:443:{place}", "-d", body]
    command += ["-H", "content-type: application/json", "-H", f"x-stand-in: {json.dumps(wanted)}"]
    command += ["https://api.openai.com/v1/chat/completions?n=[1-10]"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as curl:
        try:
            key = sonde.service(curl.pid)["sonde.workload.key"]
            sonde.wish(key, "network")
            call = until("a call of curl", lambda: sonde.calls(key), 10)[-1]
        finally:
            curl.kill()
    assert call["gen_ai.response.model"] == "gpt-4o-mini-2024-07-18"
    assert call["gen_ai.usage.input_tokens"] == 77
    assert decimal.Decimal(call["sonde.cost"]) == cost("gpt-4o-mini", wanted)


def test_tool_calls_and_reasoning_are_read(sonde, watched):
    program, key = watched(KINDS[0])
    for stream in (False, True):
        wanted = {"input": 90, "output": 140, "reasoning": 64, "tool": "get_weather"}
        _, answer = program.call(stream=stream, **wanted)
        call = sonde.call(key, answer["id"])
        assert call["sonde.tool_calls"] == ["get_weather"]
        assert call["gen_ai.response.finish_reasons"] == ["tool_call"]
        assert call["gen_ai.usage.reasoning.output_tokens"] == 64


def test_a_large_compressed_answer_is_read_to_its_end(sonde, watched):
    program, key = watched(KINDS[0])
    for more in ({"compress": True}, {}):
        wanted = {"input": 11, "output": 4096, "filler": 3_000_000} | more
        _, answer = program.call(stream=False, **wanted)
        call = sonde.call(key, answer["id"])
        assert call["gen_ai.usage.output_tokens"] == 4096
        assert "sonde.incomplete" not in call


def test_calls_at_once_are_told_apart(sonde, watched):
    program, key = watched(KINDS[1])
    before = len(sonde.calls(key))
    program.call(stream=True, more={"parallel": 20}, output=500, words=30, pause=0.005)
    until("20 calls", lambda: len(sonde.calls(key)) >= before + 20, 10)
    calls = sonde.calls(key)[before:]
    assert sorted(call["gen_ai.usage.output_tokens"] for call in calls) == list(range(500, 520))
    assert len({call["gen_ai.response.id"] for call in calls}) == 20
    assert not [call for call in calls if "sonde.incomplete" in call or "error.type" in call]


def test_a_host_that_nobody_knows_is_recognised_by_its_shape(sonde, watched):
    program, key = watched(KINDS[0])
    _, answer = program.call(stream=True, more={"host": "models.example.com"}, input=3, output=4)
    call = sonde.call(key, answer["id"])
    assert call["server.address"] == "models.example.com"
    assert call["sonde.recognised_by"] == "shape"
    assert call["gen_ai.usage.output_tokens"] == 4


def test_a_long_prompt_is_no_obstacle(sonde, watched):
    program, key = watched(KINDS[2])
    _, answer = program.call(stream=True, more={"prompt": "long " * 800_000}, input=900_000)
    call = sonde.call(key, answer["id"])
    assert call["gen_ai.request.model"] == KINDS[2].model
    assert call["gen_ai.usage.input_tokens"] == 900_000
    assert call["http.request.body.size"] > 4_000_000


def test_what_a_person_typed_is_kept_nowhere(kernel, up, client):
    secret = "the-unlikely-words-of-a-person"
    sonde = up("--log", "trace")
    program = client(KINDS[0])
    program.call(stream=False)
    key = sonde.service(program.pid)["sonde.workload.key"]
    sonde.wish(key, "network")
    _, answer = program.call(stream=True, more={"prompt": secret})
    sonde.call(key, answer["id"])
    sonde.stop()
    for file in [sonde.out, sonde.err, *sonde.data.rglob("*")]:
        if file.is_file():
            content = file.read_bytes()
            assert secret.encode() not in content, file
            assert b"sk-test" not in content, file


def test_an_unknown_model_has_tokens_and_no_price(sonde, watched):
    program, key = watched(KINDS[0])
    _, answer = program.call(stream=True, model="house-model-7b", input=5, output=6)
    call = sonde.call(key, answer["id"])
    assert call["gen_ai.response.model"] == "house-model-7b"
    assert call["gen_ai.usage.output_tokens"] == 6
    assert "sonde.cost" not in call
