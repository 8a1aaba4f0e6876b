"""Containers of a real Docker Engine and of Podman: found, named, counted and captured."""

import contextlib
import os
import pathlib
import signal

import pytest

from callers import CALLER, assert_exact, assert_recovers, caller_environment
from docker_host import GATEWAY, IMAGE_ARCHIVE, PYTHON, DockerHost
from harness import Sonde, StandIn, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]


class Containers:
    """A host for containers, with a stand-in and Sonde on it, as on any machine with Docker."""

    def __init__(self, directory: pathlib.Path, cgroups: str):
        self.host = DockerHost(directory / "host", cgroups)
        self.host.up()
        (directory / "stand-in").mkdir()
        self.stand_in = StandIn(directory / "stand-in", "0.0.0.0:443", prefix=self.host.enter)
        (directory / "sonde").mkdir()
        self.sonde = Sonde(directory / "sonde", prefix=self.host.enter)

    def flags(self, name: str, at: str = GATEWAY, **environment: str) -> list[str]:
        """Flags of `run` for a container that calls."""
        flags = ["--detach", "--name", name]
        # Read by everybody: in a user namespace the container's root is nobody on the host.
        flags += ["--volume", f"{CALLER.parent}:/srv/app:ro"]
        for key, value in caller_environment(self.stand_in, at, **environment).items():
            flags += ["--env", f"{key}={value}"]
        return flags

    def run(self, name: str, *more: str, at: str = GATEWAY, **environment: str) -> int:
        """Starts a container that calls, and gives the machine's pid of its first process."""
        command = [PYTHON, "python3", "/srv/app/caller.py"]
        self.host.docker("run", *self.flags(name, at, **environment), *more, *command)
        return self.host.pid(name)

    def row(self, key: str) -> dict:
        """The row of this workload."""
        return next(row for row in self.sonde.services() if row["sonde.workload.key"] == key)

    def down(self) -> None:
        """Ends all of it."""
        assert self.sonde.stop() == 0, self.sonde.err.read_text()
        self.stand_in.stop()


@contextlib.contextmanager
def containers_on(directory: pathlib.Path, cgroups: str):
    """Starts, and ends whatever of it was started."""
    one = None
    try:
        one = Containers(directory, cgroups)
        one.sonde.start()
        yield one
        one.down()
    finally:
        if one is not None:
            one.host.down()


@pytest.fixture(scope="module")
def containers(kernel, tmp_path_factory):
    """The machine's own layout of cgroups."""
    with containers_on(tmp_path_factory.mktemp("docker"), "machine") as one:
        yield one


def test_a_container_is_found_named_and_captured_to_the_digit(containers):
    pid = containers.run("plain", "--label", "team=search")
    row = containers.sonde.service(pid, 20)
    key = row["sonde.workload.key"]
    assert row["sonde.platform"] == "docker"
    assert key.split("/", 1)[1] == "docker:plain"
    assert row["service.name"] == "plain"
    assert row["sonde.providers"] == ["openai"]
    assert row["process.runtime.name"] == "cpython"
    assert row["process.runtime.version"].startswith("3.11")
    assert "libssl 3." in row["sonde.tls"]
    about = row | row["sonde.instances"][0]
    assert about["container.id"] == containers.host.inspect("plain")["Id"]
    assert about["container.name"] == "plain"
    for call in assert_exact(containers.sonde, key, containers.stand_in):
        assert call["process.pid"] == pid


def test_a_process_that_enters_a_container_belongs_to_it(containers):
    key = containers.sonde.service(containers.host.pid("plain"))["sonde.workload.key"]
    containers.host.docker("exec", "--detach", "plain", "python3", "/srv/app/caller.py")
    until("two instances", lambda: len(containers.row(key)["sonde.instances"]) == 2, 20)


def test_replicas_of_compose_are_one_workload_with_two_instances(containers):
    labels = ["--label", "com.docker.compose.project=shop"]
    labels += ["--label", "com.docker.compose.service=web"]
    pids = [
        containers.run(
            f"shop-web-{n}", *labels, "--label", f"com.docker.compose.container-number={n}"
        )
        for n in (1, 2)
    ]
    rows = [containers.sonde.service(pid, 20) for pid in pids]
    (key,) = {row["sonde.workload.key"] for row in rows}
    assert "docker:" in key and "shop" in key and "web" in key and "web-1" not in key
    row = until(
        "both replicas are instances",
        lambda: (r := containers.row(key)) and len(r["sonde.instances"]) == 2 and r,
        20,
    )
    assert {one["process.pid"] for one in row["sonde.instances"]} == set(pids)
    assert row["service.name"] == "shop-web"
    calls = assert_exact(containers.sonde, key, containers.stand_in, 6)
    assert {call["process.pid"] for call in calls} == set(pids)


