"""Measures what Sonde costs, and writes the numbers into docs/budgets.md (`./dev bench`).

Five numbers: what an idle controller costs on a crowded machine (measured here), what a probe
adds to a TLS call and what is added to a connection (the benches of `capture`), how fast traffic
is read (the bench of `genai`, on the fixtures), and how long after the last byte of an answer its
row is with an open page (measured here, against the stand-in's clock).
"""

import json
import os
import pathlib
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench_agent
import bench_fleet
import bench_storage
from harness import KINDS, ROOT, SONDE, Client, Sonde, StandIn, free_port, until

CALLS = 200
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Events:
    """Rows of calls as an open page gets them, with the time at which each arrived."""

    def __init__(self, path: pathlib.Path):
        self.arrived: dict[str, int] = {}
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        request = (
            b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
        self.socket.sendall(request)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        name = ""
        for line in self.socket.makefile("r", encoding="utf-8"):
            now = time.monotonic_ns()
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:") and name == "call":
                row = json.loads(line[5:])
                self.arrived[row.get("gen_ai.response.id", "")] = now


def latency(directory: pathlib.Path) -> list[float]:
    """Milliseconds from the last byte that the stand-in sent to the row on the page, sorted."""
    (directory / "stand-in").mkdir()
    stand_in = StandIn(directory / "stand-in", "127.77.251.1:443")
    sonde = Sonde(directory).start()
    client = Client(KINDS[0], stand_in)
    try:
        client.call(stream=False)
        sonde.wish(sonde.service(client.pid)["sonde.workload.key"], "network")
        events = Events(sonde.data / "sonde.sock")
        time.sleep(0.5)
        found = []
        for _ in range(CALLS):
            _, answer = client.call(stream=True, words=12, pause=0.001)
            name = answer["id"]
            until(f"{name} arrives", lambda name=name: name in events.arrived, 10, 0.005)
            found.append((events.arrived[name] - answer["last_at"]) / 1e6)
        return sorted(found)
    finally:
        client.stop()
        sonde.stop()
        stand_in.stop()


PROCESSES, SOCKETS = 2_000, 10_000
IDLE_SECONDS = 60

# Holds its share of the connections open, both ends, and sleeps.
CROWD = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", 0), backlog=64)
kept = []
for _ in range(int(sys.argv[1]) // 2):
    kept.append(socket.create_connection(server.getsockname()))
    kept.append(server.accept())
print("ready", flush=True)
time.sleep(3600)
"""


def idle_apart(directory: pathlib.Path) -> dict[str, float]:
    """The same in a pid namespace of its own, so that what others start is not its business."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--cgroup", "--"]
    command = [*apart, sys.executable, __file__, "--idle", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def forks() -> int:
    """Processes and threads that the machine started since it booted."""
    return int(re.search(r"^processes (\d+)", pathlib.Path("/proc/stat").read_text(), re.M)[1])


def idle(directory: pathlib.Path) -> dict[str, float]:
    """CPU and memory of a controller that has nothing to do, beside many processes and sockets."""
    holders = 100
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(SOCKETS // holders)], stdout=subprocess.PIPE
        )
        for _ in range(holders)
    ]
    crowd += [subprocess.Popen(["sleep", "3600"]) for _ in range(PROCESSES - holders)]
    dashboard = [SONDE, "dashboard", "--data-dir", directory / "d", "--listen", "127.0.0.1:0"]
    running = []
    try:
        for one in crowd[:holders]:
            one.stdout.readline()
        port = free_port()
        dashboard[-1] = f"127.0.0.1:{port}"
        running.append(subprocess.Popen(dashboard, stdout=subprocess.PIPE))
        running[0].stdout.readline()
        token = subprocess.run(
            [SONDE, "tokens", "create", "--kind", "join", "--data-dir", directory / "d"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
        command = [SONDE, "controller", "--data-dir", directory / "c", "--token", token]
        command += ["--dashboard", f"http://127.0.0.1:{port}"]
        controller = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        running.append(controller)
        time.sleep(20)

        def spent() -> int:
            tasks = pathlib.Path(f"/proc/{controller.pid}/task").iterdir()
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

        before, forks_before = spent(), forks()
        time.sleep(IDLE_SECONDS)
        percent = (spent() - before) / IDLE_SECONDS / 1e9 * 100
        started = forks() - forks_before
        status = pathlib.Path(f"/proc/{controller.pid}/status").read_text()
        memory = int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) / 1024
        return {"percent": percent, "mib": memory, "started": started}
    finally:
        for one in crowd + running:
            one.kill()
            one.wait()


def cargo_bench(crate: str, bench: str) -> str:
    """What a bench prints."""
    command = ["cargo", "bench", "--locked", "-p", crate, "--bench", bench]
    print("==>", *command, file=sys.stderr)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout, file=sys.stderr)
    if done.returncode != 0 or "NOT RUN" in done.stdout:
        sys.exit(f"bench: `{' '.join(command)}` failed")
    return done.stdout.strip()


def machine() -> str:
    """Where the numbers are from."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", info, re.MULTILINE)
    name = model[1] if model else platform.machine()
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"Measured on {day} at commit {commit or 'unknown'}: {name}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}."
    )


def main() -> None:
    """Runs all of them, or the one that is named, and writes the page."""
    if sys.argv[1:2] == ["--idle"]:
        print(json.dumps(idle(pathlib.Path(sys.argv[2]))))
        return
    if sys.argv[1:] == ["fleet"]:
        bench_fleet.write(machine())
        return
    if sys.argv[1:2] == ["storage"] and set(sys.argv[2:]) <= {"--full"}:
        python, url = os.environ["SONDE_BENCH_PHOENIX"], os.environ["SONDE_TEST_CLICKHOUSE_URL"]
        bench_storage.write(machine(), python, url, "--full" in sys.argv)
        return
    if sys.argv[1:] == ["agent"]:
        bench_agent.write(machine())
        return
    if sys.argv[1:]:
        sys.exit("usage: bench.py [agent | fleet | storage [--full]]")
    if os.geteuid() != 0:
        sys.exit("bench: needs root, because it measures probes in the kernel")
    overhead = cargo_bench("capture", "overhead")
    connects = cargo_bench("capture", "connects")
    decode = cargo_bench("genai", "decode")
    with tempfile.TemporaryDirectory(prefix="sonde-bench-") as directory:
        quiet = idle_apart(pathlib.Path(directory))
        times = latency(pathlib.Path(directory))
    lines = [machine(), ""]
    lines += ["## Added time for a TLS call", "", "```text", overhead, "```", ""]
    lines += ["## Added time for a connection", ""]
    lines += ["Of every process, watched or not; the reading on the other side included.", ""]
    lines += ["```text", connects, "```", ""]
    lines += ["## Reading traffic (`wire` and `genai`, one core)", ""]
    lines += ["Beside it, in the same run, the obvious way: collect the body, parse all of it.", ""]
    lines += ["```text", decode, "```"]
    p95, p99 = statistics.quantiles(times, n=100)[94], statistics.quantiles(times, n=100)[98]
    lines += ["", "## An idle controller on a crowded machine", ""]
    lines += [
        f"{quiet['percent']:.3f} % of a core over {IDLE_SECONDS} s and {quiet['mib']:.1f} MiB of "
        f"resident memory, beside {PROCESSES} processes and {SOCKETS} sockets; "
        f"{quiet['started']} processes and threads were started outside its namespace meanwhile."
    ]
    lines += ["", "## From the last byte of an answer to its row on an open page", ""]
    lines += [
        f"Median {statistics.median(times):.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, longest "
        f"{times[-1]:.1f} ms, of {CALLS} streamed calls of the OpenAI Python SDK."
    ]
    page = ROOT / "docs" / "budgets.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n".join(lines)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    print(text)
    bench_fleet.write(machine())
    bench_agent.write(machine())


if __name__ == "__main__":
    main()
