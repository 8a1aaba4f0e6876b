"""What would be changed is shown before; what must not be, or would lose something, is refused;
what does not come up well is rolled back."""

import time

import pytest

from docker_host import PYTHON
from docker_injection.injecting import LABEL, specification
from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]


def test_what_full_changes_is_shown_before_it_is_done(host):
    secrets = ("--env", "SECRET=hunter2", "--label", "login=hunter2")
    key = host.known("shown", *secrets, "--env", "PYTHONPATH=/srv/lib")
    before = host.host.inspect("shown")
    dry = host.sonde.cli("services", "enable", key, "--full", "--dry-run").stdout
    for part in (
        "+++ container shown",
        "SONDE_AGENT_HEADERS=***",
        f'+    "{LABEL}"',
        "nothing is lost",
        "Restart: Another container takes the place of shown",
        "--env 'PYTHONPATH=",
    ):
        assert part in dry, dry
    assert "hunter2" not in dry
    after = host.host.inspect("shown")
    assert (after["Id"], after["State"]["Pid"]) == (before["Id"], before["State"]["Pid"])
    assert host.names() == {"shown"}

    now = host.sonde.rows("services", "enable", key, "--full")[0]
    assert now["sonde.capture.observed"] == "full", str(now)
    host.sonde.rows("services", "disable", key)
    assert specification(host.host.inspect("shown")) == specification(before)


REFUSED = {
    "removed": (["--rm"], "unsupported", "--rm"),
    "swarmed": (["--label", "com.docker.swarm.task.id=1"], "unsupported", "Docker Swarm"),
    "switched": (["--label", "sonde/inject=false"], "blocked", "sonde/inject"),
    "quiet": (["--env", "SONDE_DISABLED=1"], "blocked", "SONDE_DISABLED"),
    "traced": (["--env", "DD_TRACE_AGENT_URL=http://x"], "conflict", "Datadog"),
    "unwell": (
        ["--health-cmd", "false", "--health-interval", "1s", "--health-retries", "1"],
        "failed",
        "unhealthy even now",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_must_not_be_touched_is_refused(host, name):
    flags, state, word = REFUSED[name]
    key = host.known(name, *flags)
    if name == "unwell":
        health = ("inspect", "--format", "{{.State.Health.Status}}", name)
        until("it is unwell", lambda: host.host.docker(*health) == "unhealthy", 20)
    before = host.host.inspect(name)
    host.set_level(key, "full", state, word)
    dry = host.sonde.cli("services", "enable", key, "--full", "--dry-run", check=False)
    assert dry.returncode == 1 and word in dry.stderr, dry
    after = host.host.inspect(name)
    assert (after["Id"], after["State"]["Pid"]) == (before["Id"], before["State"]["Pid"])
    assert host.names() == {name}
    host.set_level(key, "off", "discovered")


def test_what_would_lose_something_is_refused_with_what_and_the_lines_to_type(host):
    """Its own layer, and what other containers share with it."""
    key = host.known("writer", "--volume", "/data")
    host.host.docker("exec", "writer", "sh", "-c", "echo >/tmp/x; echo >/data/x; echo >/run/x")
    enable = ("services", "enable", key, "--full", "--dry-run")
    assert "+++ container writer" in host.sonde.cli(*enable).stdout, "nothing of this would be lost"
    host.host.docker("exec", "writer", "sh", "-c", "mkdir /srv/shop; echo >/srv/shop/orders.db")
    dry = host.sonde.cli(*enable, check=False)
    assert dry.returncode == 1
    assert "/srv/shop/orders.db" in dry.stderr and "/data" not in dry.stderr, dry.stderr
    assert "--env 'PYTHONPATH=" in dry.stdout and "SONDE_AGENT_HEADERS=***" in dry.stdout
    first = host.host.inspect("writer")["Id"]
    host.set_level(key, "full", "unsupported", "/srv/shop/orders.db")
    assert host.host.inspect("writer")["Id"] == first
    host.host.docker("exec", "writer", "rm", "-r", "/srv/shop")
    host.set_level(key, "off", "discovered")

    guest = host.known("guest", "--network", "container:writer")
    for one, word in ((key, "guest lives in the namespaces"), (guest, "namespaces of another one")):
        dry = host.sonde.cli("services", "enable", one, "--full", "--dry-run", check=False)
        assert dry.returncode == 1 and word in dry.stderr, dry


# What fails wherever somebody else's directory is on the path of its modules.
BRITTLE = {
    "crashing": (
        ["--restart", "always"],
        'test -z "$PYTHONPATH" || { echo no room for guests; exit 3; }; ',
        "no room for guests",
    ),
    "ailing": (
        [
            *("--health-interval", "1s", "--health-retries", "1", "--restart", "unless-stopped"),
            *("--health-cmd", 'test -z "$PYTHONPATH" || { echo ill at ease; exit 1; }'),
        ],
        "",
        "ill at ease",
    ),
}


@pytest.mark.parametrize("name", BRITTLE)
def test_one_that_does_not_come_up_well_is_put_back_and_stays_so(host, name):
    flags, check, word = BRITTLE[name]
    command = ["sh", "-c", f"{check} exec python3 /srv/app/caller.py"]
    host.host.docker("run", *host.flags(name), *flags, PYTHON, *command)
    key = host.key(host.host.pid(name))
    if name == "ailing":
        health = ("inspect", "--format", "{{.State.Health.Status}}", name)
        until("it is healthy", lambda: host.host.docker(*health) == "healthy", 20)
    before = host.host.inspect(name)
    now = host.set_level(key, "full", "unhealthy", word)
    assert now["sonde.capture.observed"] == "network"
    after = host.host.inspect(name)
    assert after["Id"] == before["Id"], "the first one was kept"
    assert after["State"]["Running"]
    assert specification(after) == specification(before)
    assert host.names() == {name}
    # Nothing is tried again by itself.
    time.sleep(3)
    assert host.host.inspect(name)["State"]["Pid"] == after["State"]["Pid"]


def test_within_the_window_the_first_one_takes_its_place_again(host):
    key = host.known("hasty", "--restart", "always")
    before = host.host.inspect("hasty")
    host.wish(key, "full")
    until("it is watched", lambda: host.names() == {"hasty", "hasty.sonde-old"}, 20)
    host.set_level(key, "off", "discovered")
    after = host.host.inspect("hasty")
    assert after["Id"] == before["Id"] and after["State"]["Running"]
    assert specification(after) == specification(before)
    assert host.names() == {"hasty"}
