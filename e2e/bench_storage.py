"""Measures how fast calls are kept and found, and writes the numbers into docs/budgets.md
(`./dev bench storage`; with `--full` also with ten million calls, which needs some 3 GB of disk).

Three parts: the store alone on both engines (`crates/storage/benches/store.rs`), the dashboard
taking OTLP over HTTP, and Arize Phoenix (PyPI, SQLite) taking and listing the same spans.
"""

import collections.abc
import contextlib
import http.client
import json
import os
import pathlib
import queue
import random
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

from harness import ROOT, SONDE, free_port, until

BEGIN, END = "<!-- storage: begin -->", "<!-- storage: end -->"
# Spans of a request: the batch of OpenTelemetry's SDKs.
BATCH = 512
# Requests: to Sonde, and to both of the comparison.
REQUESTS, COMPARED = 600, 20
SENDERS = 4
LISTED = 40


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(number: int, body: bytes | str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    return varint(number << 3 | 2) + varint(len(body)) + body


def attribute(key: str, value: str | int | float) -> bytes:
    if isinstance(value, str):
        any_value = field(1, value)
    elif isinstance(value, int):
        any_value = varint(3 << 3) + varint(value)
    else:
        any_value = varint(4 << 3 | 1) + struct.pack("<d", value)
    return field(9, field(1, key) + field(2, any_value))


def span(chance: random.Random, now: int) -> bytes:
    """A chat call as an SDK of the conventions of 2026 tells it, in the last hour."""
    start = now - chance.randrange(60, 3_600) * 1_000_000_000 - chance.randrange(1_000_000_000)
    end = start + chance.randrange(300_000_000, 9_000_000_000)
    model = f"gpt-4o-{chance.randrange(8)}"
    body = (
        field(1, chance.randbytes(16)) + field(2, chance.randbytes(8)) + field(5, f"chat {model}")
    )
    body += varint(6 << 3) + varint(3)
    for number, moment in ((7, start), (8, end)):
        body += varint(number << 3 | 1) + moment.to_bytes(8, "little")
    for key, value in (
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", model),
        ("gen_ai.response.model", f"{model}-2026-08-06"),
        ("gen_ai.response.id", f"chatcmpl-{chance.randbytes(8).hex()}"),
        ("gen_ai.usage.input_tokens", chance.randrange(50, 8_000)),
        ("gen_ai.usage.output_tokens", chance.randrange(1, 1_000)),
        ("gen_ai.request.temperature", 0.5),
        ("server.address", "api.example.com"),
        ("server.port", 443),
        ("http.response.status_code", 200),
        # What Phoenix names these: the same spans are calls for both.
        ("openinference.span.kind", "LLM"),
        ("llm.model_name", model),
    ):
        body += attribute(key, value)
    return body


def request(chance: random.Random, now: int) -> bytes:
    spans = b"".join(field(2, span(chance, now)) for _ in range(BATCH))
    resource = field(1, field(1, "service.name") + field(2, field(1, "bench")))
    return field(1, field(1, resource) + field(2, field(1, field(1, "bench")) + spans))


def requests(count: int) -> list[bytes]:
    chance, now = random.Random(1), time.time_ns()
    return [request(chance, now) for _ in range(count)]


def send(port: int, bodies: list[bytes], headers: dict[str, str]) -> None:
    """Sends every body until it was taken, over a few connections at once."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    failed: list[str] = []

    def sender() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while not failed:
            try:
                body = waiting.get_nowait()
            except queue.Empty:
                return
            while True:
                connection.request("POST", "/v1/traces", body, headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status == 200:
                    break
                if answer.status not in (429, 503):
                    failed.append(f"{answer.status}: {said[:200]!r}")
                    return
                time.sleep(0.05)

    threads = [threading.Thread(target=sender) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        sys.exit(f"bench: a batch was refused: {failed[0]}")


def core_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def list_times(port: int, path: str, headers: dict[str, str]) -> tuple[float, float]:
    """Median and 95th of a hundred of milliseconds for a page of 100."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    took = []
    for _ in range(LISTED):
        begun = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - begun) * 1e3)
        if answer.status != 200:
            sys.exit(f"bench: {path} answered {answer.status}: {body[:200]!r}")
    took.sort()
    return took[LISTED // 2], took[LISTED * 95 // 100]


@contextlib.contextmanager
def process(command: list, log: pathlib.Path, **more) -> collections.abc.Iterator[subprocess.Popen]:
    with open(log, "wb") as out:
        running = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out, **more)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(30)


