"""Containers of Podman are refused, because Podman does not say all that they were made with."""

import json
import subprocess

import pytest

from docker_host import IMAGE_ARCHIVE, PYTHON, environment
from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]


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
