"""`sonde storage` as an operator uses it: what is kept, a copy while calls come in, and back."""

import json
import subprocess
import time
import urllib.request

import pytest

from harness import until

CALLS = 40


@pytest.fixture
def filled(up):
    """One that an SDK sent calls to, which were acknowledged."""
    sonde = up()
    made = sonde.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
    send(sonde, json.loads(made)["token"], CALLS)
    assert len(kept(sonde)) == CALLS
    return sonde


def send(sonde, token: str, calls: int, ago: int = 60, first: int = 1) -> None:
    """Sends spans of an SDK of so many seconds ago, and waits until they are acknowledged."""
    now = time.time_ns() - ago * 1_000_000_000
    texts = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    spans = [
        {
            "traceId": f"{number + first:032x}",
            "spanId": f"{number + first:016x}",
            "name": "chat gpt-4o",
            "startTimeUnixNano": str(now + number * 1_000_000),
            "endTimeUnixNano": str(now + number * 1_000_000 + 500_000_000),
            "attributes": [
                *({"key": key, "value": {"stringValue": text}} for key, text in texts.items()),
                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": str(number)}},
            ],
        }
        for number in range(calls)
    ]
    name = {"key": "service.name", "value": {"stringValue": "shop"}}
    scope = {"scope": {"name": "an sdk"}, "spans": spans}
    body = {"resourceSpans": [{"resource": {"attributes": [name]}, "scopeSpans": [scope]}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    place = f"{sonde.url}/v1/traces"
    request = urllib.request.Request(place, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200, answer.read()


def run(sonde, *arguments: str) -> subprocess.CompletedProcess:
    """Runs its binary for another data directory."""
    command = [str(sonde.binary), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def kept(sonde) -> list[dict]:
    """All calls that it shows."""
    return sonde.rows("calls", "--limit", "500")


def test_status_says_what_is_kept_and_how_full_the_disk_is(filled):
    def look():
        said = filled.cli("storage", "status").stdout
        return said if "standing" in said else None

    said = until("the disk was looked at", look, 60)
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert set(lines) >= {"kept", "days", "disk", "standing"}, said
    assert not lines["kept"].startswith("0 "), said
    assert " used, " in lines["disk"], said
    assert lines["kept"].endswith(" in SQLite"), said
    assert " of at most 30 before today" in lines["days"], said


def test_a_copy_of_a_running_one_becomes_one_with_the_same_calls(filled, up, tmp_path):
    copy, place = tmp_path / "copy", tmp_path / "second"
    said = filled.cli("storage", "backup", str(copy)).stdout
    assert str(copy) in said
    assert copy.stat().st_mode & 0o077 == 0
    before = kept(filled)
    place.mkdir()
    restore = ["storage", "restore", str(copy), "--data-dir", str(place / "data")]
    done = run(filled, *restore)
    assert done.returncode == 0, done.stderr
    assert kept(up(directory=place)) == before


def test_a_copy_is_neither_written_over_nor_used_damaged(filled, tmp_path):
    copy, place = tmp_path / "copy", tmp_path / "data"
    filled.cli("storage", "backup", str(copy))
    again = filled.cli("storage", "backup", str(copy), check=False)
    assert again.returncode != 0
    assert str(copy) in again.stderr
    running = run(filled, "storage", "restore", str(copy), "--data-dir", str(filled.data))
    assert running.returncode != 0
    assert str(filled.data) in running.stderr
    day = next(copy.glob("calls-*.db"))
    *bytes_before, last = day.read_bytes()
    day.write_bytes(bytes([*bytes_before, last ^ 1]))
    damaged = run(filled, "storage", "restore", str(copy), "--data-dir", str(place))
    assert damaged.returncode != 0
    assert "damaged" in damaged.stderr
    assert not place.exists()
    assert len(kept(filled)) == CALLS
