"""The dial at Full for units of a real systemd: put in, seen to be in effect, and taken out to the
byte; rolled back where a unit does not stay well; refused where it must not be touched. One file,
because one machine with a systemd of its own is made for all of them."""

import json
import os
import random
import shutil
import urllib.parse
import urllib.request

import pytest

from agent import FRAMEWORKS, environment, venv
from framework_runs import SERVICES, assert_whole
from harness import StandIn, ask_socket, until
from systemd_units import Machine, SondeUnit

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

WINDOW = 2
# How often a unit is set to Full and back, with a kill in the middle of each; of units beside each
# other, one kill meets each at another step.
CYCLES = int(os.environ.get("SONDE_CYCLES", "100"))
UNITS = 20
# Where every unit can read it.
AGENTS = "/usr/lib/sonde/agents/cpython-"


@pytest.fixture(scope="module")
def machine(kernel, stand_in, tmp_path_factory):
    """A running machine."""
    one = Machine(tmp_path_factory.mktemp("systemd") / "state", stand_in)
    try:
        yield one.up()
    finally:
        one.down()


@pytest.fixture(scope="module")
def inside(machine):
    """A Sonde in the machine."""
    one = SondeUnit(machine)
    one.start("--agent-window", str(WINDOW), "--agent-environment", "staging")
    yield one
    assert one.stop() == 0, one.err.read_text()


def effective(machine, unit: str) -> dict[str, str]:
    """The environment that a unit's main process was started with."""
    text = machine.call("cat", f"/proc/{machine.main_pid(unit)}/environ")
    pairs = [pair.split("=", 1) for pair in text.split("\0") if "=" in pair]
    # What systemd says anew at each start.
    passing = ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")
    return {name: value for name, value in pairs if name not in passing}


def files(machine, unit: str) -> str:
    """All that belongs to a unit, to the byte, with modes."""
    look = f"cd /etc/systemd/system && find {unit}* -exec stat -c '%n %a %s' {{}} + "
    look += f"-o -true; find {unit}* -type f -exec sha256sum {{}} +"
    return machine.run("sh", "-c", look).stdout


def row(inside, key: str) -> dict:
    """The row of a service."""
    return next(row for row in inside.services() if row["sonde.workload.key"] == key)


def known(inside, machine, unit: str) -> str:
    """The key of a unit, once it is known."""
    machine.call("systemctl", "start", unit)
    return inside.service(machine.main_pid(unit), 30)["sonde.workload.key"]


def wish(inside, key: str, level: str) -> None:
    """Sets the dial, and waits for nothing."""
    inside.rows("services", "set", key, "--capture", level, "--wait", "0")


def reached(inside, key: str, level: str, state: str, word: str = "", seconds: float = 60) -> dict:
    """The row, once it is in a state at a wished level that is said with a word."""

    def there():
        now = row(inside, key)
        wanted = now["sonde.capture.desired"] == level and now["sonde.capture.state"] == state
        return now if wanted and word in now["sonde.capture.reason"] else None

    try:
        return until(f"{key} is {state} at {level}", there, seconds, 0.5)
    except AssertionError:
        raise AssertionError(f"{row(inside, key)}\n{inside.err.read_text()[-3000:]}") from None


def set_level(inside, key: str, level: str, state: str, word: str = "") -> dict:
    """Sets the dial, and waits for a state that is said with a word."""
    wish(inside, key, level)
    return reached(inside, key, level, state, word)


