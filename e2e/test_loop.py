"""The control loop over all that fails: enrolment, wishes, kills, a bad network, an old copy.

The dashboard and the controller are two programs here, with a small TCP proxy between them that
does what networks do. `SONDE_LONG_RUN=1` makes the loops of kills a thousand rounds long.
"""

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import threading
import time

import pytest

from harness import KINDS, SONDE, free_port, until

ROUNDS = 1_000 if os.environ.get("SONDE_LONG_RUN") else 12


class Proxy:
    """Passes TCP on, and breaks it as it is told: cut, slow, reset, half-open."""

    def __init__(self, target: int):
        self.target = target
        self.how = "good"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, how: str) -> None:
        """From now on it does this, also to connections that are open."""
        self.how = how
        if how in ("cut", "reset"):
            for one in list(self.open):
                if how == "reset":
                    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                one.close()
                self.open.discard(one)

    def stop(self) -> None:
        """Ends it."""
        self.listener.close()
        self.set("cut")

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.how in ("cut", "reset"):
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            self.open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                while self.how == "half-open":
                    time.sleep(0.05)
                if self.how == "slow":
                    for start in range(0, len(data), 512):
                        other.sendall(data[start : start + 512])
                        time.sleep(0.02)
                else:
                    other.sendall(data)
        except OSError:
            pass
        for socket_ in (one, other):
            self.open.discard(socket_)
            # A close alone waits for the thread that reads from it, and nobody would be told.
            with contextlib.suppress(OSError):
                socket_.shutdown(socket.SHUT_RDWR)
            socket_.close()


