"""Fixtures: one Sonde and one stand-in for the whole run, clients that end with their test."""

import os
import pathlib
import shutil
import subprocess

import pytest
from playwright.sync_api import expect, sync_playwright

from agent import Sink
from apart import Apart
from harness import KINDS, SONDE, Client, Kind, Sonde, StandIn, until
from tls import make_certificates

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# A page on a busy machine takes longer than the five seconds that Playwright waits.
expect.set_options(timeout=30_000)
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def binary():
    """The optimised binary; `./dev build` makes it."""
    assert SONDE.exists(), f"{SONDE} is missing; run ./dev build"
    return SONDE


@pytest.fixture(scope="session")
def kernel(binary, tmp_path_factory):
    """Passes where this machine grants capture; elsewhere skips with the reason, or fails where
    SONDE_REQUIRE_KERNEL says that these tests must run."""
    # Of a directory where no Sonde runs, so that none of the machine's answers for it.
    nowhere = str(tmp_path_factory.mktemp("nowhere"))
    command = [binary, "doctor", "--data-dir", nowhere]
    doctor = subprocess.run(command, capture_output=True, text=True)
    if doctor.returncode == 0 and os.geteuid() == 0:
        return
    reason = "not root" if os.geteuid() else doctor.stdout + doctor.stderr
    if os.environ.get("SONDE_REQUIRE_KERNEL"):
        pytest.fail(f"capture is required here and is not possible: {reason}")
    pytest.skip(f"needs root and a kernel that grants eBPF: {reason}")


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """The stand-in at port 443 of an address of its own where this user may, else anywhere."""
    listen = f"127.77.{os.getpid() % 250 + 1}.1:443" if os.geteuid() == 0 else "127.0.0.1:0"
    running = StandIn(tmp_path_factory.mktemp("stand-in"), listen)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def sonde(kernel, binary, tmp_path_factory):
    """One `sonde up` with capture for all tests that do not stop it."""
    running = Sonde(tmp_path_factory.mktemp("sonde")).start()
    yield running
    assert running.stop() == 0, running.err.read_text()


@pytest.fixture
def client(stand_in):
    """Starts clients, and ends them with the test."""
    running = []

    def start(kind: Kind, *more: str) -> Client:
        running.append(Client(kind, stand_in, *more))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def up(binary, tmp_path):
    """Starts further ones, and ends them with the test."""
    running = []

    def start(*flags: str, directory=None, **more) -> Sonde:
        if directory is None:
            directory = tmp_path / f"sonde-{len(running)}"
            directory.mkdir()
        running.append(Sonde(directory, **more))
        return running[-1].start(*flags)

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def watched(sonde, client):
    """A client whose service is captured: discovered with a first call, then switched on."""

    def start(kind: Kind, *more: str):
        running = client(kind, *more)
        running.call(stream=False)
        key = sonde.service(running.pid)["sonde.workload.key"]
        sonde.wish(key, "network")
        return running, key

    return start


@pytest.fixture
def apart(binary, tmp_path):
    """Both, not started."""
    both = Apart(tmp_path)
    yield both
    both.stop()


@pytest.fixture
def captured(kernel, apart, client):
    """Both, joined, and a client that is known."""
    apart.join()
    program = client(KINDS[0])
    program.call(stream=False)
    key = until("discovered", lambda: apart.row(program.pid), 20)["sonde.workload.key"]
    return apart, program, key


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium; Playwright downloads nothing."""
    assert pathlib.Path(CHROMIUM).exists(), "Chromium is missing; `./dev test` installs it"
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *sandbox])
        yield running
        running.close()


@pytest.fixture
def page(browser):
    """A page that fails the test on any error of a script, and on any request elsewhere."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    faults = []
    opened.on("pageerror", lambda error: faults.append(str(error)))

    def is_elsewhere(request) -> bool:
        return not request.url.startswith(("http://127.0.0.1:", "data:", "blob:"))

    opened.on("request", lambda request: is_elsewhere(request) and faults.append(request.url))
    yield opened
    context.close()
    assert faults == []


@pytest.fixture
def sink():
    """A receiver of what the agent in a program sends."""
    running = Sink()
    yield running
    running.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Where the certificates lie."""
    place = tmp_path_factory.mktemp("certificates")
    make_certificates(place)
    return place
