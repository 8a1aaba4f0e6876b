"""A container is made anew with the SDK, and put back to the field, whatever it was made from and
whoever touched it since."""

import shutil

import pytest

from docker_host import GATEWAY, PYTHON
from docker_injection.injecting import FLAGS, LABEL, program, specification
from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]


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