def test_a_unit_gets_the_agent_and_is_put_back_to_the_byte(machine, inside):
    odd = "Environment=PYTHONPATH=/srv/lib 'ODD=100%% \"of\" $HOME'"
    machine.unit("full.service", machine.service(odd, "User=nobody"))
    before = files(machine, "full.service")
    key = known(inside, machine, "full.service")
    own = effective(machine, "full.service")

    now = set_level(inside, key, "full", "capturing")
    assert now["sonde.capture.observed"] == "full"
    assert {one["progress"] for one in now["sonde.agent"]["processes"]} <= {"loaded", "started"}
    with_it = effective(machine, "full.service")
    ours, theirs = with_it["PYTHONPATH"].split(":", 1)
    assert ours.startswith(AGENTS) and ours.endswith("/bootstrap") and theirs == "/srv/lib"
    assert with_it["OTEL_SERVICE_NAME"] == "full"
    assert "sonde.workload.key=" in with_it["OTEL_RESOURCE_ATTRIBUTES"]
    assert "deployment.environment.name=staging" in with_it["OTEL_RESOURCE_ATTRIBUTES"]
    assert with_it["ODD"] == own["ODD"]
    mode = ["stat", "-c", "%a", "/etc/systemd/system/full.service.d/90-sonde.env"]
    assert machine.call(*mode) == "600"
    # What is shown has the change, and no secret.
    shown = now["sonde.agent"]["change"]
    assert "+PYTHONPATH=" in shown
    assert 'SONDE_AGENT_HEADERS="***"' in shown
    token = (inside.data / "agent.token").read_text().strip()
    assert token not in str(now)
    assert token not in inside.err.read_text()

    now = set_level(inside, key, "network", "capturing")
    assert "sonde.agent" not in now
    assert files(machine, "full.service") == before
    assert effective(machine, "full.service") == own
    assert machine.call("systemctl", "show", "--property=DropInPaths", "--value", "full") == ""


def test_a_unit_that_does_not_come_up_is_put_back_and_stays_so(machine, inside):
    # It fails wherever somebody else's directory is on the path of its modules.
    check = "/bin/sh -c 'test -z \"$PYTHONPATH\"'"
    machine.unit("brittle.service", machine.service(f"ExecStartPre={check}", "Restart=no"))
    before = files(machine, "brittle.service")
    key = known(inside, machine, "brittle.service")
    now = set_level(inside, key, "full", "unhealthy")
    assert "exit status" in now["sonde.capture.reason"]
    assert now["sonde.capture.observed"] == "network"
    assert files(machine, "brittle.service") == before
    assert machine.call("systemctl", "is-active", "brittle.service") == "active"
    pid = machine.main_pid("brittle.service")
    # Nothing is tried again by itself.
    until("it was looked at again", lambda: row(inside, key)["sonde.capture.state"], 5)
    assert machine.main_pid("brittle.service") == pid


def test_what_overrules_the_drop_in_is_noticed(machine, inside):
    machine.unit("ruled.service", machine.service())
    machine.call("mkdir", "-p", "/etc/systemd/system/ruled.service.d")
    rule = "[Service]\\nEnvironmentFile=\\n"
    machine.call("sh", "-c", f"printf '{rule}' >/etc/systemd/system/ruled.service.d/99-last.conf")
    machine.call("systemctl", "daemon-reload")
    before = files(machine, "ruled.service")
    key = known(inside, machine, "ruled.service")
    now = set_level(inside, key, "full", "unhealthy")
    assert "not in effect" in now["sonde.capture.reason"]
    assert files(machine, "ruled.service") == before


def test_somebody_elses_hand_is_respected(machine, inside):
    machine.unit("handled.service", machine.service())
    key = known(inside, machine, "handled.service")
    set_level(inside, key, "full", "capturing")
    machine.call("rm", "-r", "/etc/systemd/system/handled.service.d")
    machine.call("systemctl", "daemon-reload")
    machine.call("systemctl", "restart", "handled.service")

    def drifted():
        now = row(inside, key)
        return now if now["sonde.capture.state"] == "drifted" else None

    until("it is seen to be out", drifted, 40, 0.5)
    listing = machine.call("ls", "/etc/systemd/system")
    assert "handled.service.d" not in listing
    # Wished anew, it is put in anew.
    set_level(inside, key, "network", "capturing")
    set_level(inside, key, "full", "capturing")
    set_level(inside, key, "off", "discovered")


