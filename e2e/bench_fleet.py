"""Measures one dashboard under a fleet of simulated controllers, and writes the curve into
docs/budgets.md (`./dev bench fleet`; part of `./dev bench`).

The controllers (`crates/dashboard/examples/load.rs`) are one program on the same two cores as the
dashboard, so both have less of the machine than in a fleet.
"""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

from harness import ROOT, SONDE, free_port, until

COUNTS = [10, 100, 1_000, 3_000, 10_000]
BEGIN, END = "<!-- fleet: begin -->", "<!-- fleet: end -->"
# A connection of each controller that waits, those that report just now, and room.
DESCRIPTORS = 16_384


def memory(pid: int) -> dict[str, float]:
    """Resident memory now and at its highest, in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"(VmRSS|VmHWM):\s*(\d+) kB", status))
    return {name: int(value) / 1024 for name, value in found.items()}


def many_files() -> None:
    """Lets the child open a connection for each controller."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, most))


def measure(directory: pathlib.Path, load: pathlib.Path, count: int) -> dict:
    """One point of the curve, on a dashboard of its own."""
    data, port = directory / f"data-{count}", free_port()
    command = [SONDE, "dashboard", "--data-dir", data, "--listen", f"127.0.0.1:{port}"]
    command += ["--otlp-grpc", "off", "--otlp-http", "off"]
    with open(directory / f"dashboard-{count}.log", "wb") as log:
        dashboard = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, preexec_fn=many_files
        )

    def token(kind: str) -> str:
        made = [SONDE, "tokens", "create", "--kind", kind, "--output", "json", "--data-dir", data]
        done = subprocess.run([str(part) for part in made], capture_output=True, text=True)
        return json.loads(done.stdout)["token"] if done.returncode == 0 else ""

    try:
        join = until("the dashboard answers", lambda: token("join"), 20, 0.2)
        place = f"http://127.0.0.1:{port}"
        done = subprocess.run(
            [str(load), place, join, token("api"), str(count)],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=many_files,
            timeout=900,
        )
        if done.returncode != 0:
            sys.exit(f"bench: the load of {count} controllers failed")
        held = memory(dashboard.pid)
        return json.loads(done.stdout) | {"rss": held["VmRSS"], "most": held["VmHWM"]}
    finally:
        dashboard.kill()
        dashboard.wait()


def curve() -> list[str]:
    """All points, as lines of the page."""
    build = ["cargo", "build", "--release", "--locked", "-p", "dashboard", "--example", "load"]
    subprocess.run(build, cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    load = target / "release" / "examples" / "load"
    lines = [
        "controllers  joined s  idle polls  p50 ms  p99 ms  wish p50 ms  wish max ms  MiB  max MiB",
    ]
    with tempfile.TemporaryDirectory(prefix="sonde-fleet-") as directory:
        for count in COUNTS:
            found = measure(pathlib.Path(directory), load, count)
            if found["failed"]:
                sys.exit(f"bench: {found['failed']} of {count} controllers had an error")
            lines.append(
                f"{count:>11}  {found['joined_s']:>8.1f}  {found['idle_polls']:>10}  "
                f"{found['idle_p50_ms']:>6.2f}  {found['idle_p99_ms']:>6.2f}  "
                f"{found['wish_p50_ms']:>11.1f}  {found['wish_longest_ms']:>11.1f}  "
                f"{found['rss']:>3.0f}  {found['most']:>7.0f}"
            )
            print(lines[-1], file=sys.stderr)
    return lines


def write(said: str) -> None:
    """Puts the curve into the page."""
    page = ROOT / "docs" / "budgets.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n".join([said, "", "```text", *curve(), "```"])
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    print(text)
