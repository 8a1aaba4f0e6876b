"""Real senders of OTLP: SDKs with their instrumentations, the Collector, and our own controller."""

import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest

from harness import HERE, KINDS, Sonde, free_port, until

# The first run builds the collector from its Go modules.
pytestmark = pytest.mark.timeout(600)

SENDERS = HERE / "senders"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "sonde"
CANARY = b"CANARY-of-a-prompt"

# What all of them say of the two calls that went well, whatever words they use.
EQUAL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.usage.input_tokens": 42,
    "gen_ai.usage.output_tokens": 17,
    "gen_ai.response.finish_reasons": ["stop"],
}


def key_of(*files: pathlib.Path) -> str:
    """Names what is made of these files, and by which Python."""
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@pytest.fixture(scope="session")
def senders() -> pathlib.Path:
    """The Python with the senders' packages, of their hashes; made once a machine."""
    pinned = SENDERS / "requirements.txt"
    made = CACHE / f"senders-{key_of(pinned)}"
    if not (made / ".complete").exists():
        shutil.rmtree(made, ignore_errors=True)
        uv = str(CACHE / "tools" / "bin" / "uv")
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(made)], check=True)
        sync = [uv, "pip", "sync", "-q", "--system-certs", "--require-hashes", str(pinned)]
        subprocess.run(sync, check=True, env=os.environ | {"VIRTUAL_ENV": str(made)})
        (made / ".complete").touch()
    return made / "bin" / "python"


@pytest.fixture(scope="session")
def collector() -> pathlib.Path:
    """The OpenTelemetry Collector with OTLP alone, built of its modules; made once a machine."""
    source = SENDERS / "collector"
    name = f"collector-{key_of(source / 'main.go', source / 'go.mod', source / 'go.sum')}"
    made = CACHE / name
    if not made.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        build = ["go", "build", "-trimpath", "-ldflags=-s -w", "-o", f"{made}.part", "."]
        subprocess.run(build, check=True, cwd=source, env=os.environ | {"CGO_ENABLED": "0"})
        os.replace(f"{made}.part", made)
    return made


class Receiver:
    """A Sonde without capture that takes OTLP on ports of its own."""

    def __init__(self, up, *flags: str):
        grpc, http = free_port(), free_port()
        self.grpc, self.http = f"127.0.0.1:{grpc}", f"127.0.0.1:{http}"
        ports = ["--otlp-grpc", self.grpc, "--otlp-http", self.http]
        self.sonde: Sonde = up("--ebpf", "false", *ports, *flags)
        made = self.sonde.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
        self.token = json.loads(made)["token"]

    def endpoint(self, protocol: str) -> str:
        """Where a protocol goes."""
        return f"http://{self.grpc if protocol == 'grpc' else self.http}"


@pytest.fixture
def receiver(up) -> Receiver:
    return Receiver(up)


def send(python, kind: str, protocol: str, endpoint: str, token: str, stand_in) -> None:
    """Lets one sender make its three calls."""
    api = f"http://{stand_in.address}:{stand_in.plain_port}"
    command = [python, SENDERS / "sender.py", kind, protocol, endpoint, token, api]
    # OpenLIT asks for its price list and is content without it.
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "OTEL_SDK_DISABLED": "false"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def check(sonde: Sonde, service: str) -> None:
    """Exactly the three calls are there, equal to those of every other sender."""
    until(f"the calls of {service}", lambda: len(sonde.calls(service)) >= 3)
    calls = sonde.calls(service)
    assert len(calls) == 3, [call.get("otel.scope.name") for call in calls]
    plain, streamed, failed = calls
    for call in (plain, streamed):
        said = {name: call.get(name) for name in EQUAL}
        assert said == EQUAL, service
        assert call["sonde.duration"] > 0
        assert "error.type" not in call
    assert streamed["gen_ai.request.stream"] is True
    assert "gen_ai.request.stream" not in plain
    assert "RateLimitError" in failed["error.type"]
    assert failed["gen_ai.request.model"] == "gpt-4o-mini"


