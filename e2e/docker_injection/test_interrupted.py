"""Sonde dies, a container is removed, or a wish is taken back in the middle of a change."""

import os
import random
import signal
import time

import pytest

from docker_host import PYTHON
from docker_injection.injecting import WINDOW, specification
from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

# Wishes with a kill in the middle.
CYCLES = int(os.environ.get("SONDE_CYCLES", "6"))


def calling(host) -> str | None:
    """The key of the container that is called slow, once it is known."""
    keys = (row["sonde.workload.key"] for row in host.sonde.services())
    return next((key for key in keys if key.endswith("docker:slow")), None)


@pytest.mark.timeout(600 + 30 * CYCLES)
def test_killed_at_any_moment_it_ends_as_wished(host):
    """Controller and dashboard are one process here, which dies at a random step of each wish."""
    flags = ["--restart", "always", "--volume", "/data", "--network", "front", "--ip", "10.77.0.7"]
    key = host.known("killed", *flags)
    before = host.host.inspect("killed")
    host.host.docker("exec", "killed", "sh", "-c", "echo kept >/data/file")
    moments = random.Random(CYCLES)
    for turn in range(CYCLES):
        level, state = (("full", "capturing"), ("off", "discovered"))[turn % 2]
        host.wish(key, level)
        # Before, in the middle of, and after the change, and in its window.
        time.sleep(moments.uniform(0, 1.2 * WINDOW if turn % 4 == 3 else 2))
        host.sonde.process.kill()
        host.sonde.process.wait()
        host.sonde.start()
        # Two of three wishes are overtaken by the next one.
        if turn % 3 == 2:
            host.reached(key, level, state, seconds=60)
            assert ("PYTHONPATH" in host.environment("killed")) == (level == "full"), turn
            until("nothing is left", lambda: host.names() == {"killed"}, 20)
    host.set_level(key, "off", "discovered")
    after = host.host.inspect("killed")
    assert after["State"]["Running"]
    assert specification(after) == specification(before)
    assert host.host.docker("exec", "killed", "cat", "/data/file") == "kept"
    assert host.names() == {"killed"}


@pytest.mark.parametrize("level", ["full", "off"])
def test_killed_in_the_middle_of_a_change_it_ends_as_wished(host, level):
    """It dies while it waits for a container that takes its time to stop."""
    slow = "trap 'while [ -e /held/it ]; do sleep 0.2; done; exit 0' TERM; "
    slow += "touch /held/it; python3 /srv/app/caller.py & wait"
    held = host.sonde.data.parent / f"held-{level}"
    held.mkdir()
    flags = [*host.flags("slow"), "--volume", f"{held}:/held", "--restart", "always"]
    flags += ["--stop-timeout", "60", "--init"]
    host.host.docker("run", *flags, PYTHON, "bash", "-c", slow)
    until("it runs", lambda: (held / "it").exists(), 20)
    key = until("it calls", lambda: calling(host), 30)
    before = host.host.inspect("slow")
    if level == "off":
        (held / "it").unlink()
        host.set_level(key, "full", "capturing")
    (held / "it").touch()
    first = host.host.inspect("slow")["Id"]
    host.wish(key, level)
    kept = host.sonde.data / "controller" / "injections.json"
    word = {"full": '"making"', "off": '"undoing"'}[level]
    until("it is in the middle", lambda: kept.exists() and word in kept.read_text(), 20)
    made = {"full": "slow.sonde-new", "off": "slow.sonde-back"}[level]
    until("another one is made", lambda: made in host.names(), 20)
    time.sleep(1)
    host.sonde.process.kill()
    host.sonde.process.wait()
    now = host.host.inspect("slow")
    assert now["Id"] == first and now["State"]["Running"], "killed before that was over"
    (held / "it").unlink()
    host.sonde.start()
    host.reached(key, level, {"full": "capturing", "off": "discovered"}[level], seconds=60)
    assert ("PYTHONPATH" in host.environment("slow")) == (level == "full")
    until("nothing is left", lambda: host.names() == {"slow"}, 20)
    (held / "it").unlink(missing_ok=True)
    host.set_level(key, "off", "discovered")
    assert specification(host.host.inspect("slow")) == specification(before)


def test_one_that_is_removed_in_the_middle_of_a_change_leaves_nothing(host):
    held = host.sonde.data.parent / "held"
    held.mkdir()
    slow = "trap 'while [ -e /held/it ]; do sleep 0.2; done; exit 0' TERM; "
    slow += "python3 /srv/app/caller.py & wait"
    flags = [*host.flags("slow"), "--volume", f"{held}:/held", "--stop-timeout", "60", "--init"]
    host.host.docker("run", *flags, PYTHON, "bash", "-c", slow)
    key = until("it calls", lambda: calling(host), 30)
    (held / "it").touch()
    host.wish(key, "full")
    until("another one is made", lambda: "slow.sonde-new" in host.names(), 20)
    host.host.docker("rm", "--force", "slow")
    until("nothing is left", lambda: host.names() == set(), 30)
    host.wish(key, "off")


def test_a_wish_that_is_taken_back_while_it_is_planned_restarts_nothing(host):
    key = host.known("thought")
    before = host.host.inspect("thought")
    # Planning asks the engine, which does not answer for a while.
    os.killpg(host.host.engine.pid, signal.SIGSTOP)
    try:
        host.wish(key, "full")
        time.sleep(2)
        host.wish(key, "off")
        time.sleep(1)
    finally:
        os.killpg(host.host.engine.pid, signal.SIGCONT)
    host.reached(key, "off", "discovered")
    # As long as it would take to make another one.
    time.sleep(4)
    after = host.host.inspect("thought")
    assert after["Id"] == before["Id"]
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
