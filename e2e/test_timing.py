"""Times against the stand-in's own clock, which is the clock of the probes."""

import statistics

import pytest

from harness import KINDS

pytestmark = pytest.mark.kernel

CALLS = 7


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[3], KINDS[4]], ids=lambda kind: kind.name)
def test_time_to_first_chunk_is_that_of_the_server(kind, sonde, watched):
    program, key = watched(kind)
    differences = []
    for _ in range(CALLS):
        _, answer = program.call(stream=True, delay=0.25, pause=0.01)
        call = sonde.call(key, answer["id"])
        server = (answer["first_chunk_at"] - answer["request_at"]) / 1e9
        differences.append(abs(call["gen_ai.response.time_to_first_chunk"] - server))
    # Two processes share two cores with everything else: one of several calls may wait for a core.
    assert statistics.median(differences) < 0.005, differences


def test_the_duration_is_that_of_the_server(sonde, watched):
    program, key = watched(KINDS[0])
    differences = []
    for _ in range(CALLS):
        _, answer = program.call(stream=True, words=10, pause=0.02)
        call = sonde.call(key, answer["id"])
        server = (answer["last_at"] - answer["request_at"]) / 1e9
        differences.append(abs(call["sonde.duration"] - server))
    assert statistics.median(differences) < 0.010, differences
