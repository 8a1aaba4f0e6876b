"""Units of a real systemd: seen from the machine below it, and from a controller inside it."""

import json
import pathlib

import pytest

from callers import CALLER, assert_exact, assert_recovers, history
from harness import ask_socket, until
from systemd_machine import NAME
from systemd_units import Machine, SondeUnit

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def machine(kernel, stand_in, tmp_path_factory):
    """A running machine."""
    one = Machine(tmp_path_factory.mktemp("systemd") / "state", stand_in)
    try:
        yield one.up()
    finally:
        one.down()


@pytest.fixture(scope="module")
def agent(machine):
    """A service that calls, and its outer pid."""
    machine.unit("agent.service", machine.service())
    return machine.start("agent.service")


def place(row: dict) -> str:
    """The key without the scope of the host."""
    return row["sonde.workload.key"].split("/", 1)[1]


def test_a_service_is_its_unit_and_is_captured(sonde, machine, agent):
    row = sonde.service(agent, 20)
    assert row["sonde.platform"] == "systemd"
    assert place(row) == "systemd:agent.service"
    assert row["service.name"] == "agent"
    assert row["systemd.unit"] == "agent.service"
    for call in assert_exact(sonde, row["sonde.workload.key"], machine.stand_in):
        assert call["process.pid"] == agent


def test_a_restart_of_the_unit_keeps_key_and_wish(sonde, machine, agent):
    key = sonde.service(agent)["sonde.workload.key"]
    machine.call("systemctl", "restart", "agent.service")
    again = machine.outer(machine.main_pid("agent.service"))
    assert again != agent
    row = sonde.service(again, 20)
    assert row["sonde.workload.key"] == key
    assert row["sonde.capture.desired"] == "network"
    assert_exact(sonde, key, machine.stand_in)
    assert len([r for r in sonde.services() if place(r) == "systemd:agent.service"]) == 1


def test_what_was_wanted_holds_after_every_restart_of_the_process(sonde, machine, agent):
    """By systemd at once, by hand, and by systemd after a crash, over and over."""
    key = sonde.service(machine.outer(machine.main_pid("agent.service")))["sonde.workload.key"]
    assert_exact(sonde, key, machine.stand_in)
    machine.unit("agent.service", machine.service("Restart=always", "RestartSec=200ms"))

    def restarted() -> set[int]:
        machine.call("systemctl", "restart", "agent.service")
        return {machine.outer(machine.main_pid("agent.service"))}

    def crashed() -> set[int]:
        before = machine.main_pid("agent.service")
        machine.call("systemctl", "kill", "--signal=KILL", "agent.service")
        until(
            "systemd has started it again",
            lambda: machine.main_pid("agent.service") not in (0, before),
            20,
        )
        return {machine.outer(machine.main_pid("agent.service"))}

    for act in (restarted, crashed, crashed):
        assert_recovers(sonde, key, machine.stand_in, act)


def test_instances_of_a_template_are_units_of_their_own(sonde, machine):
    machine.unit("worker@.service", machine.service("Slice=batch-night.slice"))
    rows = [sonde.service(machine.start(f"worker@{name}.service"), 20) for name in ("a", "b")]
    assert [place(row) for row in rows] == [
        "systemd:worker@a.service",
        "systemd:worker@b.service",
    ]


def test_the_processes_below_a_service_are_its_own(sonde, machine):
    # A service with groups of its own below its unit, as a service manager inside it has.
    shell = (
        "mkdir /sys/fs/cgroup/system.slice/nested.service/inner.workers && "
        "echo $$$$ >/sys/fs/cgroup/system.slice/nested.service/inner.workers/cgroup.procs && "
        f"exec /usr/bin/python3 {CALLER}"
    )
    text = machine.service("Delegate=yes").replace(
        f"ExecStart=/usr/bin/python3 {CALLER}", f"ExecStart=/bin/sh -c '{shell}'"
    )
    machine.unit("nested.service", text)
    row = sonde.service(machine.start("nested.service"), 20)
    assert place(row) == "systemd:nested.service"