def sonde(directory: pathlib.Path, bodies: list[bytes]) -> dict[str, float]:
    """The dashboard: every answer means that the calls are on disk."""
    data, port = directory / f"sonde-{len(bodies)}", free_port()
    command = [SONDE, "dashboard", "--data-dir", data, "--listen", f"127.0.0.1:{port}"]
    command += ["--otlp-grpc", "off", "--otlp-http", "off"]
    with process(command, directory / "sonde.log") as running:

        def token(kind: str) -> str:
            made = [SONDE, "tokens", "create", "--kind", kind, "--output", "json"]
            made += ["--data-dir", data]
            done = subprocess.run([str(part) for part in made], capture_output=True, text=True)
            return json.loads(done.stdout)["token"] if done.returncode == 0 else ""

        ingest = until("the dashboard answers", lambda: token("ingest"), 20, 0.2)
        headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {ingest}"}
        begun, before = time.perf_counter(), core_seconds(running.pid)
        send(port, bodies, headers)
        took, cores = time.perf_counter() - begun, core_seconds(running.pid) - before
        asked = {"authorization": f"Bearer {token('api')}"}
        p50, p95 = list_times(port, "/api/v1/calls?limit=100", asked)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/api/v1/status", headers=asked)
        kept = json.loads(connection.getresponse().read())["received"]["call"]
    spans = len(bodies) * BATCH
    if kept != spans:
        sys.exit(f"bench: {kept} of {spans} spans were kept")
    size = sum(path.stat().st_size for path in data.glob("calls-*"))
    return {
        "spans": spans,
        "wall": spans / took,
        "core": spans / cores,
        "p50": p50,
        "p95": p95,
        "bytes": size / spans,
    }


def phoenix(directory: pathlib.Path, bodies: list[bytes], python: str) -> dict[str, float]:
    """Phoenix answers before it has written: it has when its database has all spans."""
    home, port = directory / "phoenix", free_port()
    home.mkdir()
    environment = os.environ | {
        "PHOENIX_WORKING_DIR": str(home),
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    command = [python, "-m", "phoenix.server.main", "serve"]
    log = directory / "phoenix.log"
    with process(command, log, env=environment, cwd=home) as running:

        def answers() -> bool:
            with socket.socket() as to:
                return to.connect_ex(("127.0.0.1", port)) == 0

        until("Phoenix answers", answers, 180, 0.5)
        spans = len(bodies) * BATCH

        def written() -> int:
            file = f"file:{home / 'phoenix.db'}?mode=ro"
            with contextlib.closing(sqlite3.connect(file, uri=True, timeout=10)) as database:
                return database.execute("SELECT count(*) FROM spans").fetchone()[0]

        begun, before = time.perf_counter(), core_seconds(running.pid)
        send(port, bodies, {"content-type": "application/x-protobuf"})
        until("Phoenix has written all spans", lambda: written() >= spans, 900, 0.2)
        took, cores = time.perf_counter() - begun, core_seconds(running.pid) - before
        p50, p95 = list_times(port, "/v1/projects/default/spans?limit=100", {})
        size = sum(path.stat().st_size for path in home.glob("phoenix.db*"))
    return {
        "spans": spans,
        "wall": spans / took,
        "core": spans / cores,
        "p50": p50,
        "p95": p95,
        "bytes": size / spans,
    }


def store(calls: int, clickhouse: str = "") -> str:
    """The output of the store's own bench."""
    command = ["cargo", "bench", "-q", "--locked", "-p", "storage", "--bench", "store", "--"]
    command += [str(calls), *([clickhouse] if clickhouse else [])]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def table(rows: dict[str, dict[str, float]]) -> list[str]:
    head = "what                      spans    spans/s   of a core  list p50 ms  p95 ms  bytes/span"
    lines = [head]
    for name, row in rows.items():
        lines.append(
            f"{name:<22} {row['spans']:>8.0f} {row['wall']:>10.0f} {row['core']:>11.0f}"
            f" {row['p50']:>12.1f} {row['p95']:>7.1f} {row['bytes']:>11.0f}"
        )
    return lines


def write(machine: str, phoenix_python: str, clickhouse: str, full: bool) -> None:
    """Measures, and replaces the part of the page between the marks."""
    with tempfile.TemporaryDirectory(prefix="sonde-storage-") as place:
        directory = pathlib.Path(place)
        compared = requests(COMPARED)
        rows = {
            "Sonde": sonde(directory, requests(REQUESTS)),
            "Sonde, compared": sonde(directory, compared),
            "Phoenix, the same": phoenix(directory, compared, phoenix_python),
        }
    ours, theirs = rows["Sonde, compared"], rows["Phoenix, the same"]
    parts = [
        machine,
        "",
        f"OTLP over HTTP in protobuf, {BATCH} spans a request, {SENDERS} connections; Sonde "
        "answers when they are on disk, Phoenix is timed until its database has them:",
        "",
        "```text",
        *table(rows),
        f"Sonde takes {ours['wall'] / theirs['wall']:.0f} times as many spans a second, "
        f"{ours['core'] / theirs['core']:.0f} times as many a second of a core.",
        "```",
    ]
    print(*parts, sep="\n", flush=True)
    for calls in [1_000_000, 10_000_000] if full else [1_000_000]:
        for engine, url in (("embedded", ""), ("ClickHouse (chdb)", clickhouse)):
            measured = ["", f"The store alone, {engine}:", "", "```text", store(calls, url), "```"]
            # It takes minutes: what there is of it is seen, also where the rest does not come.
            print(*measured, sep="\n", flush=True)
            parts += measured
    page = ROOT / "docs" / "budgets.md"
    text = page.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(before + BEGIN + "\n" + "\n".join(parts) + "\n" + END + after)
