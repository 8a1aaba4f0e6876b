"""A dashboard and a controller as two programs, with a small TCP proxy between them that does what
networks do."""

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import threading
import time

from harness import SONDE, ask_socket, free_port, until


class Proxy:
    """Passes TCP on, and breaks it as it is told: cut, slow, reset, half-open; and, since it knows
    where a message of HTTP ends, sends each request twice or passes messages on out of order."""

    def __init__(self, target: int):
        self.target = target
        self.how = "good"
        self.sent_twice = 0
        self.chance = random.Random(5)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, how: str) -> None:
        """From now on it does this; connections that are open end where they have to."""
        before, self.how = self.how, how
        by_message = {"duplicate", "reorder"}
        if how in ("cut", "reset") or by_message & {before, how}:
            for one in list(self.open):
                self._end(one, reset=how == "reset")

    def stop(self) -> None:
        """Ends it."""
        self.listener.close()
        self.set("cut")

    def _end(self, one: socket.socket, reset: bool = False) -> None:
        self.open.discard(one)
        with contextlib.suppress(OSError):
            if reset:
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            else:
                # A close alone waits for the thread that reads from it, and nobody would be told.
                one.shutdown(socket.SHUT_RDWR)
        one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.how in ("cut", "reset"):
                near.close()
                continue
            self.open.add(near)
            if self.how in ("duplicate", "reorder"):
                threading.Thread(target=self._messages, args=(near,), daemon=True).start()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                self._end(near)
                continue
            far.settimeout(None)
            self.open.add(far)
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
            self._end(socket_)

    def _messages(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            while request := message(near):
                if self.how == "reorder":
                    # Two threads of the controller ask: the later may arrive first, both ways.
                    time.sleep(self.chance.uniform(0, 1))
                answer = self._ask(request)
                if self.how == "reorder":
                    time.sleep(self.chance.uniform(0, 1))
                near.sendall(answer)
                if self.how == "duplicate":
                    threading.Thread(target=self._again, args=(request,), daemon=True).start()
        self._end(near)

    def _again(self, request: bytes) -> None:
        # What is answered now, nobody hears.
        with contextlib.suppress(OSError, EOFError):
            time.sleep(self.chance.uniform(0, 0.5))
            self._ask(request)
            self.sent_twice += 1

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.target), timeout=40) as far:
            far.sendall(request)
            return message(far)


def message(of: socket.socket) -> bytes:
    """The next message of HTTP/1.1, whose length its head says; nothing at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = of.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    lengths = [line.split(":")[1] for line in lines if line.startswith("content-length:")]
    length = int(lengths[0]) if lengths else 0
    while len(body) < length:
        part = of.recv(65536)
        if not part:
            raise EOFError
        body += part
    return head + b"\r\n\r\n" + body


class Apart:
    """A dashboard, and a controller that dials it through a proxy."""

    def __init__(self, directory):
        self.directory = directory
        self.data = {name: directory / name for name in ("dashboard", "controller")}
        self.port = free_port()
        self.proxy = Proxy(self.port)
        self.running: dict[str, subprocess.Popen] = {}
        self.flags: list[str] = []
        self.dashboard_flags: list[str] = []
        # What either is told beside this environment.
        self.environment: dict[str, dict[str, str]] = {}

    def start(self, name: str) -> None:
        """Starts one of the two."""
        flags = {
            "dashboard": ["--listen", f"127.0.0.1:{self.port}", "--otlp-grpc", "off"],
            "controller": ["--dashboard", f"http://127.0.0.1:{self.proxy.port}", *self.flags],
        }[name]
        if name == "dashboard":
            flags += ["--otlp-http", "off", *self.dashboard_flags]
        log = open(self.directory / f"{name}.log", "ab")
        command = [SONDE, name, "--data-dir", self.data[name], *flags]
        environment = os.environ | self.environment.get(name, {})
        self.running[name] = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, env=environment
        )
        log.close()

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
        return ask_socket(self.data["dashboard"] / "sonde.sock", method, path, body)

    def tries(self, method: str, path: str, body: dict) -> dict | None:
        """Asks the dashboard, and gives its answer where it acknowledges."""
        try:
            return self.api(method, path, body)
        except (OSError, http.client.HTTPException, ValueError, AssertionError):
            return None

    def is_up(self) -> bool:
        """Whether the dashboard answers on its socket."""
        try:
            return bool(self.api("GET", "status"))
        except OSError:
            return False

    def observes(self, program, level: str):
        """A look for a level in effect on a program."""

        def look():
            row = self.row(program.pid)
            return row and row["sonde.capture.observed"] == level

        return look

    def begun_steps(self) -> list[str]:
        """Ids of steps as the node's own log has them, once for each time that one was begun."""
        log = self.data["controller"] / "controller" / "steps.log"
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        return [line["id"] for line in lines if line["phase"] == "running"]

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