def test_a_unit_of_a_user_is_not_the_users_manager(sonde, machine):
    machine.call("systemctl", "start", "user@0.service")
    pairs = [f"--setenv={key}={value}" for key, value in machine.environment.items()]
    as_user = ["env", "XDG_RUNTIME_DIR=/run/user/0"]
    command = ["systemd-run", "--user", "--unit=assistant", *pairs, "/usr/bin/python3", str(CALLER)]
    machine.call(*as_user, *command)
    show = ["systemctl", "--user", "show", "--property=MainPID", "--value", "assistant"]
    pid = int(machine.call(*as_user, *show))
    row = sonde.service(machine.outer(pid), 20)
    assert row["sonde.platform"] == "systemd"
    assert place(row).endswith("assistant.service")
    assert "user@0" not in place(row)
    assert row["service.name"] == "assistant"


def test_what_runs_in_a_scope_keeps_its_key(sonde, machine):
    def run() -> dict:
        pairs = [f"{key}={value}" for key, value in machine.environment.items()]
        scope = ["systemd-run", "--scope", "--quiet", "--unit=evening", "env", *pairs]
        shell = 'setsid "$@" >/dev/null 2>&1 & echo $!'
        command = ["sh", "-c", shell, "sh", *scope, "/usr/bin/python3", str(CALLER)]
        pid = int(machine.call(*command))
        group = pathlib.Path(f"/proc/{machine.outer(pid)}/cgroup")
        until("it is in its scope", lambda: "evening.scope" in group.read_text(), 10)
        return sonde.service(machine.outer(pid), 20)

    first = run()
    machine.call("systemctl", "stop", "evening.scope")
    second = run()
    machine.call("systemctl", "stop", "evening.scope")
    assert first["sonde.workload.key"] == second["sonde.workload.key"]
    assert "caller.py" in first["service.name"] or "evening" in first["service.name"]


def test_a_stopped_unit_is_shown_as_stopped(sonde, machine):
    machine.unit("evening-report.service", machine.service())
    key = sonde.service(machine.start("evening-report.service"), 20)["sonde.workload.key"]
    machine.call("systemctl", "stop", "evening-report.service")

    def row() -> dict:
        return next(row for row in sonde.services() if row["sonde.workload.key"] == key)

    until("no instance is left", lambda: row()["sonde.instances"] == [], 20)


def test_a_controller_in_a_pid_namespace_sees_its_own_pids(machine, agent):
    inside = SondeUnit(machine)
    inside.start()
    try:
        pid = machine.main_pid("agent.service")
        assert pid != machine.outer(pid)
        row = inside.service(pid, 20)
        assert place(row) == "systemd:agent.service"
        for call in assert_exact(inside, row["sonde.workload.key"], machine.stand_in):
            assert call["process.pid"] == pid
        # Nobody outside of its namespace is shown under a pid that is not one here.
        for other in inside.services():
            for one in other["sonde.instances"]:
                own = machine.outer(one["process.pid"])
                assert NAME in pathlib.Path(f"/proc/{own}/cgroup").read_text()
        # The controller is killed while its program calls, and again in the middle of steps.
        key = row["sonde.workload.key"]
        node = inside.cli("controller", "status", "--output", "json").stdout
        node = json.loads(node.splitlines()[0])["id"]

        def killed() -> set[int]:
            was = machine.main_pid("sonde.service")
            machine.call("systemctl", "kill", "--signal=KILL", "sonde.service")
            until("it is started", lambda: machine.main_pid("sonde.service") not in (0, was), 20)
            return {machine.main_pid("agent.service")}

        def killed_in_a_step() -> set[int]:
            body = {"instance": node, "change": "retry", "key": key, "reason": "a step"}
            ask_socket(inside.data / "sonde.sock", "POST", "steps", body)
            return killed()

        for act in (killed, killed_in_a_step, killed_in_a_step):
            assert_recovers(inside, key, machine.stand_in, act)
        steps = [one for one in history(inside, key) if one["kind"] == "step"]
        made = [one["step"] for one in steps if one["what"] == "made" and one["reason"] == "a step"]
        assert len(set(made)) == 2, steps
    finally:
        assert inside.stop() == 0, inside.err.read_text()