@pytest.mark.parametrize(
    ("name", "lines", "state", "word"),
    [
        ("isolated", {"run": "-I "}, "unsupported", "-I"),
        ("traced", {"line": "Environment=DD_TRACE_AGENT_URL=http://x"}, "conflict", "Datadog"),
        ("switched", {"line": "Environment=SONDE_DISABLED=1"}, "blocked", "SONDE_DISABLED"),
        ("unset", {"line": "UnsetEnvironment=PYTHONPATH"}, "unsupported", "UnsetEnvironment"),
        ("once", {"line": "Type=oneshot"}, "unsupported", "runs once"),
        ("hidden", {"line": "TemporaryFileSystem=/usr/lib/sonde"}, "unsupported", "cannot see"),
        ("alone", {"line": "[Unit]\nRefuseManualStop=yes"}, "unsupported", "RefuseManualStop"),
    ],
)
def test_what_must_not_be_touched_is_refused(machine, inside, name, lines, state, word):
    text = machine.service(*[lines[key] for key in lines if key == "line"])
    text = text.replace("/usr/bin/python3 ", f"/usr/bin/python3 {lines.get('run', '')}", 1)
    unit = f"{name}.service"
    machine.unit(unit, text)
    before = files(machine, unit)
    machine.call("systemctl", "start", "--no-block", unit)
    pid = until("it runs", lambda: machine.main_pid(unit), 10)
    key = inside.service(pid, 30)["sonde.workload.key"]
    set_level(inside, key, "full", state, word)
    assert files(machine, unit) == before
    assert machine.main_pid(unit) == pid
    set_level(inside, key, "off", "discovered")