def holds(directory: pathlib.Path, needle: bytes) -> list[str]:
    """Files with these bytes in them."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [str(path) for path in files if needle in path.read_bytes()]


def test_calls_of_every_sender_come_out_equal_and_without_content(receiver, senders, stand_in):
    sent = [("openlit", "http"), ("openinference", "grpc"), ("openllmetry", "http")]
    for kind, protocol in [*sent, ("plain", "grpc"), ("plain", "http")]:
        endpoint = receiver.endpoint(protocol)
        send(senders, kind, protocol, endpoint, receiver.token, stand_in)
        check(receiver.sonde, f"{kind}-{protocol}")
    assert holds(receiver.sonde.data, CANARY) == []
    assert holds(receiver.sonde.err.parent, CANARY) == []


@contextlib.contextmanager
def collecting(collector, directory: pathlib.Path, name: str, exporter: dict):
    """A running collector that sends on by this exporter; gives its own endpoint."""
    port = free_port()
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {name: exporter},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": [name]}},
        },
    }
    # JSON is YAML.
    file, log = directory / f"{name}.yaml", directory / f"{name}.log"
    file.write_text(json.dumps(config))
    with open(log, "wb") as out:
        running = subprocess.Popen([collector, "--config", f"file:{file}"], stdout=out, stderr=out)

    def listens() -> bool:
        assert running.poll() is None, log.read_text()[-2000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until("the collector listens", listens, 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(timeout=15)


@pytest.mark.parametrize(("protocol", "kind"), [("grpc", "openinference"), ("http", "plain")])
def test_the_collector_sends_over_both_transports(
    receiver, senders, collector, stand_in, tmp_path, protocol, kind
):
    exporter = {
        "endpoint": receiver.endpoint(protocol),
        "headers": {"authorization": f"Bearer {receiver.token}"},
        "compression": "zstd",
        "tls": {"insecure": True},
    }
    name = "otlp" if protocol == "grpc" else "otlphttp"
    with collecting(collector, tmp_path, name, exporter) as endpoint:
        send(senders, kind, "http", endpoint, "unused", stand_in)
        check(receiver.sonde, f"{kind}-http")


def test_what_is_forwarded_arrives_equal(up, senders, stand_in):
    far = Receiver(up)
    header = f"authorization=Bearer {far.token}"
    near = Receiver(up, "--forward", f"http://{far.http}", "--forward-header", header)
    send(senders, "openllmetry", "grpc", f"http://{near.grpc}", near.token, stand_in)
    for sonde in (near.sonde, far.sonde):
        check(sonde, "openllmetry-grpc")
    assert near.sonde.calls("openllmetry-grpc") == far.sonde.calls("openllmetry-grpc")


@pytest.mark.kernel
def test_a_call_that_the_kernel_and_an_sdk_see_is_one(sonde, senders, stand_in, client):
    """The same program is watched and instrumented: each call is one row with both views."""
    made = sonde.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
    token = json.loads(made)["token"]
    program = client(KINDS[0])
    program.call(stream=False)
    key = sonde.service(program.pid)["sonde.workload.key"]
    sonde.wish(key, "network")
    _, answer = program.call(stream=True)
    seen = sonde.call(key, answer["id"])
    now = seen["time"]
    assert "sonde.also" not in seen
    span = {
        "traceId": "5b8efff798038103d269b633813fc60d",
        "spanId": "eee19b7ec3c1b175",
        "parentSpanId": "eee19b7ec3c1b176",
        "name": "chat",
        "startTimeUnixNano": str(_nanos(now) - 1_000_000),
        "endTimeUnixNano": str(_nanos(now) + int(seen["sonde.duration"] * 1e9) + 1_000_000),
        "attributes": [
            {"key": name, "value": {"stringValue": value}}
            for name, value in {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": seen["gen_ai.request.model"],
                "gen_ai.response.id": answer["id"],
                "gen_ai.conversation.id": "talk-1",
            }.items()
        ],
    }
    scope = {"scope": {"name": "an sdk"}, "spans": [span]}
    body = {"resourceSpans": [{"scopeSpans": [scope]}]}
    before = len(sonde.calls(key))
    for _ in range(2):
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        request = urllib.request.Request(
            f"{sonde.url}/v1/traces", json.dumps(body).encode(), headers
        )
        assert urllib.request.urlopen(request, timeout=10).status == 200
    merged = sonde.call(key, answer["id"])
    assert len(sonde.calls(key)) == before
    assert merged["trace_id"] == span["traceId"]
    assert merged["parent_span_id"] == span["parentSpanId"]
    assert merged["gen_ai.conversation.id"] == "talk-1"
    for name in ("gen_ai.usage.output_tokens", "sonde.cost", "sonde.duration", "sonde.chunk_count"):
        assert merged[name] == seen[name], name


def _nanos(time: str) -> int:
    """Nanoseconds since 1970 of a row's time."""
    whole, part = time.rstrip("Z").split(".")
    seconds = datetime.datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return int(seconds) * 1_000_000_000 + int(part.ljust(9, "0"))
