"""The control loop over what fails around it: the network, the clock, the disk; and over TLS."""

import contextlib
import datetime
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

import pytest

from apart import Proxy
from harness import KINDS, SONDE, until
from tls import Server, TlsFront

pytestmark = pytest.mark.kernel

FAKE_CLOCK = pathlib.Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketime.so.1")


def test_no_fault_of_the_network_loses_a_wish_or_a_call(captured):
    apart, program, key = captured
    level = "off"
    for fault in ("cut", "reset", "slow", "half-open"):
        apart.proxy.set(fault)
        level = "off" if level == "network" else "network"
        apart.wish(key, level)
        time.sleep(2)
        if fault == "half-open":
            # A connection of which nobody hears any more is given up.
            apart.proxy.set("cut")
        apart.proxy.set("good")
        until(f"in effect after {fault}", apart.observes(program, level), 60)
    apart.wish(key, "network", 20)
    apart.proxy.set("cut")
    _, answer = program.call(stream=True, output=77)
    time.sleep(1)
    apart.proxy.set("good")

    def ids():
        return [call.get("gen_ai.response.id") for call in apart.ask("calls")]

    until("the call of the time without a dashboard", lambda: answer["id"] in ids(), 60)
    assert ids().count(answer["id"]) == 1


@pytest.mark.parametrize("fault", ["duplicate", "reorder"])
def test_messages_that_come_twice_or_out_of_order_do_nothing_twice(captured, fault):
    apart, program, key = captured
    node = apart.status()["id"]
    apart.proxy.set(fault)
    steps, level = [], "off"
    for number in range(9):
        level = "off" if level == "network" else "network"
        apart.wish(key, level)
        body = {"instance": node, "change": "refresh", "reason": f"{fault} {number}"}
        steps.append(apart.api("POST", "steps", body)["id"])
        time.sleep(0.3)
    until("the last wish is in effect", apart.observes(program, level), 60)

    def ends() -> dict:
        return {row["id"]: row.get("end") for row in apart.api("GET", "steps")["steps"]}

    if fault == "duplicate":
        # A step that was lent in an answer that nobody heard is lent again after 75 seconds.
        apart.proxy.set("good")
    until("all steps have ended", lambda: all(ends()[one] for one in steps), 150, 0.5)
    assert set(ends().values()) <= {"done", "refused"}, ends()
    assert len(apart.begun_steps()) == len(set(apart.begun_steps())), "none was begun twice"
    _, answer = program.call(stream=False)

    def found() -> int:
        ids = [call.get("gen_ai.response.id") for call in apart.ask("calls")]
        return ids.count(answer["id"])

    until("its call arrives", found, 30)
    if fault == "duplicate":
        assert apart.proxy.sent_twice > 10, "the fault was there"
    time.sleep(1)
    assert found() == 1, "a call is one call"
    # It does not go on for ever: what is said again and again is a loop.
    apart.proxy.set("good")
    generation = until("it polls", lambda: apart.status()["poll"]["generation"], 20)
    time.sleep(3)
    assert apart.status()["poll"]["generation"] == generation


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("who", ["controller", "dashboard"])
def test_a_clock_that_is_an_hour_off_changes_nothing(kernel, apart, client, who, hours):
    """The node's or the dashboard's clock, as programs read it; the kernel's monotonic one is
    right, as it is on a machine whose time was set wrongly."""
    assert FAKE_CLOCK.exists(), "`./dev test` installs libfaketime"
    apart.environment[who] = {
        "LD_PRELOAD": str(FAKE_CLOCK),
        "FAKETIME": f"{hours:+d}h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    apart.join()
    said = apart.api("GET", "status")["time"] if who == "dashboard" else apart.log(who)
    said = re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", said).group()
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    off = datetime.datetime.fromisoformat(said) - now
    assert abs(off.total_seconds() - hours * 3600) < 600, f"{who} takes it for {said}"
    program = client_of(client)
    key = until("discovered", lambda: apart.row(program.pid), 20)["sonde.workload.key"]
    for level in ("network", "off", "network"):
        apart.wish(key, level)
        until(f"{level} is in effect", apart.observes(program, level), 20)
    made = apart.api(
        "POST", "steps", {"instance": apart.status()["id"], "change": "refresh", "reason": "clock"}
    )

    def end() -> str | None:
        rows = apart.api("GET", "steps")["steps"]
        return next(row.get("end") for row in rows if row["id"] == made["id"])

    assert until("the step has ended", end, 20) == "done"
    _, answer = program.call(stream=False)
    until(
        "its call is listed",
        lambda: answer["id"] in [call.get("gen_ai.response.id") for call in apart.ask("calls")],
        20,
    )
    # Over a restart of either with the clock right again.
    apart.environment.clear()
    apart.kill(who)
    apart.start(who)
    until("the dashboard answers", apart.is_up, 20)
    apart.wish(key, "off")
    until("off after the clock was set", apart.observes(program, "off"), 40)


def client_of(client):
    """A client that made its first call."""
    program = client(KINDS[0])
    program.call(stream=False)
    return program


@contextlib.contextmanager
def full(place: pathlib.Path):
    """A directory has no room while this lasts."""
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(b"\0" * 65536)
    yield
    filler.unlink()


@contextlib.contextmanager
def small_disk(place: pathlib.Path, size: str = "24m"):
    """A directory on a file system of its own."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(place)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("who", ["controller", "dashboard"])
def test_a_full_disk_on_either_side_loses_no_acknowledged_wish(kernel, apart, client, who):
    with small_disk(apart.data[who]):
        apart.join()
        program = client_of(client)
        key = until("discovered", lambda: apart.row(program.pid), 20)["sonde.workload.key"]
        apart.wish(key, "network", 20)
        until("in effect", apart.observes(program, "network"), 20)
        with full(apart.data[who]):
            path = f"services/{key.replace('/', '%2F')}/capture"
            taken = apart.tries("PUT", path, {"level": "off"})
            # The dashboard says that it could not keep it; the controller obeys without a disk.
            last = "off" if taken else "network"
            if who == "controller":
                assert taken
                until("in effect with a full disk", apart.observes(program, "off"), 20)
                apart.wish(key, "network")
                last = "network"
                until("and the next one", apart.observes(program, last), 20)
            assert program.call(stream=False)[0]["ok"]
            assert apart.running[who].poll() is None, apart.log(who)
            assert "o space left" in apart.log(who) or "full" in apart.log(who), apart.log(who)
        until("what was acknowledged holds", apart.observes(program, last), 20)
        # And over a crash of the side whose disk was full.
        apart.kill(who)
        apart.start(who)
        until("the dashboard answers", apart.is_up, 20)
        until("it holds after a crash, too", apart.observes(program, last), 40)
        apart.wish(key, "off", 20)
        until("the next wish is obeyed", apart.observes(program, "off"), 20)
        apart.stop()
        apart.running.clear()


class ConnectProxy(Server):
    """A proxy of HTTPS: CONNECT, and then bytes; names lead to one place."""

    def __init__(self, target: int):
        self.target = target
        self.asked: list[str] = []
        super().__init__()

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(4096)
            self.asked.append(head.decode("latin-1").split("\r\n")[0])
            if not head.startswith(b"CONNECT "):
                near.sendall(b"HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n")
                near.close()
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            passing = Proxy.__new__(Proxy)
            passing.how, passing.open = "good", {near, far}
            threading.Thread(target=passing._pass, args=(near, far), daemon=True).start()
            passing._pass(far, near)


@pytest.fixture
def over_tls(apart, certificates):
    """Runs a controller that reaches the dashboard over TLS, and gives what it says."""
    apart.dashboard_flags = ["--allowed-host", "dashboard.test"]
    apart.start("dashboard")
    fronts = []

    def run(*flags: str, url: str = "", mutual: bool = False, **environment: str):
        front = TlsFront(certificates, apart.port, mutual)
        fronts.append(front)
        place = apart.directory / f"node-{len(fronts)}"
        apart.data["controller"] = place
        command = [SONDE, "controller", "--data-dir", place, "--token", apart.token()]
        command += ["--dashboard", url or f"https://127.0.0.1:{front.port}", "--ebpf", "false"]
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        with open(apart.directory / "controller.log", "ab") as log:
            apart.running["controller"] = subprocess.Popen(
                [str(part) for part in [*command, *flags]],
                stdout=log,
                stderr=log,
                env=kept | environment,
            )

        def status() -> dict:
            rows = apart.ask("controller", "status", at=place.name)
            return rows[0] if rows else {}

        return front, status

    yield run
    for front in fronts:
        front.stop()


def joined(status) -> None:
    """Waits until a controller is in."""
    until("joined over TLS", lambda: status().get("identity") == "joined", 20)


def refused(status) -> str:
    """Waits until a controller says why it is not in."""
    return until("it says why", lambda: (status().get("poll") or {}).get("trouble"), 20)


def test_the_dashboards_certificate_is_checked_and_an_own_authority_is_trusted(
    over_tls, certificates, apart
):
    front, status = over_tls()
    assert "certificate" in refused(status).lower()
    assert front.handshakes == 0, "nothing was said to whom nobody knows"
    apart.kill("controller")
    _front, status = over_tls("--ca-file", str(certificates / "ca.pem"))
    joined(status)


def test_a_node_shows_its_certificate_where_one_is_wanted(over_tls, certificates, apart):
    trust = ["--ca-file", str(certificates / "ca.pem")]

    def of(name: str) -> list[str]:
        pair = ("--client-cert", f"{name}.pem"), ("--client-key", f"{name}.key")
        return [text for flag, file in pair for text in (flag, str(certificates / file))]

    front, status = over_tls(*trust, *of("node-1"), mutual=True)
    joined(status)
    assert set(front.shown) == {"node-1"}
    apart.kill("controller")
    for flags in ([], of("stranger")):
        front, status = over_tls(*trust, *flags, mutual=True)
        assert refused(status)
        assert front.handshakes == 0 or not front.shown
        assert status()["identity"] != "joined"
        apart.kill("controller")


def test_tls_goes_through_a_proxy_as_the_environment_says(over_tls, certificates, apart):
    trust = ["--ca-file", str(certificates / "ca.pem")]
    front = TlsFront(certificates, apart.port)
    proxy = ConnectProxy(front.port)
    try:
        through = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"}
        _, status = over_tls(*trust, url="https://dashboard.test", **through)
        joined(status)
        assert set(proxy.asked) == {"CONNECT dashboard.test:443 HTTP/1.1"}
        assert front.handshakes > 0
        apart.kill("controller")
        proxy.asked.clear()
        around = through | {"NO_PROXY": ".test"}
        _, status = over_tls(*trust, url="https://dashboard.test", **around)
        assert refused(status)
        assert not proxy.asked, "it was left out"
        apart.kill("controller")
        # The proxy does not make a certificate good.
        _, status = over_tls(url="https://dashboard.test", **through)
        assert "certificate" in refused(status).lower()
    finally:
        proxy.stop()
        front.stop()


@pytest.mark.kernel
def test_proxies_are_used_and_left_out_as_the_environment_says(apart):
    """`HTTP_PROXY` and `NO_PROXY`, with a proxy that notes what it is asked."""
    proxy = socket.create_server(("127.0.0.1", 0))
    port = proxy.getsockname()[1]
    asked: list[str] = []

    def answer() -> None:
        while True:
            try:
                near, _ = proxy.accept()
            except OSError:
                return
            with near:
                asked.append(near.recv(4096).decode(errors="replace").split("\r\n")[0])
                near.sendall(b"HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    table = [
        ("sonde.example.com", "", True),
        ("sonde.example.com", "other.example.com,.example.com", False),
        ("10.77.1.2", "10.77.0.0/16", False),
        ("10.78.1.2", "10.77.0.0/16", True),
    ]
    for host, exceptions, is_used in table:
        asked.clear()
        environment = os.environ | {
            "HTTP_PROXY": f"http://127.0.0.1:{port}",
            "NO_PROXY": exceptions,
        }
        command = [SONDE, "controller", "--dashboard", f"http://{host}:9", "--token", "t"]
        command += ["--data-dir", apart.directory / host, "--ebpf", "false"]
        with open(apart.directory / "proxied.log", "ab") as log:
            one = subprocess.Popen(
                [str(part) for part in command], env=environment, stdout=log, stderr=log
            )
        try:
            if is_used:
                until(f"{host} through the proxy", lambda: asked, 15)
                assert host in asked[0], asked
            else:
                time.sleep(1.5)
                assert not asked, (host, exceptions, asked)
        finally:
            one.terminate()
            one.wait(timeout=20)
    proxy.close()
