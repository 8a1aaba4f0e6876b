"""A host for containers: Docker Engine and Podman of Debian, in namespaces of their own.

The engines have their usual paths (`/run/docker.sock`, `/var/lib/docker`), in namespaces for
mounts, network and host name; pids and cgroups are the machine's. A Docker of the machine itself is
not touched, and nothing is pulled: `e2e/kubernetes/cluster` makes the image from Debian.
"""

import json
import os
import pathlib
import shutil
import subprocess

import groups
from harness import HERE, until

CACHE = pathlib.Path(
    os.environ.get("SONDE_CACHE")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "sonde"
)
# Debian's packages of the engines, unpacked by `./dev`.
PACKAGES = CACHE / "engines"
# Debian 12 with its Python, as an archive that engines load.
IMAGE_ARCHIVE = CACHE / "kubernetes" / "images" / "python.tar"
PYTHON = "sonde.test/python:1"
# The host as containers of Docker's usual network reach it.
GATEWAY = "172.17.0.1"


class DockerHost:
    """Namespaces with a running Docker Engine."""

    def __init__(self, state: pathlib.Path, cgroups: str = "machine"):
        """`cgroups` is `machine`, the machine's own layout, or `unified`, version 2 alone."""
        self.state = state
        self.cgroups = cgroups
        self.holder: subprocess.Popen | None = None
        self.engine: subprocess.Popen | None = None
        self.enter: list[str] = []
        self.before = self._groups_of_engines()

    @property
    def group(self) -> pathlib.Path:
        """The group of version 2 that the engine and its helpers are in."""
        return groups.unified() / f"sonde-docker-{self.cgroups}"

    def _groups_of_engines(self) -> set[pathlib.Path]:
        """Groups that engines make beside ours, for their containers."""
        names = ("docker", "libpod_parent", "batch")
        return {at / name for at in groups.hierarchies() for name in names if (at / name).is_dir()}

    def up(self) -> "DockerHost":
        """Makes the namespaces, and starts the engine."""
        assert (PACKAGES / "usr/sbin/dockerd").exists(), f"{PACKAGES} is missing; ./dev makes it"
        assert IMAGE_ARCHIVE.exists(), f"{IMAGE_ARCHIVE} is missing; ./dev makes it"
        self.state.mkdir(parents=True)
        assert not self.group.exists(), (
            f"{self.group} is there: another run, or one that ended badly"
        )
        self.group.mkdir()
        spaces = ["--mount", "--net", "--uts"] + ["--cgroup"] * (self.cgroups == "unified")
        command = ["unshare", *spaces, "--propagation", "private", "--", "bash"]
        command += [str(HERE / "docker" / "init"), str(self.state), str(PACKAGES), self.cgroups]
        with open(self.state / "init.log", "wb") as log:
            # Its group becomes the root of what a new namespace of groups shows.
            self.holder = subprocess.Popen(
                groups.inside(self.group, command), stdout=log, stderr=log, start_new_session=True
            )
        until("the namespaces are ready", self._is_ready, 20)
        self.enter = ["nsenter", "--target", str(self.holder.pid), *spaces, "--"]
        self.start_engine()
        return self

    def _is_ready(self) -> bool:
        assert self.holder.poll() is None, (self.state / "init.log").read_text()
        return (self.state / "ready").exists()

    def start_engine(self, *flags: str) -> None:
        """Starts the engine, and waits until it answers and has the image."""
        command = groups.inside(self.group, [*self.enter, "dockerd", *flags])
        with open(self.state / "dockerd.log", "ab") as log:
            self.engine = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment()
            )
        until("dockerd answers", self._answers, 60, 0.2)
        if PYTHON not in self.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"):
            self.docker("load", "--input", str(IMAGE_ARCHIVE))

    def _answers(self) -> bool:
        assert self.engine.poll() is None, (self.state / "dockerd.log").read_text()[-3000:]
        return self.run("docker", "version").returncode == 0

    def stop_engine(self) -> None:
        """Stops the engine and all of its containers."""
        running = self.docker("ps", "--quiet").split()
        if running:
            self.docker("kill", *running)
        self.engine.terminate()
        self.engine.wait(timeout=60)

    def run(self, *command: str, **more) -> subprocess.CompletedProcess:
        """Runs a command of the host, and says how it ended."""
        more = {"capture_output": True, "text": True, "timeout": 120} | more
        inside = groups.inside(self.group, [*self.enter, *command])
        return subprocess.run(inside, env=environment(), **more)

    def call(self, *command: str) -> str:
        """Runs a command that must succeed, and returns what it printed."""
        ended = self.run(*command)
        assert ended.returncode == 0, f"{' '.join(command)}: {ended.stderr}"
        return ended.stdout.strip()

    def docker(self, *arguments: str) -> str:
        """Calls Docker's client."""
        return self.call("docker", *arguments)

    def pid(self, container: str) -> int:
        """The machine's pid of a container's first process."""
        return int(self.docker("inspect", "--format", "{{.State.Pid}}", container))

    def inspect(self, container: str) -> dict:
        """What Docker says about a container."""
        return json.loads(self.docker("inspect", "--type", "container", container))[0]

    def down(self) -> None:
        """Ends all of it; nothing is left."""
        if self.engine is not None and self.engine.poll() is None:
            self.stop_engine()
        if self.holder is None:
            # The group that kept it from starting is another run's.
            return
        groups.remove(self.group)
        self.holder.wait(timeout=20)
        # Those of version 2 first, which can be killed: the same containers are in the others.
        ours = self._groups_of_engines() - self.before
        for group in sorted(ours, key=lambda group: group.parent != groups.unified()):
            groups.remove(group)
        # The mounts went with the namespaces; a moment may pass until the kernel has done so.
        until(f"{self.state} is removed", self._is_gone, 30, 0.2)

    def _is_gone(self) -> bool:
        shutil.rmtree(self.state, ignore_errors=True)
        return not self.state.exists()


def environment() -> dict[str, str]:
    """This environment, without what would lead a client elsewhere; of programs, Debian's alone."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("DOCKER_")
    }
    return kept | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
