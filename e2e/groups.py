"""Control groups, as the tests make and remove them."""

import os
import pathlib
import subprocess

from harness import until


def hierarchies(kinds: str = "cgroup,cgroup2") -> list[pathlib.Path]:
    """Where the hierarchies are mounted."""
    command = ["findmnt", "-rn", "-t", kinds, "-o", "TARGET"]
    return [pathlib.Path(one) for one in subprocess.check_output(command, text=True).split()]


def unified() -> pathlib.Path:
    """Where that of version 2 is mounted; every process has its place in it."""
    return hierarchies("cgroup2")[0]


def inside(group: pathlib.Path, command: list[str]) -> list[str]:
    """The command, as one that starts in a group of version 2."""
    shell = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'
    return ["sh", "-c", shell, "sh", str(group), *command]


def remove(group: pathlib.Path) -> None:
    """Kills all that is in a group and below, where version 2 can, and removes the groups."""
    if not group.is_dir():
        return
    if (group / "cgroup.kill").exists():
        (group / "cgroup.kill").write_text("1")
        events = group / "cgroup.events"
        until(f"{group} is empty", lambda: "populated 0" in events.read_text(), 60)
    for directory, _, _ in os.walk(group, topdown=False):
        until(f"{directory} is removed", lambda at=directory: _is_removed(at), 60)


def _is_removed(group: str) -> bool:
    """Removes one empty group; false while the kernel still takes its last process apart."""
    try:
        os.rmdir(group)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
