"""New processes, children and late libraries of a watched workload are picked up by themselves."""

import sys
import time

import pytest

from harness import HERE, Kind

pytestmark = pytest.mark.kernel

LATE = [sys.executable, str(HERE / "clients" / "late.py")]
# What the issue promises for all of these.
PICKED_UP_WITHIN = 1.0


def late(name: str) -> Kind:
    """A client whose arguments make it a workload of its own."""
    return Kind(name, [*LATE, name], "openai", "gpt-4o-mini", "cpython")


def test_a_second_process_is_watched_and_so_is_the_library_that_it_loads_late(
    sonde, watched, client
):
    kind = late("second")
    _, key = watched(kind)
    second = client(kind)
    time.sleep(PICKED_UP_WITHIN)
    second.load()
    time.sleep(PICKED_UP_WITHIN)
    _, answer = second.call(stream=False, input=9, output=8)
    call = sonde.call(key, answer["id"])
    assert call["process.pid"] == second.pid
    assert call["gen_ai.usage.output_tokens"] == 8


def test_a_restart_makes_no_second_row(sonde, watched, client):
    kind = late("restarted")
    first, key = watched(kind)
    first.stop()
    again = client(kind)
    again.load()
    time.sleep(PICKED_UP_WITHIN)
    _, answer = again.call(stream=True)
    assert sonde.call(key, answer["id"])
    rows = [row for row in sonde.services() if row["sonde.workload.key"] == key]
    assert len(rows) == 1


def test_a_forked_child_is_watched(sonde, watched):
    program, key = watched(late("forking"))
    said, answer = program.call(stream=False, fork=True, input=21, output=22)
    call = sonde.call(key, answer["id"])
    assert call["process.pid"] == said["child"]
    assert call["gen_ai.usage.input_tokens"] == 21


def test_a_program_of_the_same_library_that_is_not_watched_pays_nothing(sonde, watched, client):
    watched(late("one"))
    other = client(late("other"))
    other.call(stream=False)
    key = sonde.service(other.pid)["sonde.workload.key"]
    other.call(stream=True)
    time.sleep(1.5)
    assert sonde.calls(key) == []
