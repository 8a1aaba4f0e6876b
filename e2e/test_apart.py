"""Controller and dashboard as two programs, and other senders of OTLP."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from harness import KINDS, SONDE, free_port, until


def post(url: str, token: str, body: dict) -> int:
    """Sends JSON, and gives the status."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def token(sonde, kind: str) -> str:
    """A new token."""
    made = sonde.cli("tokens", "create", "--kind", kind, "--output", "json").stdout
    return json.loads(made)["token"]


def span(service: str) -> dict:
    """A model call as any OpenTelemetry SDK would send it."""
    now = time.time_ns()

    def attribute(key: str, value) -> dict:
        kind = "intValue" if isinstance(value, int) else "stringValue"
        return {"key": key, "value": {kind: str(value)}}

    call = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat gpt-4o-mini",
        "kind": 3,
        "startTimeUnixNano": str(now - 1_500_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [
            attribute("gen_ai.provider.name", "openai"),
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.request.model", "gpt-4o-mini"),
            attribute("gen_ai.usage.input_tokens", 321),
            attribute("gen_ai.usage.output_tokens", 123),
        ],
    }
    resource = {"attributes": [attribute("service.name", service)]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [call]}]}]}


def test_a_span_of_another_sender_is_a_call(up):
    sonde = up()
    place = f"{sonde.url}/v1/traces"
    assert post(place, token(sonde, "ingest"), span("elsewhere")) == 200
    call = until("the call", lambda: sonde.calls("elsewhere"))[0]
    assert call["gen_ai.usage.input_tokens"] == 321
    assert call["sonde.duration"] == pytest.approx(1.5)


def test_otlp_needs_a_token_of_its_kind(up):
    sonde = up()
    place = f"{sonde.url}/v1/traces"
    assert post(place, "wrong", span("elsewhere")) == 401
    assert post(f"{sonde.url}/api/v1/poll", token(sonde, "ingest"), {}) in (401, 403)
    assert sonde.calls("elsewhere") == []


def test_nothing_is_told_to_a_stranger(up):
    sonde = up()
    for path in ("services", "calls", "overview", "status", "events"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(f"{sonde.url}/api/v1/{path}", timeout=10)
        assert refusal.value.code == 401
    headers = {"host": "evil.example.com"}
    request = urllib.request.Request(f"{sonde.url}/api/v1/services", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=10)
    assert 400 <= refusal.value.code < 500


@pytest.fixture
def apart(kernel, tmp_path):
    """A dashboard, and a controller that dials it."""
    url = f"http://127.0.0.1:{free_port()}"
    data = {name: tmp_path / name for name in ("dashboard", "controller")}
    running = {}

    def start(name: str, *flags: str) -> None:
        command = [SONDE, name, "--data-dir", data[name], *flags]
        log = open(tmp_path / f"{name}.log", "ab")
        running[name] = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)

    def ask(*arguments: str) -> list[dict]:
        command = [SONDE, *arguments, "--output", "json", "--data-dir", data["dashboard"]]
        done = subprocess.run([str(p) for p in command], capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    start("dashboard", "--listen", url.removeprefix("http://"))
    made = until("a token", lambda: ask("tokens", "create", "--kind", "join"))
    (tmp_path / "token").write_text(made[0]["token"])
    start("controller", "--dashboard", url, "--token-file", str(tmp_path / "token"))
    yield start, ask, running, url
    for process in running.values():
        process.terminate()
    assert {name: process.wait(timeout=15) for name, process in running.items()} == {
        "dashboard": 0,
        "controller": 0,
    }


@pytest.mark.kernel
def test_two_programs_do_what_one_does_and_survive_each_other(apart, client):
    start, ask, running, url = apart
    program = client(KINDS[0])
    program.call(stream=False)

    def row():
        return next((r for r in ask("services") if r.get("process.pid") == program.pid), None)

    key = until("discovered", row, 15)["sonde.workload.key"]
    ask("services", "set", key, "--capture", "network")
    until("in effect", lambda: row()["sonde.capture.observed"] == "network")
    _, answer = program.call(stream=True)

    def listed(name: str):
        return [c for c in ask("calls") if c.get("gen_ai.response.id") == name]

    until("the call", lambda: listed(answer["id"]))

    running["dashboard"].terminate()
    running["dashboard"].wait(timeout=15)
    _, meanwhile = program.call(stream=True, output=77)
    start("dashboard", "--listen", url.removeprefix("http://"))
    late = until("the call made meanwhile", lambda: listed(meanwhile["id"]), 30)[0]
    assert late["gen_ai.usage.output_tokens"] == 77

    running["controller"].kill()
    running["controller"].wait()
    assert program.call(stream=False)[0]["ok"]
    start("controller", "--dashboard", url, "--token-file", str(_token_file(running)))
    time.sleep(3)
    _, again = program.call(stream=True)
    until("a call after the restart, by the wish of before", lambda: listed(again["id"]), 15)


def _token_file(running: dict) -> str:
    """The file that the first controller was given."""
    return running["controller"].args[-1]
