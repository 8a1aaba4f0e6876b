"""Measures what the Python agent adds to a program, and writes it into docs/budgets.md
(`./dev bench agent`; part of `./dev bench`)."""

import os
import statistics
import subprocess

from agent import BUNDLE, environment, pythons, venv
from harness import ROOT

ROUNDS = 11
BUDGET_MILLIS, BUDGET_MEGABYTES = 60, 15
BEGIN, END = "<!-- agent: begin -->", "<!-- agent: end -->"

# Programs that make no call of a model, from one that does nothing to one that is ready to.
PROGRAMS = {
    "does nothing": "pass",
    "imports asyncio, json, http": "import asyncio, http.client, json, logging, urllib.request",
    "makes a client of OpenAI": "import openai; openai.OpenAI(api_key='k')",
    "imports LangChain's models": "import langchain_openai",
}
PEAK = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def once(python: str, code: str, path: str) -> tuple[float, float]:
    """Milliseconds of processor time from start to end, and megabytes at the peak."""
    env = environment(None, PYTHONPATH=path, SONDE_AGENT_ENDPOINT="http://127.0.0.1:9")
    command = [python, "-c", code + PEAK]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE) as program:
        peak = int(program.stdout.read()) / 1024
        _, status, used = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
    assert program.returncode == 0
    return (used.ru_utime + used.ru_stime) * 1000, peak


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


def write(machine: str) -> None:
    """Writes the section of the page."""
    page = ROOT / "docs" / "budgets.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    table = f"{machine}\n\n```text\n{report()}\n```"
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