@pytest.mark.timeout(600 + 10 * CYCLES)
def test_killed_at_any_moment_it_ends_as_wished(machine, inside):
    """Controller and dashboard are one process here, which dies at a random step of each wish: of
    several units at once, of which some are changed, some are watched, and some wait by then."""
    machine.unit("killed@.service", machine.service())
    units = [f"killed@{number}.service" for number in range(UNITS)]
    machine.call("systemctl", "start", *units)
    before = {unit: files(machine, unit) for unit in units}
    keys = {unit: known(inside, machine, unit) for unit in units}
    moments = random.Random(CYCLES)
    for turn in range(2 * CYCLES // UNITS):
        level, state = (("full", "capturing"), ("off", "discovered"))[turn % 2]
        for key in keys.values():
            place = f"services/{urllib.parse.quote(key, safe='')}/capture"
            ask_socket(inside.data / "sonde.sock", "PUT", place, {"level": level})
        moment = moments.uniform(0, 2 * WINDOW)
        machine.call("sleep", f"{moment:.2f}")
        pid = machine.main_pid("sonde.service")
        machine.call("kill", "-KILL", str(pid))
        # The kernel takes its probes down first; then the unit may start again by itself.
        until("it is dead", lambda p=pid: machine.main_pid("sonde.service") != p, 60)
        machine.run("systemctl", "reset-failed", "sonde.service")
        machine.call("systemctl", "start", "sonde.service")
        until("it answers again", inside.answers, 60, 0.3)
        # Two of three wishes are overtaken by the next one.
        if turn % 3 < 2:
            continue
        for unit, key in keys.items():
            now = reached(inside, key, level, state, seconds=120)
            assert now["sonde.capture.observed"] == level, (unit, turn, moment)
            has_it = "PYTHONPATH" in effective(machine, unit)
            assert has_it == (level == "full"), (unit, turn, moment)
            if level == "off":
                assert files(machine, unit) == before[unit], (unit, turn, moment)
    for key in keys.values():
        wish(inside, key, "off")
    for unit, key in keys.items():
        reached(inside, key, "off", "discovered", seconds=120)
        assert files(machine, unit) == before[unit]
        assert "PYTHONPATH" not in effective(machine, unit)
        assert state_of(machine, unit) == "active"
    machine.call("systemctl", "stop", *units)


def test_killed_in_the_middle_of_a_change_it_is_taken_back_and_made_again(machine, inside):
    hold = "ExecStartPre=/bin/sh -c 'while [ -e /run/held ]; do sleep 0.2; done'"
    machine.unit("held.service", machine.service(hold))
    before = files(machine, "held.service")
    key = known(inside, machine, "held.service")
    machine.call("touch", "/run/held")
    wish(inside, key, "full")
    drop_in = "/etc/systemd/system/held.service.d/90-sonde.conf"
    # The files are there, and the restart that belongs to them is not over: the middle of it.
    until("it is changed", lambda: machine.run("test", "-e", drop_in).returncode == 0, 60)
    states = ("activating", "deactivating")
    until("it is restarted", lambda: state_of(machine, "held.service") in states, 60)
    kept = json.loads((inside.data / "controller" / "injections.json").read_text())
    pid = machine.main_pid("sonde.service")
    machine.call("kill", "-KILL", str(pid))
    assert state_of(machine, "held.service") in states, "it was killed before that was over"
    assert "making" in json.dumps(kept)
    until("another runs", lambda: machine.main_pid("sonde.service") not in (0, pid), 60)
    machine.call("rm", "/run/held")
    until("it answers again", inside.answers, 60, 0.3)
    reached(inside, key, "full", "capturing", seconds=120)
    assert "PYTHONPATH" in effective(machine, "held.service")
    set_level(inside, key, "off", "discovered")
    assert files(machine, "held.service") == before


def state_of(machine, unit: str) -> str:
    """What systemd says of a unit, in one word."""
    return machine.run("systemctl", "is-active", unit).stdout.strip()


def test_what_full_changes_is_shown_before_it_is_done(machine, inside):
    machine.unit("shown.service", machine.service())
    before = files(machine, "shown.service")
    key = known(inside, machine, "shown.service")
    pid = machine.main_pid("shown.service")
    dry = inside.cli("services", "enable", key, "--full", "--dry-run").stdout
    for part in (
        "+++ /etc/systemd/system/shown.service.d/90-sonde.conf (mode 0644)",
        "+PYTHONPATH=",
        'SONDE_AGENT_HEADERS="***"',
        "Restart: shown.service is restarted once",
        "with glibc; nothing of the SDK is native",
        "systemctl daemon-reload",
    ):
        assert part in dry, dry
    assert (files(machine, "shown.service"), machine.main_pid("shown.service")) == (before, pid)

    now = inside.rows("services", "enable", key, "--full")[0]
    assert now["sonde.capture.observed"] == "full", now
    inside.rows("services", "disable", key)
    assert files(machine, "shown.service") == before


def test_a_sonde_that_leaves_puts_everything_back(machine, inside):
    machine.unit("left.service", machine.service())
    before = files(machine, "left.service")
    key = known(inside, machine, "left.service")
    set_level(inside, key, "full", "capturing")
    refused = inside.cli("controller", "uninstall", "--restore", check=False)
    assert refused.returncode != 0
    assert "stop it first" in refused.stderr
    assert inside.stop() == 0
    told = inside.cli("controller", "uninstall", check=False)
    assert told.returncode == 1
    assert "+PYTHONPATH=" in told.stdout
    done = inside.cli("controller", "uninstall", "--restore")
    assert f"{key} is as it was before" in done.stdout
    assert files(machine, "left.service") == before
    assert "PYTHONPATH" not in effective(machine, "left.service")
    assert inside.cli("controller", "uninstall").returncode == 0
    machine.call("systemctl", "start", "sonde.service")
    until("it answers again", inside.answers, 30, 0.3)
    set_level(inside, key, "off", "discovered")


def test_a_node_that_lost_its_notes_hears_from_the_dashboard_what_it_changed(machine, inside):
    machine.unit("lost.service", machine.service("Environment=PYTHONPATH=/srv/lib"))
    machine.unit("kept.service", machine.service())
    machine.call("mkdir", "/etc/systemd/system/kept.service.d")
    before = {unit: files(machine, unit) for unit in ("lost.service", "kept.service")}
    keys = {unit: known(inside, machine, unit) for unit in before}
    own = effective(machine, "lost.service")
    for unit, key in keys.items():
        now = set_level(inside, key, "full", "capturing")
        shown = now["sonde.agent"]["before"]["shown"]
        there = "was there" if unit == "kept.service" else "was not there"
        assert f"/etc/systemd/system/{unit}.d {there}\n" in shown, shown
        # The page and `explain` have the same; the way back has no secret in it.
        explained = inside.cli("services", "explain", key).stdout
        assert f"before: /etc/systemd/system/{unit}.d {there}" in explained, explained
        assert "sonde_" not in str(now["sonde.agent"]["before"])

    # All that the controller has on disk is gone.
    assert inside.stop() == 0
    notes = inside.data / "controller"
    assert "lost.service" in (notes / "injections.json").read_text()
    machine.call("sh", "-c", f"rm -rf {notes}/*")
    machine.call("systemctl", "start", "sonde.service")
    until("it answers again", inside.answers, 30, 0.3)

    def recovered():
        kept = notes / "injections.json"
        return kept.exists() and all(key in kept.read_text() for key in keys.values())

    until("it knows what it changed", recovered, 60)
    # What is wanted still is in effect still, without another restart.
    now = reached(inside, keys["kept.service"], "full", "capturing")
    assert now["sonde.agent"]["before"]["shown"]
    for unit, key in keys.items():
        set_level(inside, key, "off", "discovered")
        assert files(machine, unit) == before[unit]
    assert effective(machine, "lost.service") == own
    assert "PYTHONPATH" not in effective(machine, "kept.service")


@pytest.fixture(scope="module")
def api(machine, tmp_path_factory):
    """A stand-in that has each tool that is offered called once."""
    # Clients that do not wait keep the port that they asked for.
    listen = f"127.79.{os.getpid() % 250 + 1}.1:443"
    one = StandIn(tmp_path_factory.mktemp("tools"), listen, more=["--calls-tools"])
    shutil.copy(one.ca, machine.shared / "tools.pem")
    yield one
    one.stop()


def test_runs_of_units_are_trees_with_exact_tokens(machine, inside, api):
    """Unmodified programs of real frameworks, switched to full and back side by side."""
    told = environment(None, OPENAI_API_KEY="sk-stand-in", HOME="/root")
    resolve = api.environment()
    told |= {name: resolve[name] for name in ("STAND_IN_HOSTS", "PYTHONPATH")}
    told["SSL_CERT_FILE"] = str(machine.shared / "tools.pem")
    lines = [f"Environment='{name}={value}'" for name, value in told.items()]
    units = {name: f"{service}.service" for name, service in SERVICES.items()}
    for name, unit in units.items():
        start = f"ExecStart={venv('requirements') / 'python'} {FRAMEWORKS}/once.py {name}"
        machine.unit(unit, "\n".join(["[Service]", start, *lines, ""]))
        machine.call("systemctl", "start", unit)
    before = {unit: files(machine, unit) for unit in units.values()}
    own = {unit: effective(machine, unit) for unit in units.values()}
    keys = {
        name: inside.service(machine.main_pid(unit), 90)["sonde.workload.key"]
        for name, unit in units.items()
    }
    for key in keys.values():
        wish(inside, key, "full")
    for key in keys.values():
        reached(inside, key, "full", "capturing", seconds=120)
    assert_whole(inside, keys)
    for key in keys.values():
        reached(inside, key, "full", "capturing", "spans arrive")
        wish(inside, key, "off")
    for name, unit in units.items():
        reached(inside, keys[name], "off", "discovered")
        assert files(machine, unit) == before[unit]
        assert effective(machine, unit) == own[unit]
        machine.call("systemctl", "stop", unit)


class User:
    """A user with a systemd of their own, and a unit of it that calls."""

    ID = "1717"
    UNIT = "bot.service"

    def __init__(self, machine):
        self.machine = machine
        machine.call("useradd", "--create-home", "--uid", self.ID, "ann")
        lines = ["Type=notify", f"User={self.ID}", f"Slice=user-{self.ID}.slice", "Delegate=yes"]
        lines += [f"Environment=XDG_RUNTIME_DIR=/run/user/{self.ID}", "KillMode=mixed"]
        lines += [f"ExecStartPre=+/usr/bin/install -d -o ann -g ann -m 700 /run/user/{self.ID}"]
        lines += ["ExecStart=/lib/systemd/systemd --user"]
        machine.unit(f"user@{self.ID}.service", "\n".join(["[Service]", *lines, ""]))
        text = machine.service("Environment=PYTHONPATH=/srv/lib")
        where = f"/etc/systemd/user/{self.UNIT}"
        assert machine.run("tee", where, input=text).returncode == 0
        machine.call("systemctl", "start", f"user@{self.ID}.service")
        self.systemctl("start", "dbus.socket", self.UNIT)

    def run(self, *command: str) -> str:
        """Runs something as the user."""
        return self.machine.call(
            *["runuser", "-u", "ann", "--", "env", f"XDG_RUNTIME_DIR=/run/user/{self.ID}"], *command
        )

    def systemctl(self, *arguments: str) -> str:
        """Asks the user's systemd."""
        return self.run("systemctl", "--user", *arguments)

    @property
    def pid(self) -> int:
        return int(self.systemctl("show", "--property=MainPID", "--value", self.UNIT))

    @property
    def environment(self) -> dict[str, str]:
        """The environment that the unit's main process was started with."""
        text = self.machine.call("cat", f"/proc/{self.pid}/environ")
        pairs = [pair.split("=", 1) for pair in text.split("\0") if "=" in pair]
        passing = ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")
        return {name: value for name, value in pairs if name not in passing}

    @property
    def home(self) -> str:
        """All that is in the user's home."""
        return self.machine.call("find", "/home/ann", "-printf", "%p %M %u %l %s\n")


def test_a_unit_of_a_users_own_systemd_is_changed_as_that_user(machine, inside):
    user = User(machine)
    key = inside.service(user.pid, 30)["sonde.workload.key"]
    assert key.endswith(f"/systemd:user-{user.ID}/{user.UNIT}"), key
    before, own = user.home, user.environment
    assert ".config" not in before
    set_level(inside, key, "full", "capturing")
    theirs = user.environment
    assert theirs["PYTHONPATH"].startswith(AGENTS)
    assert theirs["PYTHONPATH"].endswith("/bootstrap:/srv/lib")
    place = f"/home/ann/.config/systemd/user/{user.UNIT}.d"
    stat = machine.call("stat", "-c", "%U %G %a", f"{place}/90-sonde.env", f"{place}/90-sonde.conf")
    assert stat.splitlines() == ["ann ann 600", "ann ann 644"]
    dry = inside.cli("services", "enable", key, "--full", "--dry-run").stdout
    assert f"+++ {place}/90-sonde.conf" in dry, dry
    set_level(inside, key, "network", "capturing")
    assert user.home == before
    assert user.environment == own

    # Nothing is written that the user could not write, wherever their paths lead.
    user.run("mkdir", "-p", "/home/ann/.config/systemd")
    user.run("ln", "-s", "/etc/systemd/system", "/home/ann/.config/systemd/user")
    before, etc = user.home, machine.call("ls", "-R", "/etc/systemd")
    now = set_level(inside, key, "full", "unhealthy")
    assert "Cannot write the files of bot.service" in now["sonde.capture.reason"]
    assert (user.home, user.environment) == (before, own)
    assert machine.call("ls", "-R", "/etc/systemd") == etc
    user.run("rm", "/home/ann/.config/systemd/user")

    # Where there is no bus, nobody can have it restarted.
    user.systemctl("stop", "dbus.socket", "dbus.service")
    machine.call("rm", "-f", f"/run/user/{user.ID}/bus")
    set_level(inside, key, "off", "discovered")
    pid = user.pid
    set_level(inside, key, "full", "unsupported", f"there is no bus at /run/user/{user.ID}/bus")
    assert user.pid == pid
    set_level(inside, key, "off", "discovered")


def test_a_frozen_fleet_changes_nothing(machine, inside):
    machine.unit("frozen.service", machine.service())
    before = files(machine, "frozen.service")
    key = known(inside, machine, "frozen.service")
    token = inside.cli("tokens", "create", "--kind", "api").stdout.strip()

    def freeze(settings: dict) -> None:
        body = json.dumps({"layer": "fleet", "name": "", "settings": settings}).encode()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        url = f"{inside.url}/api/v1/configuration"
        request = urllib.request.Request(url, body, headers, method="PUT")
        urllib.request.urlopen(request, timeout=10).close()

    freeze({"freeze": True})
    set_level(inside, key, "full", "blocked", "frozen")
    assert files(machine, "frozen.service") == before
    freeze({})
    set_level(inside, key, "full", "capturing")
    set_level(inside, key, "off", "discovered")
    assert files(machine, "frozen.service") == before