class Apart:
    """A dashboard, and a controller that dials it through a proxy."""

    def __init__(self, directory):
        self.directory = directory
        self.data = {name: directory / name for name in ("dashboard", "controller")}
        self.port = free_port()
        self.proxy = Proxy(self.port)
        self.running: dict[str, subprocess.Popen] = {}
        self.flags: list[str] = []

    def start(self, name: str) -> None:
        """Starts one of the two."""
        flags = {
            "dashboard": ["--listen", f"127.0.0.1:{self.port}", "--otlp-grpc", "off"],
            "controller": ["--dashboard", f"http://127.0.0.1:{self.proxy.port}", *self.flags],
        }[name]
        if name == "dashboard":
            flags += ["--otlp-http", "off"]
        log = open(self.directory / f"{name}.log", "ab")
        command = [SONDE, name, "--data-dir", self.data[name], *flags]
        self.running[name] = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log
        )

    def kill(self, name: str) -> None:
        """Kills one of the two, as a crash does."""
        self.running[name].kill()
        self.running[name].wait()

    def ask(self, *arguments: str, at: str = "dashboard") -> list[dict]:
        """What a command says; nothing where it fails."""
        command = [SONDE, *arguments, "--output", "json", "--data-dir", self.directory / at]
        done = subprocess.run([str(p) for p in command], capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def token(self, *more: str) -> str:
        """A new join token."""

        def ask():
            return self.ask("tokens", "create", "--kind", "join", *more)

        return until("a token", ask, 20)[0]["token"]

    def join(self) -> None:
        """Starts both, and lets the controller join."""
        self.start("dashboard")
        self.flags = ["--token", self.token()]
        self.start("controller")
        until("joined", lambda: self.status().get("identity") == "joined", 20)

    def status(self) -> dict:
        """What the controller says of itself."""
        rows = self.ask("controller", "status", at="controller")
        return rows[0] if rows else {}

    def row(self, pid: int) -> dict | None:
        """The service of a process, as the dashboard has it."""
        rows = self.ask("services")
        return next((row for row in rows if row.get("process.pid") == pid), None)

    def wish(self, key: str, level: str, wait: int = 0) -> None:
        """Wishes a level of a service."""
        self.ask("services", "set", key, "--capture", level, "--wait", str(wait))

    def api(self, method: str, path: str, body: dict | None = None) -> dict:
        """Asks the dashboard through its socket, as its owner."""
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.data["dashboard"] / "sonde.sock"))
        headers = {"content-type": "application/json"}
        connection.request(method, f"/api/v1/{path}", json.dumps(body or {}), headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        assert answer.status == 200, said
        return said

    def log(self, name: str) -> str:
        """What one of the two logged."""
        return (self.directory / f"{name}.log").read_text()

    def stop(self) -> None:
        """Ends both, whatever became of them."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            process.wait(timeout=20)
        self.proxy.stop()


@pytest.fixture
def apart(binary, tmp_path):
    """Both, not started."""
    both = Apart(tmp_path)
    yield both
    both.stop()


@pytest.fixture
def captured(kernel, apart, client):
    """Both, joined, and a client that is known."""
    apart.join()
    program = client(KINDS[0])
    program.call(stream=False)
    key = until("discovered", lambda: apart.row(program.pid), 20)["sonde.workload.key"]
    return apart, program, key


def test_a_node_joins_once_and_comes_back_without_its_token(apart):
    apart.join()
    kept = apart.data["controller"] / "controller" / "credential.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    secret = json.loads(kept.read_text())["current"]
    assert secret.startswith("sonde_node_")
    assert secret not in apart.log("controller") + apart.log("dashboard")
    apart.kill("controller")
    apart.flags = []
    apart.start("controller")
    until("polls again", lambda: apart.status().get("poll", {}).get("protocol") == 2, 20)


def test_a_revoked_node_says_so_and_comes_back_when_it_is_let_in(apart):
    apart.join()
    node = apart.status()["id"]
    apart.api("POST", "instances/revoke", {"id": node})

    # The next report is refused.
    def trouble():
        return apart.status()["poll"]["trouble"]

    until("it says that it was revoked", lambda: "join" in (trouble() or ""), 60)
    assert apart.running["controller"].poll() is None, "and goes on with what was wanted"
    apart.api("POST", "instances/readmit", {"id": node})
    until("it is in again", lambda: trouble() is None, 60)


def test_each_step_ends_once_whoever_is_killed_in_between(apart):
    apart.join()
    node = apart.status()["id"]
    chance = random.Random(11)
    made = []
    for number in range(max(6, ROUNDS // 2)):
        change = ("refresh", "retry")[number % 2]
        body = {"instance": node, "change": change, "reason": f"round {number}"}
        made.append(apart.api("POST", "steps", body)["id"])
        time.sleep(chance.uniform(0, 0.2))
        who = ("controller", "dashboard")[number % 3 == 2]
        apart.kill(who)
        apart.start(who)
        until("the dashboard answers", lambda: apart.ask("services") is not None, 20)
        until("its socket is there", lambda: is_up(apart), 20)

    def ends() -> dict:
        try:
            rows = apart.api("GET", "steps")["steps"]
        except OSError:
            return {}
        return {row["id"]: row.get("end") for row in rows}

    # A step that was lent and not heard of is lent again after 75 seconds.
    until("all have ended", lambda: all(ends().get(one) for one in made), 120)
    # One that a newer one overtook is refused: the last wish wins.
    assert set(ends().values()) <= {"done", "interrupted", "refused"}, ends()
    assert ends()[made[-1]] in ("done", "interrupted")
    log = apart.data["controller"] / "controller" / "steps.log"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    begun = [line["id"] for line in lines if line["phase"] == "running"]
    assert len(begun) == len(set(begun)), "none was begun twice"
    assert {line["why"] for line in lines} <= {f"round {number}" for number in range(len(made))}


def is_up(apart: Apart) -> bool:
    """Whether the dashboard answers on its socket."""
    try:
        return bool(apart.api("GET", "status"))
    except OSError:
        return False


def test_the_configuration_of_the_fleet_is_applied_and_told_back(apart):
    apart.join()
    node = apart.status()["id"]
    settings = {"heartbeat_seconds": 60, "log": "debug"}
    apart.api("PUT", "configuration", {"layer": "fleet", "name": "", "settings": settings})
    applied = until("applied", lambda: apart.status().get("configuration"), 20)
    assert applied.get("error") is None, applied
    apart.kill("controller")
    apart.start("controller")
    again = until("kept over a restart", lambda: apart.status().get("configuration"), 20)
    assert again["hash"] == applied["hash"]

    def told():
        return [row for row in apart.api("GET", "status")["instances"] if row["id"] == node]

    until("and told back", lambda: applied["hash"] in json.dumps(told()), 20)


def test_a_node_without_a_good_token_ends_and_says_what_to_do(apart):
    apart.start("dashboard")
    apart.token()
    for flags in ([], ["--token", "sonde_join_wrong"]):
        apart.flags = flags
        apart.start("controller")
        assert apart.running["controller"].wait(timeout=30) == 64
    assert "sonde tokens create --kind join" in apart.log("controller")


def test_a_controller_stands_alone_by_its_own_wishes(kernel, client, tmp_path):
    """Its calls reach any receiver of OTLP, and wait for one that is away."""
    both = Apart(tmp_path)
    program = client(KINDS[0])
    command = [SONDE, "controller", "--standalone", "--data-dir", tmp_path / "alone"]
    command += ["--otlp-endpoint", f"http://127.0.0.1:{both.port}", "--wish", "name=*"]
    with open(tmp_path / "alone.log", "ab") as log:
        alone = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    try:

        def rows():
            return both.ask("services", at="alone")

        program.call(stream=False)

        def mine():
            return [r for r in rows() if r.get("process.pid") == program.pid]

        def is_on():
            return [r for r in mine() if r["sonde.capture.observed"] == "network"]

        until("captured by its own wish", is_on, 20)
        program.call(stream=False)

        def status():
            return both.ask("controller", "status", at="alone")[0]

        until("a call waits", lambda: status()["calls_waiting"] > 0, 20)
        assert status()["dashboard"] is None
    finally:
        alone.terminate()
        assert alone.wait(timeout=20) == 0
    spool = tmp_path / "alone" / "controller" / "spool"
    assert list(spool.iterdir()), "what waits is on disk"


def test_a_ceiling_of_the_node_is_not_lifted_by_a_wish(kernel, apart, client):
    apart.start("dashboard")
    apart.flags = ["--token", apart.token(), "--observe-only"]
    apart.start("controller")
    program = client(KINDS[0])
    program.call(stream=False)
    key = until("discovered", lambda: apart.row(program.pid), 20)["sonde.workload.key"]
    apart.wish(key, "network")

    def is_blocked():
        return apart.row(program.pid)["sonde.capture.state"] == "blocked"

    until("the node says that it forbids it", is_blocked, 15)
    assert "observe_only" in apart.row(program.pid)["sonde.capture.reason"]


def observed(apart: Apart, program, level: str):
    """A look for a level in effect."""

    def look():
        row = apart.row(program.pid)
        return row and row["sonde.capture.observed"] == level

    return look


@pytest.mark.kernel
def test_a_wish_takes_effect_within_a_second(captured):
    apart, _program, key = captured
    times = []
    for level in ("network", "off", "network"):
        before = time.monotonic()
        apart.ask("services", "set", key, "--capture", level, "--wait", "10")
        times.append(time.monotonic() - before)
    # The command itself takes its time on a busy machine.
    assert min(times) < 1, times


@pytest.mark.kernel
@pytest.mark.parametrize("who", ["controller", "dashboard"])
def test_the_last_wish_wins_whoever_is_killed_in_between(captured, who):
    apart, program, key = captured
    chance = random.Random(7)
    level = "off"
    for _ in range(ROUNDS):
        level = "off" if level == "network" else "network"
        apart.wish(key, level)
        time.sleep(chance.uniform(0, 0.4))
        apart.kill(who)
        apart.start(who)
        if who == "dashboard":
            until("the dashboard answers", lambda: apart.ask("services"), 20)
    until("the last wish is in effect", observed(apart, program, level), 40)
    assert program.call(stream=False)[0]["ok"]


@pytest.mark.kernel
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
        until(f"in effect after {fault}", observed(apart, program, level), 60)
    apart.wish(key, "network", 20)
    apart.proxy.set("cut")
    _, answer = program.call(stream=True, output=77)
    time.sleep(1)
    apart.proxy.set("good")

    def ids():
        return [call.get("gen_ai.response.id") for call in apart.ask("calls")]

    until("the call of the time without a dashboard", lambda: answer["id"] in ids(), 60)
    assert ids().count(answer["id"]) == 1


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
