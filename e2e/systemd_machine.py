"""A machine of its own whose first process is systemd: the machine's root as an overlay, in
namespaces for mounts, pids, cgroups, the host name and IPC; the network is the machine's.

Its processes have two pids: one of the machine, and one inside. Cgroups are version 2 alone.
This directory, that of Sonde and `shared` are there under their own paths.
"""

import os
import pathlib
import shutil
import subprocess

import groups
from harness import HERE, SONDE, until

# Another name is for a run beside another one on the same machine.
NAME = os.environ.get("SONDE_SYSTEMD_MACHINE", "sonde-systemd")


class SystemdMachine:
    """The running machine."""

    def __init__(self, state: pathlib.Path):
        self.state = state
        self.shared = state / "shared"
        self.holder: subprocess.Popen | None = None

    @property
    def group(self) -> pathlib.Path:
        """Its group of version 2, whose inside it sees as the whole hierarchy."""
        return groups.unified() / NAME

    def up(self) -> "SystemdMachine":
        """Starts it, and waits until systemd has done its first work."""
        self.state.mkdir(parents=True)
        assert not self.group.exists(), (
            f"{self.group} is there: another run, or one that ended badly"
        )
        self.group.mkdir()
        spaces = ["--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc"]
        command = ["unshare", *spaces, "--kill-child", "--propagation", "private", "--", "bash"]
        command += [str(HERE / "systemd" / "init"), str(self.state), str(SONDE.parent), str(HERE)]
        with open(self.state / "init.log", "wb") as log:
            self.holder = subprocess.Popen(
                groups.inside(self.group, command), stdout=log, stderr=log, start_new_session=True
            )
        until("systemd has started", self._is_up, 60, 0.2)
        return self

    def _is_up(self) -> bool:
        assert self.holder.poll() is None, (self.state / "init.log").read_text()
        if not (self.state / "ready").exists():
            return False
        said = self.run("systemctl", "is-system-running").stdout.strip()
        return said in ("running", "degraded")

    @property
    def first(self) -> int:
        """The machine's pid of the first process."""
        children = pathlib.Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        return int(children.read_text().split()[0])

    @property
    def enter(self) -> list[str]:
        """What makes a command run inside, as a child of this process."""
        spaces = ["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--root", "--wd"]
        return ["nsenter", "--target", str(self.first), *spaces, "--"]

    def run(self, *command: str, **more) -> subprocess.CompletedProcess:
        """Runs a command inside, and says how it ended."""
        more = {"capture_output": True, "text": True, "timeout": 60} | more
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        inside = groups.inside(self.group, [*self.enter, *command])
        return subprocess.run(inside, env=environment, **more)

    def call(self, *command: str) -> str:
        """Runs a command that must succeed, and returns what it printed."""
        ended = self.run(*command)
        assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"
        return ended.stdout.strip()

    def unit(self, name: str, text: str) -> None:
        """Writes a unit's file, and has systemd read it."""
        written = self.run("tee", f"/etc/systemd/system/{name}", input=text)
        assert written.returncode == 0, written.stderr
        self.call("systemctl", "daemon-reload")

    def main_pid(self, unit: str) -> int:
        """The pid inside of a unit's main process."""
        return int(self.call("systemctl", "show", "--property=MainPID", "--value", unit))

    def outer(self, pid: int) -> int:
        """The machine's pid of a process, given the one inside."""
        for group in self.group.rglob("cgroup.procs"):
            for outer in group.read_text().split():
                status = pathlib.Path(f"/proc/{outer}/status").read_text().splitlines()
                pids = next(line.split()[1:] for line in status if line.startswith("NSpid:"))
                if pids[-1] == str(pid) and len(pids) > 1:
                    return int(outer)
        raise AssertionError(f"no process has the pid {pid} inside")

    def down(self) -> None:
        """Ends all of it; nothing is left."""
        if self.holder is None:
            # The group that kept it from starting is another run's.
            return
        groups.remove(self.group)
        self.holder.wait(timeout=20)
        until(f"{self.state} is removed", self._is_gone, 30, 0.2)

    def _is_gone(self) -> bool:
        shutil.rmtree(self.state, ignore_errors=True)
        return not self.state.exists()