# Flags of `run`, and where such a container finds the stand-in.
LAYOUTS = {
    "on-host-network": (["--network", "host"], "127.0.0.1"),
    "with-host-pids": (["--pid", "host"], GATEWAY),
    "private-groups": (["--cgroupns", "private"], GATEWAY),
    "trusted": (["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined"], GATEWAY),
    "other-parent": (["--cgroup-parent", "/batch"], GATEWAY),
    "under-init": (["--init", "--read-only", "--user", "1000:1000"], GATEWAY),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_layout_of_a_container_hides_it(containers, name):
    flags, at = LAYOUTS[name]
    first = containers.run(name, *flags, at=at)
    # Under an init of the engine's, the program is a child of the first process.
    children = f"/proc/{first}/task/{first}/children"
    pid = int(pathlib.Path(children).read_text().split()[0]) if "--init" in flags else first
    row = containers.sonde.service(pid, 20)
    assert row["sonde.platform"] == "docker"
    assert row["sonde.workload.key"].split("/", 1)[1] == f"docker:{name}"
    calls = assert_exact(containers.sonde, row["sonde.workload.key"], containers.stand_in)
    assert {call["process.pid"] for call in calls} == {pid}


def test_a_restart_and_a_new_container_of_the_name_keep_key_and_wish(containers):
    pid = containers.run("steady")
    key = containers.sonde.service(pid, 20)["sonde.workload.key"]
    assert_exact(containers.sonde, key, containers.stand_in)

    containers.host.docker("restart", "--time", "1", "steady")
    again = containers.host.pid("steady")
    assert again != pid
    assert containers.sonde.service(again, 20)["sonde.workload.key"] == key
    assert_exact(containers.sonde, key, containers.stand_in)

    containers.host.docker("rm", "--force", "steady")
    third = containers.run("steady", CALL_MODEL="gpt-4o-mini", EXTRA="another container")
    assert containers.sonde.service(third, 20)["sonde.workload.key"] == key
    assert_exact(containers.sonde, key, containers.stand_in)
    assert len([r for r in containers.sonde.services() if r["service.name"] == "steady"]) == 1


def test_what_was_wanted_holds_after_every_restart_of_the_container(containers):
    """By hand, by the engine after a crash, and as a new container of the name."""
    host, sonde = containers.host, containers.sonde
    pid = containers.run("loyal", "--restart", "always")
    key = sonde.service(pid, 20)["sonde.workload.key"]
    assert_exact(sonde, key, containers.stand_in)

    def restarted() -> set[int]:
        host.docker("restart", "--time", "1", "loyal")
        return {host.pid("loyal")}

    def crashed() -> set[int]:
        before = host.pid("loyal")
        os.kill(before, signal.SIGKILL)
        until("the engine has started it again", lambda: host.pid("loyal") not in (0, before), 30)
        return {host.pid("loyal")}

    def recreated() -> set[int]:
        host.docker("rm", "--force", "loyal")
        return {containers.run("loyal", EXTRA="another container")}

    for act in (restarted, crashed, recreated):
        assert_recovers(sonde, key, containers.stand_in, act)
    host.docker("rm", "--force", "loyal")


def test_what_was_wanted_holds_after_the_controller_is_killed(containers):
    host, sonde = containers.host, containers.sonde
    pid = containers.run("watched")
    key = sonde.service(pid, 20)["sonde.workload.key"]
    assert_exact(sonde, key, containers.stand_in)

    def killed() -> set[int]:
        sonde.process.kill()
        sonde.process.wait()
        sonde.start()
        return {pid}

    assert_recovers(sonde, key, containers.stand_in, killed)
    host.docker("rm", "--force", "watched")


def test_a_stopped_container_is_shown_as_stopped_and_keeps_its_key(containers):
    pid = containers.run("pausing")
    key = containers.sonde.service(pid, 20)["sonde.workload.key"]
    containers.host.docker("stop", "--time", "1", "pausing")
    until("no instance is left", lambda: containers.row(key)["sonde.instances"] == [], 20)
    row = containers.row(key)
    assert "process.pid" not in row
    assert row["service.name"] == "pausing"
    containers.host.docker("start", "pausing")
    again = containers.host.pid("pausing")
    assert containers.sonde.service(again, 20)["sonde.workload.key"] == key


def test_a_short_container_is_named_though_it_is_gone_when_it_is_looked_at(containers):
    containers.run("blink", "--rm", CALL_TIMES="1", CALL_EVERY="0")

    def row():
        rows = containers.sonde.services()
        return next((r for r in rows if r["sonde.workload.key"].endswith("docker:blink")), None)

    found = until("the container that ran for a moment", row, 20)
    assert found["sonde.providers"] == ["openai"]


def test_hostile_labels_and_arguments_are_text(containers):
    markup = "<script>alert(1)</script>"
    flags = ["--label", f"note={markup}\x1b[31m\x07", "--label", "long=" + "x" * 100_000]
    flags += ["--env", f"OTEL_SERVICE_NAME={markup}\x1b]0;title\x07"]
    pid = containers.run("hostile", *flags)
    row = containers.sonde.service(pid, 20)
    assert row["sonde.workload.key"].split("/", 1)[1] == "docker:hostile"
    text = str(row)
    assert "\\x1b" not in text and "\\x07" not in text
    assert len(text) < 20_000
    shown = containers.sonde.cli("services").stdout
    assert "\x1b" not in shown and "\x07" not in shown


def test_a_controller_that_starts_later_names_them_too(containers):
    before = {
        row["sonde.workload.key"]
        for row in containers.sonde.services()
        if row["sonde.platform"] == "docker" and row["sonde.instances"]
    }
    assert containers.sonde.stop() == 0
    containers.sonde.start()
    after = until(
        "all are back",
        lambda: (
            (
                found := {
                    row["sonde.workload.key"]
                    for row in containers.sonde.services()
                    if row["sonde.platform"] == "docker" and row["sonde.instances"]
                }
            )
            >= before
            and found
        ),
        20,
    )
    assert after == before


def test_a_container_carries_image_labels_and_engine(containers):
    pid = containers.host.pid("plain")
    row = containers.sonde.service(pid)
    about = row | row["sonde.instances"][0]
    assert about["container.image.name"].startswith("sonde.test/python")
    assert about["container.label.team"] == "search"
    assert about["container.runtime.name"] == "docker"


def test_a_container_that_forges_its_files_names_no_one_else(containers, tmp_path):
    # A file of the host, which the container's links point at and its own root does not have.
    secret = tmp_path / "venv" / "pyvenv.cfg"
    secret.parent.mkdir()
    secret.write_text("version = 9.9.9\n")
    os.chmod(tmp_path, 0o755)
    forge = (
        "import os, sys\n"
        "os.makedirs('/forged/bin')\n"
        "os.symlink('/usr/bin/python3', '/forged/bin/python3')\n"
        f"os.symlink('{secret}', '/forged/pyvenv.cfg')\n"
        f"os.symlink('/proc/1/root{secret}', '/forged/release')\n"
        "open('/etc/hosts', 'a').write('172.17.0.1 api.anthropic.com\\n')\n"
        "os.execv('/forged/bin/python3', ['/forged/bin/python3', '/srv/app/caller.py'])\n"
    )
    command = ["--pid", "host", PYTHON, "python3", "-c", forge]
    containers.host.docker("run", *containers.flags("forger"), *command)
    row = containers.sonde.service(containers.host.pid("forger"), 20)
    assert row["sonde.workload.key"].split("/", 1)[1] == "docker:forger"
    assert row["sonde.providers"] == ["openai"]
    assert "9.9.9" not in str(row)


def test_a_container_of_podman_is_named(containers):
    containers.host.call("podman", "load", "--input", str(IMAGE_ARCHIVE))
    # The host's network: Podman's own would need a bridge of its own for one test.
    flags = [*containers.flags("in-podman", "127.0.0.1"), "--network", "host"]
    containers.host.call("podman", "run", *flags, PYTHON, "python3", "/srv/app/caller.py")
    try:
        pid = int(
            containers.host.call("podman", "inspect", "--format", "{{.State.Pid}}", "in-podman")
        )
        row = containers.sonde.service(pid, 20)
        key = row["sonde.workload.key"]
        assert row["sonde.platform"] == "docker"
        about = row | row["sonde.instances"][0]
        assert about["container.id"].startswith(
            containers.host.call("podman", "inspect", "--format", "{{.Id}}", "in-podman")[:12]
        )
        assert about["container.runtime.name"] == "podman"
        assert row["service.name"] == "in-podman"
        assert_exact(containers.sonde, key, containers.stand_in)
    finally:
        containers.host.call("podman", "rm", "--force", "--time", "1", "in-podman")


def test_a_container_with_a_user_namespace_is_one_too(containers):
    containers.host.stop_engine()
    containers.host.start_engine("--userns-remap=default")
    pid = containers.run("remapped")
    uid = pathlib.Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[0]
    assert int(uid) >= 600_000
    assert containers.sonde.service(pid, 60)["sonde.platform"] == "docker"

    # The engine that was started again is found within seconds; a slow one is not waited for.
    def named():
        key = containers.sonde.service(pid)["sonde.workload.key"]
        return key if key.split("/", 1)[1] == "docker:remapped" else None

    key = until("the engine that was started again names it", named, 60)
    assert_exact(containers.sonde, key, containers.stand_in)


def test_with_cgroups_of_version_2_alone_a_container_is_the_same(kernel, tmp_path):
    with containers_on(tmp_path, "unified") as containers:
        # Private namespaces of groups are the rule here: inside, the path is `0::/`.
        pid = containers.run("modern")
        assert (
            containers.host.docker("exec", "modern", "tail", "-n1", "/proc/self/cgroup") == "0::/"
        )
        row = containers.sonde.service(pid, 20)
        assert row["sonde.workload.key"].split("/", 1)[1] == "docker:modern"
        assert_exact(containers.sonde, row["sonde.workload.key"], containers.stand_in)
