"""The dial at Full for containers of a real Docker Engine: made anew with the SDK, seen to be
loaded, and put back to the field; rolled back where they do not come up well; refused where
something would be lost."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest

from docker_host import GATEWAY, IMAGE_ARCHIVE, PYTHON, environment
from framework_runs import PORT, SERVICES, assert_whole, command, places, variables
from harness import Sonde, StandIn, until
from test_docker import Containers

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

WINDOW = 4
# Wishes with a kill in the middle.
CYCLES = int(os.environ.get("SONDE_CYCLES", "6"))
LABEL = "dev.sonde.replaces"


class Reachable(Sonde):
    """A Sonde that containers reach, with its SDK where this host can be written."""

    def __init__(self, directory: pathlib.Path, prefix=()):
        super().__init__(directory, prefix=prefix)
        self.url = f"http://{GATEWAY}:{self.port}"
        self.bundle = pathlib.Path("/var/lib/sonde/agents/python")

    def start(self, *flags: str) -> "Reachable":
        command = [*self.prefix, self.binary, "up", "--data-dir", self.data, *flags]
        command += ["--listen", f"{GATEWAY}:{self.port}", "--agent-window", str(WINDOW)]
        command += ["--agent-endpoint", self.url, "--agent-bundle", self.bundle]
        with open(self.out, "wb") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        until("sonde up answers", self.answers, 20)
        return self


class Injecting(Containers):
    """A host for containers whose Sonde may put SDKs into them."""

    def __init__(self, directory: pathlib.Path):
        super().__init__(directory, "machine")
        self.sonde = Reachable(directory / "sonde", prefix=self.host.enter)

    def known(self, name: str, *more: str, **environment: str) -> str:
        """Starts a container that calls, and gives its key once it is known."""
        return self.key(self.run(name, *more, **environment))

    def key(self, pid: int, seconds: float = 30) -> str:
        """The key of the workload that a process is an instance of."""
        return self.sonde.service(pid, seconds)["sonde.workload.key"]

    def wish(self, key: str, level: str) -> None:
        """Sets the dial, and waits for nothing."""
        self.sonde.rows("services", "set", key, "--capture", level, "--wait", "0")

    def reached(self, key: str, level: str, state: str, word: str = "", seconds: float = 25):
        """The row, once it is in a state at a wished level that is said with a word."""

        def there():
            now = self.row(key)
            wanted = now["sonde.capture.desired"] == level
            done = wanted and now["sonde.capture.state"] == state
            return now if done and word in now["sonde.capture.reason"] else None

        try:
            return until(f"{key} is {state} at {level}", there, seconds, 0.5)
        except AssertionError:
            said = self.sonde.err.read_text()[-3000:]
            raise AssertionError(f"{self.row(key)}\n{said}\n{self.names()}") from None

    def set_level(self, key: str, level: str, state: str, word: str = "") -> dict:
        """Sets the dial, and waits for a state that is said with a word."""
        self.wish(key, level)
        return self.reached(key, level, state, word)

    def names(self) -> set[str]:
        """Names of all containers, running or not."""
        return set(self.host.docker("ps", "--all", "--format", "{{.Names}}").split())

    def environment(self, name: str) -> dict[str, str]:
        """The variables that a container is made with."""
        pairs = self.host.inspect(name)["Config"]["Env"]
        return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture(scope="module")
def host(kernel, tmp_path_factory):
    """A running engine, with Sonde beside it."""
    one = None
    try:
        one = Injecting(tmp_path_factory.mktemp("docker"))
        one.sonde.start()
        one.host.docker("network", "create", "--subnet", "10.77.0.0/24", "front")
        one.host.docker("network", "create", "back")
        yield one
        one.down()
    finally:
        if one is not None:
            one.host.down()


@pytest.fixture(autouse=True)
def alone(host):
    """Each test has the engine for itself."""
    yield
    left = host.host.docker("ps", "--all", "--quiet").split()
    if left:
        host.host.docker("rm", "--force", "--volumes", *left)


def specification(inspect: dict) -> dict:
    """All that a container was made from: what the engine says of it, without what each container
    has for itself. Written without a look at how Sonde does it."""
    own = {"Id", "Created", "State", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"}
    own |= {"GraphDriver", "ExecIDs"}
    said = {name: value for name, value in inspect.items() if name not in own}
    said = json.loads(json.dumps(said))
    short = inspect["Id"][:12]
    if said["Config"]["Hostname"] == short:
        del said["Config"]["Hostname"]
    # A volume without a name is mounted by the name that the engine gave it.
    unnamed = {
        f"{one['Name']}:{one['Destination']}"
        for one in said["Mounts"]
        if one["Type"] == "volume" and len(one["Name"]) == 64
    }
    binds = said["HostConfig"]["Binds"] or []
    binds = [bind for bind in binds if bind.removesuffix(":ro") not in unnamed]
    said["HostConfig"]["Binds"] = binds
    for one in said["Mounts"]:
        if f"{one.get('Name')}:{one['Destination']}" in unnamed:
            del one["Mode"]
    said["Mounts"].sort(key=lambda one: one["Destination"])
    networks = said.pop("NetworkSettings")["Networks"]
    passing = {"EndpointID"}
    said["Networks"] = {
        name: {
            field: [alias for alias in value or [] if alias != short]
            if field == "Aliases"
            else value or None
            for field, value in network.items()
            if field not in passing
        }
        for name, network in networks.items()
    }
    return said


# One of nearly everything that `docker run` knows.
FLAGS = [
    *("--network", "front", "--network-alias", "webby", "--ip", "10.77.0.9"),
    *("--mac-address", "02:42:aa:bb:cc:dd", "--hostname", "shop-1"),
    *("--volume", "/data", "--volume", "named:/named:ro", "--tmpfs", "/scratch:size=1m"),
    *("--mount", "type=bind,src=/etc,dst=/hostetc,readonly"),
    *("--ulimit", "nofile=512:1024", "--memory", "256m", "--shm-size", "32m"),
    *("--health-cmd", "true", "--health-interval", "1s", "--stop-timeout", "3"),
    *("--label", "team=search", "--restart", "on-failure:3", "--log-opt", "max-size=1m"),
    *("--init", "--stop-signal", "SIGINT", "--workdir", "/srv/work"),
    *("--add-host", "shop.test:192.0.2.7", "--cap-add", "NET_ADMIN", "--user", "1000:1000"),
    *("--security-opt", "no-new-privileges", "--device", "/dev/null:/dev/xnull"),
    *("--sysctl", "net.core.somaxconn=512", "--publish", "127.0.0.1:7777:80"),
    *("--env", 'ODD=a "b" $c=%d\\', "--env", "EMPTY=", "--env", "PYTHONPATH=/srv/lib"),
]


def program(host: Injecting, name: str) -> int:
    """The machine's pid of the program of a container with an init of the engine's."""
    first = host.host.pid(name)
    children = pathlib.Path(f"/proc/{first}/task/{first}/children")
    return int(until("the program runs", lambda: children.read_text().split(), 10)[0])


def test_a_container_gets_the_agent_and_is_put_back_to_the_field(host):
    host.run("odd", *FLAGS)
    host.host.docker("network", "connect", "--alias", "backy", "back", "odd")
    host.host.docker("exec", "--user", "0", "odd", "sh", "-c", "echo kept >/data/file")
    key = host.key(program(host, "odd"))
    until("healthy", lambda: host.host.inspect("odd")["State"]["Health"]["Status"] == "healthy")
    before = host.host.inspect("odd")

    now = host.set_level(key, "full", "capturing")
    assert now["sonde.capture.observed"] == "full"
    assert {one["progress"] for one in now["sonde.agent"]["processes"]} <= {"loaded", "started"}
    with_it = host.host.inspect("odd")
    assert with_it["Id"] != before["Id"]
    assert with_it["Config"]["Labels"][LABEL] == before["Id"]
    assert host.names() == {"odd"}, "the first one went when the window was over"
    # Beside what is ours all is the same.
    one, other = specification(before), specification(with_it)
    pairs = dict(pair.split("=", 1) for pair in other["Config"]["Env"])
    ours, theirs = pairs["PYTHONPATH"].split(":")
    assert ours.endswith("/bootstrap") and theirs == "/srv/lib"
    own = dict(pair.split("=", 1) for pair in one["Config"]["Env"])
    assert {name: pairs[name] for name in own} | {"PYTHONPATH": "/srv/lib"} == own
    del other["Config"]["Labels"][LABEL]
    other["Config"]["Env"] = one["Config"]["Env"]
    bundle = ours.removesuffix("/bootstrap")
    other["HostConfig"]["Binds"].remove(f"{bundle}:{bundle}:ro")
    other["Mounts"] = [mount for mount in other["Mounts"] if mount["Destination"] != bundle]
    assert other == one
    # What is shown has the change, and no secret.
    shown = now["sonde.agent"]["change"]
    assert "+++ container odd" in shown and "SONDE_AGENT_HEADERS=***" in shown
    token = (host.sonde.data / "agent.token").read_text().strip()
    assert token not in str(now)
    assert token not in host.sonde.err.read_text()

    now = host.set_level(key, "network", "capturing")
    assert "sonde.agent" not in now
    after = host.host.inspect("odd")
    assert specification(after) == specification(before)
    assert host.host.docker("exec", "odd", "cat", "/data/file") == "kept"
    assert host.names() == {"odd"}
    # And once more, from the one that was made anew.
    host.set_level(key, "full", "capturing")
    host.set_level(key, "network", "capturing")
    assert specification(host.host.inspect("odd")) == specification(before)
    assert host.host.docker("exec", "odd", "cat", "/data/file") == "kept"


# Flags of `run`, and where such a container finds the stand-in.
LAYOUTS = {
    "on-host": (["--network", "host", "--uts", "host"], "127.0.0.1"),
    "with-host-pids": (["--pid", "host", "--ipc", "host"], GATEWAY),
    "private-groups": (["--cgroupns", "private", "--cgroup-parent", "/batch"], GATEWAY),
    "limited": (
        ["--security-opt", "seccomp=unconfined", "--cpus", "1.5", "--pids-limit", "200"],
        GATEWAY,
    ),
    "read-only": (["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"], GATEWAY),
    "with-terminal": (["--tty", "--interactive", "--workdir", "/srv/new"], GATEWAY),
    "with-ports": (
        ["--publish", "80", "--publish", "127.0.0.1::90/udp", "--expose", "7"],
        GATEWAY,
    ),
    "with-names": (["--hostname", "db", "--domainname", "x.test", "--dns", "192.0.2.1"], GATEWAY),
    "in-two": (["--network", "front", "--link-local-ip", "169.254.7.7"], GATEWAY),
    "from-others": (["--volumes-from", "on-host:ro", "--group-add", "video"], GATEWAY),
    "of-an-image": (["--no-healthcheck"], GATEWAY),
    "quiet-log": (["--log-driver", "none", "--memory-swappiness", "7"], GATEWAY),
}


def test_no_layout_of_a_container_is_lost(host):
    """All of them at once, each with volumes of its own."""
    # An image with all that one may say.
    host.host.docker("create", "--name", "template", PYTHON, "true")
    changes = (
        'ENTRYPOINT ["/usr/bin/env"]',
        'CMD ["python3", "/srv/app/caller.py"]',
        "VOLUME /var/lib/shop",
        "ENV PYTHONPATH=/srv/of/image",
        "EXPOSE 8080",
        "LABEL of=image",
        "HEALTHCHECK --interval=1s CMD true",
        "USER 1000",
    )
    said = [part for change in changes for part in ("--change", change)]
    host.host.docker("commit", *said, "template", "sonde.test/shop:1")
    host.host.docker("rm", "template")
    pids = {}
    for name, (flags, at) in LAYOUTS.items():
        image = [PYTHON, "python3", "/srv/app/caller.py"]
        if name == "of-an-image":
            image = ["sonde.test/shop:1"]
        own = ["--volume", "/data", "--volume", f"{name}:/named"]
        host.host.docker("run", *host.flags(name, at), *own, *flags, *image)
        pids[name] = host.host.pid(name)
    # The name of the image leads to another one by now.
    host.host.docker("tag", PYTHON, "sonde.test/shop:1")
    keys = {name: host.key(pid) for name, pid in pids.items()}
    before = {name: host.host.inspect(name) for name in LAYOUTS}
    for level, state in (("full", "capturing"), ("off", "discovered")):
        for key in keys.values():
            host.wish(key, level)
        for name, key in keys.items():
            now = host.reached(key, level, state, seconds=60)
            assert now["sonde.capture.observed"] == level, name
            now = host.host.inspect(name)
            assert now["Image"] == before[name]["Image"], name
    for name, one in before.items():
        now, one = specification(host.host.inspect(name)), specification(one)
        for side in (now, one):
            # The engine chooses these at each start.
            for network in side["Networks"].values():
                for chosen in ("IPAddress", "MacAddress"):
                    del network[chosen]
        if name == "of-an-image":
            now["Config"]["Image"] = one["Config"]["Image"]
        assert now == one, name
    assert host.names() == set(LAYOUTS)


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


def test_replicas_of_compose_are_changed_and_put_back_together(host):
    labels = ["--label", "com.docker.compose.project=shop"]
    labels += ["--label", "com.docker.compose.service=web"]
    names = ("shop-web-1", "shop-web-2")
    for name in names:
        key = host.known(name, *labels)
    before = {name: host.host.inspect(name) for name in names}
    dry = host.sonde.cli("services", "enable", key, "--full", "--dry-run").stdout
    assert "# compose.sonde.yaml" in dry and "Compose leaves" in dry, dry
    host.set_level(key, "full", "capturing")
    # What Compose has to be given is at hand, with the token, for its owner alone.
    (laid,) = host.sonde.data.glob("**/compose-shop-web.yaml")
    assert str(laid) in dry and laid.stat().st_mode & 0o777 == 0o600
    token = (host.sonde.data / "agent.token").read_text().strip()
    assert token in laid.read_text() and token not in dry
    for name in names:
        labels = host.host.inspect(name)["Config"]["Labels"]
        assert labels[LABEL] == before[name]["Id"]
        assert labels["com.docker.compose.service"] == "web"
    host.set_level(key, "off", "discovered")
    for name in names:
        assert specification(host.host.inspect(name)) == specification(before[name])
    assert host.names() == set(names)
    assert not laid.exists()


def test_what_others_changed_since_stays(host):
    key = host.known("tuned", "--memory", "256m")
    host.set_level(key, "full", "capturing")
    host.host.docker("update", "--memory", "128m", "--memory-swap", "256m", "tuned")
    host.host.docker("exec", "tuned", "sh", "-c", "echo kept >/srv/orders.db")
    ours = host.host.inspect("tuned")["Id"]
    host.set_level(key, "off", "discovered")
    after = host.host.inspect("tuned")
    assert after["HostConfig"]["Memory"] == 128 << 20
    assert LABEL not in after["Config"]["Labels"]
    assert "PYTHONPATH" not in host.environment("tuned")
    # What was written while it was there is not thrown away.
    kept = f"tuned.sonde-kept-{ours[:12]}"
    assert host.names() == {"tuned", kept}
    read = ("cp", f"{kept}:/srv/orders.db", "-")
    assert "kept" in host.host.docker(*read)
    assert kept in host.sonde.err.read_text()


def test_somebody_elses_hand_is_respected(host):
    key = host.known("handled")
    host.set_level(key, "full", "capturing")
    # A restart by hand is none against it.
    host.host.docker("restart", "--time", "1", "handled")
    host.reached(key, "full", "capturing")
    host.host.docker("stop", "--time", "1", "handled")
    host.reached(key, "full", "stopped")
    host.host.docker("rm", "handled")
    host.run("handled")
    host.reached(key, "full", "drifted")
    assert "PYTHONPATH" not in host.environment("handled")
    # Wished anew, it is put in anew.
    host.set_level(key, "network", "capturing")
    host.set_level(key, "full", "capturing")
    # One that somebody stopped is put back, and not started.
    host.host.docker("stop", "--time", "1", "handled")
    host.wish(key, "off")
    until("it is put back", lambda: "PYTHONPATH" not in host.environment("handled"), 20)
    until("nothing is left", lambda: host.names() == {"handled"}, 20)
    assert not host.host.inspect("handled")["State"]["Running"]


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


def calling(host) -> str | None:
    """The key of the container that is called slow, once it is known."""
    keys = (row["sonde.workload.key"] for row in host.sonde.services())
    return next((key for key in keys if key.endswith("docker:slow")), None)


def test_a_sonde_that_leaves_puts_everything_back(host):
    key = host.known("left")
    before = host.host.inspect("left")
    host.set_level(key, "full", "capturing")
    assert host.sonde.stop() == 0
    done = host.sonde.cli("controller", "uninstall", "--restore")
    assert f"{key} is as it was before" in done.stdout
    assert specification(host.host.inspect("left")) == specification(before)
    assert host.names() == {"left"}
    host.sonde.start()
    # It is wished still, so it is put in again.
    host.reached(key, "full", "capturing")
    host.set_level(key, "off", "discovered")


def test_a_node_that_lost_its_notes_puts_a_container_back_to_the_field(host):
    host.run("odd", *FLAGS)
    host.host.docker("network", "connect", "--alias", "backy", "back", "odd")
    key = host.key(program(host, "odd"))
    until("healthy", lambda: host.host.inspect("odd")["State"]["Health"]["Status"] == "healthy")
    before = host.host.inspect("odd")
    now = host.set_level(key, "full", "capturing")
    shown = now["sonde.agent"]["before"]
    assert f"container odd was {before['Id']}" in shown["shown"]
    assert "PYTHONPATH was /srv/lib" in shown["shown"]
    assert "$c=%d" not in str(shown), "what was not touched is not told"
    notes = host.sonde.data / "controller"
    assert host.sonde.stop() == 0
    shutil.rmtree(notes)
    host.sonde.start()
    kept = notes / "injections.json"
    until("it is found", lambda: kept.exists() and '"docker":' in kept.read_text(), 30, 0.3)
    host.set_level(key, "off", "discovered")
    assert specification(host.host.inspect("odd")) == specification(before)
    assert host.names() == {"odd"}


@pytest.fixture
def api(host, tmp_path):
    """A stand-in that has each tool that is offered called once."""
    one = StandIn(tmp_path, f"0.0.0.0:{PORT}", prefix=host.host.enter, more=["--calls-tools"])
    yield one
    one.stop()


def test_runs_in_containers_are_trees_with_exact_tokens(host, api):
    """Unmodified programs of real frameworks, on a network of their own, side by side."""
    flags = [part for pair in variables().items() for part in ("--env", "=".join(pair))]
    flags += [part for at, to in places(api).values() for part in ("--volume", f"{at}:{to}:ro")]
    flags += ["--network", "front", "--add-host", f"api.openai.com:{GATEWAY}"]
    flags += ["--stop-timeout", "1"]
    for name, service in SERVICES.items():
        host.host.docker("run", "--detach", "--name", service, *flags, PYTHON, *command(name))
    keys = {
        name: host.key(host.host.pid(service), seconds=120) for name, service in SERVICES.items()
    }
    before = {service: host.host.inspect(service) for service in SERVICES.values()}
    for key in keys.values():
        host.wish(key, "full")
    for key in keys.values():
        host.reached(key, "full", "capturing", seconds=120)
    assert_whole(host.sonde, keys)
    for key in keys.values():
        host.reached(key, "full", "capturing", "spans arrive")
        host.wish(key, "off")
    for name, service in SERVICES.items():
        host.reached(keys[name], "off", "discovered", seconds=60)
        assert specification(host.host.inspect(service)) == specification(before[service])
    assert host.names() == set(SERVICES.values())


def test_a_container_of_podman_is_refused_with_why_and_the_lines_to_type(host):
    podman = host.host.call
    podman("podman", "load", "--input", str(IMAGE_ARCHIVE))
    flags = [*host.flags("in-podman", "127.0.0.1"), "--network", "host"]
    podman("podman", "run", *flags, PYTHON, "python3", "/srv/app/caller.py")
    service = None
    try:
        shown = ("podman", "inspect", "--format", "{{.Id}} {{.State.Pid}}", "in-podman")
        before = podman(*shown)
        key = host.key(int(before.split()[1]))
        enable = ("services", "enable", key, "--full", "--dry-run")
        dry = host.sonde.cli(*enable, check=False)
        assert dry.returncode == 1 and "No engine that Sonde may speak to" in dry.stderr, dry
        socket = "/run/podman/podman.sock"
        podman("mkdir", "-p", "/run/podman")
        serve = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
        service = subprocess.Popen([*host.host.enter, *serve], env=environment())
        until("it listens", lambda: host.host.run("test", "-S", socket).returncode == 0, 20)

        def refused() -> bool:
            dry = host.sonde.cli(*enable, check=False)
            lines = "--env 'PYTHONPATH=" in dry.stdout
            return lines and "Podman does not say all that container in-podman" in dry.stderr

        until("it is refused with why and with lines", refused, 20, 1)
        assert podman(*shown) == before
        assert podman("podman", "ps", "--all", "--format", "{{.Names}}") == "in-podman"
    finally:
        if service is not None:
            service.terminate()
            service.wait()
        podman("podman", "rm", "--force", "--time", "1", "in-podman")


# Flags that Podman 4.3 takes, and does not say again: what Sonde says to those who ask why.
UNSAID = {
    "masked": ["--security-opt", "mask=/etc/passwd"],
    "unmasked": ["--security-opt", "unmask=/proc/acpi"],
    "processes": ["--security-opt", "proc-opts=hidepid=2"],
    "devices": ["--device-cgroup-rule", "c 1:3 r"],
    "secret": ["--secret", "word,type=env,target=WORD"],
    "overlay": ["--volume", "/srv:/srv:O"],
    "hosts": ["--no-hosts"],
    "user": ["--hostuser", "nobody"],
    "personality": ["--personality", "LINUX32"],
}


def test_podman_does_not_say_all_that_a_container_was_made_with(host):
    """Once it does, a comparison could prove that nothing is lost."""
    podman = host.host.call
    podman("podman", "load", "--input", str(IMAGE_ARCHIVE))
    podman("podman", "secret", "create", "word", "/etc/hostname")

    def said(*flags: str) -> dict:
        """All that Podman itself says of a container, but for what each has for itself."""
        identity = podman("podman", "create", "--name", "unsaid", *flags, PYTHON, "true")
        (all_of_it,) = json.loads(podman("podman", "inspect", "unsaid"))
        podman("podman", "rm", "unsaid")
        # The command line; one that is made over the interface has none.
        assert all_of_it["Config"].pop("CreateCommand")
        all_of_it["Config"]["Env"].sort()
        own = ("Created", "State", "StaticDir", "GraphDriver")
        text = json.dumps({name: it for name, it in all_of_it.items() if name not in own})
        return json.loads(text.replace(identity, "ID").replace(identity[:12], "ID"))

    try:
        plain = said()
        assert said("--umask", "0077") != plain, "what is said makes a difference"
        for name, flags in UNSAID.items():
            assert said(*flags) == plain, name
    finally:
        podman("podman", "secret", "rm", "word")
