"""What the whole-system tests start, ask and compare: Sonde itself, the stand-in, and clients."""

import contextlib
import dataclasses
import decimal
import http.client
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
SONDE = pathlib.Path(os.environ.get("SONDE_BINARY", ROOT / "target" / "release" / "sonde"))
NODE = shutil.which("node") or "node"
# Debian's own, whose libcurl uses OpenSSL.
CURL = "/usr/bin/curl"

# USD for a million tokens: input, cache read, cache write, output. From the providers' price pages
# of November 2026; `crates/genai` has its own table, and the two must agree.
PRICES = {
    "gpt-4o-mini": ("0.15", "0.075", "0", "0.60"),
    "gpt-4o": ("2.50", "1.25", "0", "10.00"),
    "claude-sonnet-4-5": ("3.00", "0.30", "3.75", "15.00"),
    "claude-haiku-4-5": ("1.00", "0.10", "1.25", "5.00"),
}


# Loops and rollouts of minutes, beside shorter tests of the same, run only where this is set.
LONG_RUN = bool(os.environ.get("SONDE_LONG_RUN"))

# How much longer than on a machine with nothing else to do a thing may take: other tests' leftovers
# and neighbours on a shared machine take their time.
PATIENCE = 3


def until(what: str, look, seconds: float = 10.0, every: float = 0.05, patience: int = PATIENCE):
    """The first true answer of `look`; fails with `what` when there is none in time: that of a
    quiet machine, with patience; without (1) where the time itself is the promise."""
    seconds *= patience
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(every)


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask_socket(place: pathlib.Path, method: str, path: str, body: dict | None = None) -> dict:
    """Asks a dashboard through its socket, as its owner."""
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    try:
        connection.sock.connect(str(place))
        given = {} if body is None else {"content-type": "application/json"}
        text = None if body is None else json.dumps(body)
        connection.request(method, f"/api/v1/{path}", text, given)
        answer = connection.getresponse()
        said = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 200, said
    return said


def cost(model: str, wanted: dict) -> decimal.Decimal:
    """Exact price of an answer."""
    price_in, price_read, price_write, price_out = map(decimal.Decimal, PRICES[model])
    read, write = wanted.get("cached", 0), wanted.get("cache_write", 0)
    fresh = wanted.get("input", 42) - read - write
    total = fresh * price_in + read * price_read + write * price_write
    return (total + wanted.get("output", 17) * price_out) / 1_000_000


