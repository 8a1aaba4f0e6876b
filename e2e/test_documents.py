"""What the documents say is so: their commands run, their lists are complete."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from harness import ROOT, SONDE, until

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Commands that run until they are stopped.
ENDLESS = ("sonde up", "sonde dashboard", "sonde controller", "sonde calls --follow")


def commands(program: str) -> list[str]:
    """Lines of `sh` blocks that start with this program, each once."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            lines = (line for line in block.splitlines() if line.startswith(f"{program} "))
            found += [line for line in lines if line not in found]
    return found


def test_commands_of_dev_exist():
    usage = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True).stdout
    known = re.findall(r"^  (\w+)", usage, re.MULTILINE)
    assert commands("./dev")
    for line in commands("./dev"):
        assert shlex.split(line)[1] in known, line


@pytest.mark.kernel
def test_commands_of_sonde_work(kernel, up):
    sonde = up()
    demo = subprocess.Popen([sys.executable, str(ROOT / "e2e" / "demo" / "run.py")])
    try:
        wanted = {"assistant.py", "digest.py"}

        def is_there() -> bool:
            return wanted <= {row["service.name"] for row in sonde.services()}

        until("the demo is discovered", is_there, 15)
        environment = os.environ | {"SONDE_DATA_DIR": str(sonde.data)}
        lines = [line for line in commands("sonde") if not line.startswith(ENDLESS)]
        assert lines
        for line in lines:
            command = [str(SONDE), *shlex.split(line)[1:]]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60, env=environment
            )
            assert done.returncode == 0, f"{line}: {done.stderr}"
    finally:
        demo.terminate()
        demo.wait()


def help_text() -> str:
    """The page of the command line, made from what the binary itself says."""
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    for name in [name for name in environment if name.startswith("SONDE_")]:
        del environment[name]

    def said(*command: str) -> str:
        done = subprocess.run(
            [SONDE, *command, "--help"], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def subcommands(*command: str) -> list[tuple[str, ...]]:
        part = said(*command).partition("\nCommands:\n")[2].partition("\n\n")[0]
        names = re.findall(r"^  (\w[\w-]*)", part, re.MULTILINE)
        return [(*command, name) for name in names if name != "help"]

    page = "# The command line\n\n"
    page += "Made from the command's own help by `e2e/test_documents.py`; not edited by hand.\n\n"
    page += "Data goes to standard output, everything else to standard error.\n"
    page += "Exit codes: 0 done, 1 failed, 64 usage or configuration, 77 missing privilege or "
    page += "kernel feature.\n"
    queue = [(), *subcommands()]
    while queue:
        command = queue.pop(0)
        title = " ".join(["sonde", *command])
        text = "\n".join(line.rstrip() for line in said(*command).splitlines())
        page += f"\n## {title}\n\n```text\n{text.strip()}\n```\n"
        queue = (subcommands(*command) if command else []) + queue
    return page


def test_the_page_of_the_command_line_is_current():
    page = ROOT / "docs" / "cli.md"
    if os.environ.get("SONDE_UPDATE_DOCS"):
        page.write_text(help_text(), encoding="utf-8")
    assert page.read_text(encoding="utf-8") == help_text(), "SONDE_UPDATE_DOCS=1 writes it anew"


def test_every_setting_is_documented(tmp_path):
    file = tmp_path / "sonde.toml"
    file.write_text("zzzzzzzzzzzz = 1\n")
    done = subprocess.run([SONDE, "--config", file, "version"], capture_output=True, text=True)
    known = done.stderr.partition("the settings are ")[2].split(",")
    known = {name.strip() for name in known}
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert documented == known


# Only a cluster that has a second image of Sonde would show it.
WITHOUT_A_TEST = {"--agent-image"}


def test_every_flag_is_used_by_a_test():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    flags = set(re.findall(r"^ +(?:-\w, )?(--[a-z][a-z-]+)", page, re.MULTILINE))
    assert len(flags) > 60
    here = [file for file in (ROOT / "e2e").rglob("*.py") if file.name != "test_documents.py"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in here)

    def is_used(flag: str) -> bool:
        variable = "SONDE_" + flag.removeprefix("--").replace("-", "_").upper()
        return bool(re.search(rf"{flag}(?![a-z-])|\b{variable}\b", text))

    unused = {flag for flag in flags if not is_used(flag)} - {"--help", "--version"}
    assert unused == WITHOUT_A_TEST, sorted(unused)


def test_every_example_of_the_configuration_file_is_read(tmp_path):
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        file = tmp_path / "sonde.toml"
        file.write_text(block)
        done = subprocess.run([SONDE, "--config", file, "version"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["discovery", "full"])
def test_every_test_that_a_document_names_exists(name):
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`", text))
    assert len(named) > 40
    files = [*(ROOT / "crates").rglob("*.rs"), *(ROOT / "e2e").rglob("*.py")]
    sources = "\n".join(file.read_text(encoding="utf-8") for file in files)
    there = set(re.findall(r"\b(?:fn|def) (\w+)\(", sources))
    assert named <= there, sorted(named - there)


def test_every_failure_of_our_catalogue_has_a_test():
    text = (ROOT / "docs" / "full.md").read_text(encoding="utf-8")
    ours, theirs = re.findall(r"^\| (?:#|line) \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    for table, wanted in ((ours, range(1, 29)), (theirs, range(26, 47))):
        told = {}
        for row in table.splitlines():
            numbers, *_, tests = row.strip("| ").split(" | ")
            told |= {int(number): tests for number in numbers.split(", ")}
        assert set(told) == set(wanted)
        for number, tests in told.items():
            assert re.search(r"`[a-z0-9]+(_[a-z0-9]+){2,}`", tests), number
