"""What the Python agent adds to a program: time to start and to end, and memory."""

import os
import pathlib
import statistics
import subprocess
import time

from agent import BUNDLE, environment, pythons, venv

ROUNDS = 11
BUDGET_MILLIS, BUDGET_MEGABYTES = 60, 15

# Programs that make no call of a model, from one that does nothing to one that is ready to.
PROGRAMS = {
    "does nothing": "pass",
    "imports asyncio, json, http": "import asyncio, http.client, json, logging, urllib.request",
    "makes a client of OpenAI": "import openai; openai.OpenAI(api_key='k')",
    "imports LangChain's models": "import langchain_openai",
}
PEAK = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def once(python: str, code: str, path: str) -> tuple[float, float]:
    """Milliseconds from start to end, and megabytes at the peak."""
    env = environment(None, PYTHONPATH=path, SONDE_AGENT_ENDPOINT="http://127.0.0.1:9")
    start = time.perf_counter()
    done = subprocess.run([python, "-c", code + PEAK], env=env, capture_output=True, check=True)
    return (time.perf_counter() - start) * 1000, int(done.stdout) / 1024


def added(python: str, code: str) -> tuple[float, float, float, float]:
    """Medians without it, and what it adds: milliseconds, megabytes. Rounds alternate, so that
    what else the machine does falls on both alike."""
    without, with_it = [], []
    for _ in range(ROUNDS):
        without.append(once(python, code, ""))
        with_it.append(once(python, code, str(BUNDLE / "bootstrap")))
    millis, megabytes = (statistics.median(one[i] for one in without) for i in (0, 1))
    more = [statistics.median(one[i] for one in with_it) for i in (0, 1)]
    return millis, megabytes, more[0] - millis, more[1] - megabytes


def report() -> str:
    """A table; ends the run where a budget is broken."""
    lines = ["program                          python     ms   added      MB   added"]
    broken = []

    def line(title: str, version: str, python: str, code: str) -> None:
        millis, megabytes, more_millis, more_megabytes = added(python, code)
        lines.append(
            f"{title:<32} {version:<7} {millis:>6.0f} {more_millis:>7.1f} {megabytes:>7.1f} "
            f"{more_megabytes:>7.1f}"
        )
        if more_millis > BUDGET_MILLIS or more_megabytes > BUDGET_MEGABYTES:
            broken.append(title)

    for version, python in pythons().items():
        line("does nothing", version, python, PROGRAMS["does nothing"])
    frameworks = str(venv("requirements") / "python")
    version = os.path.basename(next((venv("requirements").parent / "lib").glob("python3.*")))
    for title, code in PROGRAMS.items():
        line(title, version.removeprefix("python"), frameworks, code)
    text = "\n".join(lines)
    assert not broken, f"over the budget: {broken}\n{text}"
    return text


if __name__ == "__main__":
    assert pathlib.Path(BUNDLE).exists(), "./dev agents makes the bundle"
    print(report())