class Sonde:
    """A running `sonde up` with a data directory and a port of its own."""

    def __init__(self, directory: pathlib.Path, binary: pathlib.Path = SONDE, prefix=()):
        self.data = directory / "data"
        self.binary = binary
        self.prefix = list(prefix)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.out = directory / "sonde.out"
        self.err = directory / "sonde.err"
        self.process: subprocess.Popen | None = None

    def start(self, *flags: str) -> "Sonde":
        """Starts, and waits until it answers."""
        command = [*self.prefix, self.binary, "up", "--data-dir", self.data]
        command += ["--listen", f"127.0.0.1:{self.port}", *flags]
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        until("sonde up answers", self.answers, 20)
        return self

    def answers(self) -> bool:
        """True once it has said where it is, which is last, and its socket answers."""
        assert self.process.poll() is None, f"sonde up ended:\n{self.err.read_text()}"
        return (
            "/login?" in self.out.read_text()
            and self.cli("services", "--output", "json", check=False).returncode == 0
        )

    def cli(self, *arguments: str, check: bool = True, **more) -> subprocess.CompletedProcess:
        """Runs a command of the command line against this one."""
        command = [*self.prefix, str(self.binary), *arguments, "--data-dir", str(self.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done

    def rows(self, *arguments: str) -> list[dict]:
        """What a reading command prints, as JSON."""
        lines = self.cli(*arguments, "--output", "json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def services(self) -> list[dict]:
        """All services."""
        return self.rows("services")

    def service(self, pid: int, seconds: float = 10.0) -> dict:
        """The service that this process is an instance of, once it is known."""

        def look():
            for row in self.services():
                pids = [one.get("process.pid") for one in row.get("sonde.instances", [])]
                if pid == row.get("process.pid") or pid in pids:
                    return row
            return None

        return until(f"process {pid} is discovered", look, seconds)

    def wish(self, key: str, level: str) -> dict:
        """Asks for a capture level, and gives the row once it is in effect."""
        row = self.rows("services", "set", key, "--capture", level)[0]
        assert row["sonde.capture.observed"] == level, row
        return row

    def calls(self, key: str) -> list[dict]:
        """All calls of a service, oldest first."""
        return self.rows("calls", "--service", key, "--limit", "500")

    def call(self, key: str, response_id: str, seconds: float = 10.0) -> dict:
        """The call that was answered with this id."""

        def look():
            rows = self.calls(key)
            return next((row for row in rows if row.get("gen_ai.response.id") == response_id), None)

        return until(f"call {response_id} of {key} is listed", look, seconds)

    def links(self) -> set[int]:
        """Ids of the BPF links that the process holds."""
        found = set()
        for entry in pathlib.Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            # A descriptor may be closed between the listing and the look.
            with contextlib.suppress(FileNotFoundError):
                found |= {int(n) for n in re.findall(r"link_id:\s*(\d+)", entry.read_text())}
        return found

    def login_link(self) -> str:
        """A new one-time link to the page."""
        return self.cli("login").stdout.strip()

    def stop(self) -> int:
        """Asks it to stop, and gives its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15)


class StandIn:
    """The stand-in, on the port that the real APIs have where this user may."""

    def __init__(self, directory: pathlib.Path, listen: str, prefix=(), more=()):
        command = [*prefix, sys.executable, str(HERE / "stand_in.py"), str(directory)]
        command += ["--listen", listen, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.place = json.loads(self.process.stdout.readline())
        self.address, self.port = self.place["address"], self.place["port"]
        self.plain_port = self.place["plain_port"]
        self.ca = self.place["ca"]
        self.log = pathlib.Path(self.place["log"])

    def environment(self) -> dict[str, str]:
        """What a client needs to take the stand-in for the real API."""
        at = f"{self.address}:{self.port}"
        hosts = ["api.openai.com", "api.anthropic.com", "models.example.com"]
        return os.environ | {
            "STAND_IN_HOSTS": ",".join(f"{host}={at}" for host in hosts),
            "PYTHONPATH": str(HERE / "resolve"),
            "SSL_CERT_FILE": self.ca,
            "NODE_EXTRA_CA_CERTS": self.ca,
            "PYTHONWARNINGS": "ignore",
        }

    def answers(self) -> list[dict]:
        """Its log so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(timeout=10)


@dataclasses.dataclass
class Kind:
    """A kind of client: which program makes calls of which API."""

    name: str
    command: list[str]
    provider: str
    model: str
    runtime: str


PYTHON = [sys.executable, str(HERE / "clients" / "python_sdk.py")]
JAVASCRIPT = [NODE, "--require", str(HERE / "resolve" / "resolve.js")]
JAVASCRIPT += [str(HERE / "clients" / "node_client.js")]

HAIKU = "claude-haiku-4-5"

KINDS = [
    Kind("openai", [*PYTHON, "openai"], "openai", "gpt-4o-mini", "cpython"),
    Kind("openai-async", [*PYTHON, "openai-async"], "openai", "gpt-4o", "cpython"),
    Kind("anthropic", [*PYTHON, "anthropic"], "anthropic", "claude-sonnet-4-5", "cpython"),
    Kind(
        "anthropic-async", [*PYTHON, "anthropic-async"], "anthropic", "claude-haiku-4-5", "cpython"
    ),
    Kind("node-fetch", [*JAVASCRIPT, "fetch"], "openai", "gpt-4o-mini", "nodejs"),
    Kind("node-https", [*JAVASCRIPT, "https"], "anthropic", "claude-sonnet-4-5", "nodejs"),
]


class Client:
    """A running client that makes one call for each line it is sent."""

    def __init__(self, kind: Kind, stand_in: StandIn, *more: str):
        self.kind = kind
        self.stand_in = stand_in
        self.process = subprocess.Popen(
            [*kind.command, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=stand_in.environment(),
            text=True,
        )
        self.lines: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.pid = self._next()["pid"]

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def _next(self, seconds: float = 40) -> dict:
        return self.lines.get(timeout=seconds)

    def ask(self, stream: bool, more: dict | None = None, **wanted) -> None:
        """Sends one call off, without waiting for its end; `more` goes beside what is wanted."""
        call = {"stream": stream, "model": self.kind.model, "wanted": wanted}
        call |= {"provider": self.kind.provider} | (more or {})
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def load(self) -> None:
        """Has `late.py` map its TLS library, without a call."""
        self.ask(stream=False, load=True)
        assert self._next()["ok"]

    def call(self, stream: bool, more: dict | None = None, **wanted) -> tuple[dict, dict]:
        """Makes one call; gives the client's word and the stand-in's."""
        before = len(self.stand_in.answers())
        self.ask(stream, more, **wanted)
        said = self._next()
        log = until("the stand-in wrote its log", lambda: self.stand_in.answers()[before:], 5)
        return said, log[-1]

    def stop(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


def expected(kind: Kind, stream: bool, wanted: dict) -> dict:
    """The attributes that a call must have, to the digit; `None` stands for no key."""
    dated = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-4o": "gpt-4o-2024-08-06"}
    return {
        "gen_ai.provider.name": kind.provider,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": kind.model,
        "gen_ai.response.model": dated.get(kind.model, kind.model),
        "gen_ai.request.stream": True if stream else None,
        "gen_ai.usage.input_tokens": wanted["input"],
        "gen_ai.usage.output_tokens": wanted["output"],
        "gen_ai.usage.cache_read.input_tokens": wanted["cached"],
        "gen_ai.response.finish_reasons": ["stop"],
        "http.response.status_code": 200,
        "server.address": f"api.{kind.provider}.com",
        "error.type": None,
        "sonde.incomplete": None,
    }


def differences(row: dict, wanted: dict) -> list[str]:
    """What a row says differently."""
    return [
        f"{key}: {row.get(key)!r} instead of {value!r}"
        for key, value in wanted.items()
        if row.get(key) != value
    ]
