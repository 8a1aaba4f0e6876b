"""A recording goes through the real pipeline, and is marked as recorded wherever it shows."""

import pytest

from harness import ROOT, until

DEMO = ROOT / "fixtures" / "demo.transcript"


def recorded(sonde) -> list[dict]:
    """Services of a recording; programs of this machine may be listed beside them."""
    return [row for row in sonde.services() if row.get("sonde.recorded")]


def test_a_recording_is_played_and_marked(up):
    sonde = up()
    sonde.cli("replay", str(DEMO), "--speed", "50")
    for row in until("recorded services", lambda: recorded(sonde)):
        calls = until("recorded calls", lambda row=row: sonde.calls(row["sonde.workload.key"]))
        assert all(call["sonde.recorded"] is True for call in calls)
        assert any(call.get("gen_ai.usage.output_tokens", 0) > 0 for call in calls)
        done = sonde.cli(
            "services", "set", row["sonde.workload.key"], "--capture", "off", check=False
        )
        assert done.returncode != 0
        assert "record" in done.stderr


def test_a_file_that_is_no_recording_is_refused_with_its_line(up, tmp_path):
    sonde = up()
    file = tmp_path / "broken.transcript"
    file.write_text("# client: none\n>>> one two\n")
    done = sonde.cli("replay", str(file), check=False)
    assert done.returncode == 64, done.stderr
    assert "broken.transcript" in done.stderr


@pytest.mark.kernel
def test_what_is_captured_can_be_recorded_and_played_again(kernel, up, client, tmp_path):
    from harness import KINDS

    file = tmp_path / "own.transcript"
    first = up("--record", str(file))
    program = client(KINDS[0])
    program.call(stream=False)
    key = first.service(program.pid)["sonde.workload.key"]
    first.wish(key, "network")
    _, answer = program.call(stream=True, input=314, output=159)
    seen = first.call(key, answer["id"])
    assert first.stop() == 0
    assert "sk-test" not in file.read_text()

    second = up()
    second.cli("replay", str(file))
    row = until("the recorded service", lambda: recorded(second))[0]
    again = second.call(row["sonde.workload.key"], answer["id"])
    for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "sonde.cost"):
        assert again[name] == seen[name]
    timed = "gen_ai.response.time_to_first_chunk"
    assert again[timed] == pytest.approx(seen[timed], abs=0.001)
