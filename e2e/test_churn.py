"""Processes that come and go by the thousand: none that asks a model is missed, and nothing stays
behind of those that are gone."""

import json
import os
import pathlib
import re
import ssl
import subprocess
import time

import pytest

from harness import HERE, Sonde, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]

# 10,000 a minute; the whole minute where the environment asks for it.
RATE = 10_000 / 60
SECONDS = float(os.environ.get("SONDE_CHURN_SECONDS", "12"))
# One in so many asks a model API.
EVERY = 25
# Pages that an allocator keeps, caches that fill once: far below what a leak of one page a process
# would be in a minute (40 MB).
MAX_GROWTH_KIB = 6 * 1024


@pytest.fixture(scope="module")
def churn(tmp_path_factory):
    """The program that starts the others."""
    program = tmp_path_factory.mktemp("churn") / "churn"
    command = ["cc", "-O1", "-Wall", "-o", str(program), str(HERE / "clients" / "churn.c")]
    subprocess.run(command, check=True)
    return program


def client_hello(path: pathlib.Path) -> pathlib.Path:
    """What a real TLS library sends first to this name."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="api.openai.com")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    path.write_bytes(outgoing.read())
    return path


def run(churn: pathlib.Path, count: int, seconds: float, stand_in, hello: pathlib.Path) -> None:
    """Starts so many processes in so many seconds, all of which must succeed."""
    command = [churn, count, seconds, EVERY, stand_in.address, stand_in.port, hello]
    began = time.monotonic()
    subprocess.run([str(part) for part in command], check=True, timeout=seconds * 5 + 60)
    # The pace was kept, so that a slow machine does not make the test easy in silence.
    assert time.monotonic() - began < seconds * 2 + 5


def memory_kib(pid: int) -> int:
    """Resident memory of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1])


def descriptors(pid: int) -> int:
    """Open files of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def entries(pid: int) -> dict[str, int]:
    """Entries in the maps of the probes that can hold a varying number, by name and id."""
    held = set()
    for entry in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir():
        held |= {int(number) for number in re.findall(r"map_id:\s*(\d+)", entry.read_text())}
    counts = {}
    for number in held:
        show = ["/usr/sbin/bpftool", "--json", "map", "show", "id", str(number)]
        about = json.loads(subprocess.run(show, capture_output=True, check=True).stdout)
        if "hash" not in about["type"] or "of_maps" in about["type"]:
            continue
        dump = ["/usr/sbin/bpftool", "--json", "map", "dump", "id", str(number)]
        content = json.loads(subprocess.run(dump, capture_output=True, check=True).stdout)
        counts[f"{about['name']} ({about['type']}, {number})"] = len(content)
    return counts


def test_thousands_of_short_processes_leave_nothing_and_none_that_calls_is_missed(
    kernel, up, churn, stand_in, tmp_path
):
    sonde = up()
    pid = sonde.process.pid
    hello = client_hello(tmp_path / "hello")
    # The same processes once before: what is kept of those that called is kept already.
    count = round(RATE * SECONDS)
    run(churn, count, SECONDS, stand_in, hello)
    names = len(range(0, count, EVERY))
    until("each that called is a service", lambda: len(services_of(sonde, churn)) >= names, 30, 0.5)
    first = services_of(sonde, churn)
    before = settled(pid)

    run(churn, count, SECONDS, stand_in, hello)
    again = services_of(sonde, churn)
    assert (len(again), set(again)) == (names, set(first)), (
        "the same programs are the same services"
    )
    after = settled(pid)
    assert after["descriptors"] <= before["descriptors"] + 2
    assert after["memory"] <= before["memory"] + MAX_GROWTH_KIB
    for name, held in after["entries"].items():
        assert held <= before["entries"][name] + 64, f"{name}: {before['entries'][name]} to {held}"


def services_of(sonde: Sonde, churn: pathlib.Path) -> dict[str, str]:
    """What was found among them: the arguments, of which each has its own, by the key."""
    name = re.escape(churn.name)
    rows = {row["sonde.workload.key"]: row for row in sonde.services()}
    return {
        key: " ".join(row.get("process.command_args", []))
        for key, row in rows.items()
        if re.search(rf"process:{name}-", key)
    }


def settled(pid: int) -> dict:
    """What the process holds once that no longer falls."""
    lowest = {"memory": memory_kib(pid), "descriptors": descriptors(pid), "entries": entries(pid)}

    def calm() -> bool:
        time.sleep(1)
        now = {"memory": memory_kib(pid), "descriptors": descriptors(pid), "entries": entries(pid)}
        falls = sum(now["entries"].values()) < sum(lowest["entries"].values()) - 16
        lowest.update(now)
        return not falls

    until("it has let go of what it can", calm, 60, 0)
    return lowest
