"""Programs of every runtime, as they come: each is found, and said to be what it is."""

import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

from callers import CALLER
from docker_host import CACHE
from harness import CURL, HERE, NODE, SONDE

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

SOURCES = HERE / "runtimes"
URL = "https://api.openai.com/v1/chat/completions"
# Programs that npm carries; `./dev` installs them.
MODULES = CACHE / "runtimes" / "node_modules"
# As a wheel carries it.
DOTNET = pathlib.Path("dnv/net/runtime/.net/dotnet")
ARM = platform.machine() == "aarch64"
BUN = MODULES / "@oven" / ("bun-linux-aarch64" if ARM else "bun-linux-x64") / "bin" / "bun"
DENO = MODULES / "@deno" / ("linux-arm64-glibc" if ARM else "linux-x64-glibc") / "deno"
# The installed Go, else the one that the cluster of the tests was built with.
GO = shutil.which("go") or str(CACHE / "kubernetes" / "go" / "bin" / "go")


@dataclasses.dataclass
class Program:
    """A program, and what must be said of it."""

    command: list[str]
    runtime: str
    # What a version looks like.
    version: str
    # What it is called.
    name: str
    # Libraries that are named; `None` where nothing is known of how it encrypts.
    tls: str | None
    # How much of its traffic can be read.
    extent: str
    more: dict = dataclasses.field(default_factory=dict)


def said_by(*command: str) -> str:
    """The first version that a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)[0]


PYTHONS = {"CALL_EVERY": "0.5"}
PROGRAMS = {
    "cpython": lambda: Program(
        ["/usr/bin/python3", str(CALLER)],
        "cpython",
        said_by("/usr/bin/python3", "--version"),
        "caller.py",
        "libssl",
        "covered",
        PYTHONS,
    ),
    "cpython-in-a-venv": lambda: Program(
        [sys.executable, str(CALLER), "venv"],
        "cpython",
        platform.python_version(),
        "caller.py",
        "libssl",
        "covered",
        PYTHONS,
    ),
    "pypy": lambda: Program(
        ["/usr/bin/pypy3", str(CALLER)],
        "pypy",
        # The language's; its own stands nowhere but in what it says itself.
        r"3\.\d+",
        "caller.py",
        "libssl",
        "covered",
        PYTHONS,
    ),
    "nodejs": lambda: Program(
        [NODE, str(SOURCES / "caller.mjs")],
        "nodejs",
        said_by(NODE, "--version"),
        "caller.mjs",
        "",
        "covered",
    ),
    "bun": lambda: Program(
        [str(BUN), "run", str(SOURCES / "caller.mjs")],
        "bun",
        said_by(str(BUN), "--version"),
        "caller.mjs",
        None,
        "not_yet",
    ),
    "deno": lambda: Program(
        [str(DENO), "run", "--allow-net", str(SOURCES / "caller.mjs")],
        "deno",
        said_by(str(DENO), "--version"),
        "caller.mjs",
        None,
        "not_yet",
    ),
    "java": lambda: Program(
        ["java", "-Xmx64m", str(SOURCES / "Caller.java")],
        "openjdk",
        said_by("java", "-version"),
        "Caller.java",
        None,
        "not_yet",
    ),
    "ruby": lambda: Program(
        ["/usr/bin/ruby", str(SOURCES / "caller.rb")],
        "ruby",
        r"3\.\d",
        "caller.rb",
        "libssl",
        "covered",
    ),
    "php": lambda: Program(
        ["/usr/bin/php", str(SOURCES / "caller.php")],
        "php",
        r"8\.\d",
        "caller.php",
        "libssl",
        "covered",
    ),
    "rust": lambda: Program(
        [str(SONDE), "controller", "--ebpf=false", "--dashboard", "https://api.openai.com"],
        "rust",
        r"1\.\d+",
        SONDE.name,
        None,
        "not_yet",
        # Each has a data directory of its own, for a second controller may not share one.
        {"SONDE_TOKEN": "none", "SONDE_DATA_DIR": tempfile.mkdtemp(prefix="sonde-")},
    ),
    "c-with-openssl": lambda: Program(
        # As many as it can, one a second.
        [CURL, "--silent", "--rate", "60/m", "-d", "{}", f"{URL}?n=[1-100]"],
        "c",
        "",
        "curl",
        "libssl",
        # Debian's libcurl brings GnuTLS, too, for RTMP.
        "partly",
    ),
    "c-with-gnutls": lambda: Program(
        ["/usr/bin/wget", "-q", "-O/dev/null", "--tries=1", "--wait=1", *([URL] * 60)],
        "c",
        "",
        "wget",
        "gnutls",
        "not_yet",
    ),
}


@pytest.fixture(scope="session")
def go_programs(tmp_path_factory):
    """One program under two names: its own, and one that begins like another runtime."""
    directory = tmp_path_factory.mktemp("go")
    build = [GO, "build", "-o", str(directory / "agent"), str(SOURCES / "caller.go")]
    subprocess.run(build, check=True, env=os.environ | {"CGO_ENABLED": "0"})
    shutil.copy(directory / "agent", directory / "node_exporter")
    return directory


@pytest.fixture
def run(stand_in, tmp_path):
    """Starts programs for which the model API's name is the stand-in, and ends them."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{stand_in.address} api.openai.com\n")
    running = []

    def start(program: Program) -> int:
        shell = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", shell, "sh", str(hosts), *program.command]
        trusted = {
            name: stand_in.ca
            for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "DENO_CERT")
        }
        log = open(tmp_path / "program.log", "wb")
        running.append(
            subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=tmp_path,
                env=os.environ
                | trusted
                | {"CALL_CA": stand_in.ca, "SONDE_DATA_DIR": str(tmp_path / "data")}
                | program.more,
            )
        )
        return running[-1].pid

    yield start
    for one in running:
        one.kill()
        one.wait()


def check(program: Program, row: dict) -> None:
    """What is said of a program is what it is."""
    assert row["sonde.providers"] == ["openai"]
    assert row["process.runtime.name"] == program.runtime
    if program.version:
        assert re.match(program.version, row["process.runtime.version"])
    assert row["service.name"] == program.name
    (instance,) = row["sonde.instances"]
    if program.tls is not None:
        assert program.tls in (instance.get("sonde.tls") or "").lower()
    coverage = instance["sonde.coverage"]
    assert coverage["extent"] == program.extent, instance
    assert (coverage["extent"] == "covered") == (not coverage.get("reason"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_found_and_is_what_it_is(name, sonde, run, tmp_path):
    program = PROGRAMS[name]()
    pid = run(program)
    try:
        row = sonde.service(pid, 30)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{(tmp_path / 'program.log').read_text()}") from error
    check(program, row)
    # The same again is the same workload, with one instance more.
    second = run(PROGRAMS[name]())
    key = sonde.service(second, 30)["sonde.workload.key"]
    assert key == row["sonde.workload.key"]


@pytest.mark.parametrize("name", ["agent", "node_exporter"])
def test_a_program_of_go_is_that_whatever_its_name(name, sonde, run, go_programs):
    path = go_programs / name
    version = said_by(GO, "env", "GOVERSION")
    program = Program([str(path)], "go", version, name, None, "not_yet")
    row = sonde.service(run(program), 30)
    assert row["process.runtime.name"] == "go"
    assert row["process.runtime.version"].endswith(version)
    assert row["service.name"] == name


def test_a_program_of_cpp_is_that_and_is_covered(sonde, run, tmp_path):
    path = tmp_path / "caller"
    build = ["c++", "-O1", "-o", str(path), str(SOURCES / "caller.cc"), "-lssl", "-lcrypto"]
    subprocess.run(build, check=True)
    program = Program([str(path)], "c++", "", "caller", "libssl", "covered")
    check(program, sonde.service(run(program), 30))


@pytest.mark.skipif(ARM, reason="PyPI has .NET's runtime for x86-64 alone")
def test_a_program_of_dotnet_is_that_and_is_covered(sonde, run, tmp_path):
    newest = max(CACHE.glob("dotnet-*/.complete"), key=lambda file: file.stat().st_mtime).parent
    (home,) = (path.parent for path in newest.glob(f"lib/*/site-packages/{DOTNET}"))
    framework = max(home.glob("shared/Microsoft.NETCore.App/*"))
    wanted = ("Private.CoreLib", "Private.Uri", "Runtime", "Net.Http", "Net.Primitives", "Console")
    references = [f"-r:{framework}/System.{name}.dll" for name in wanted]
    path = tmp_path / "caller.dll"
    build = ["mcs", "-nostdlib", "-noconfig", "-nowarn:1702", f"-out:{path}", *references]
    subprocess.run([*build, str(SOURCES / "caller.cs")], check=True)
    settings = {
        "framework": {"name": "Microsoft.NETCore.App", "version": framework.name},
        "configProperties": {"System.Globalization.Invariant": True},
    }
    path.with_suffix(".runtimeconfig.json").write_text(json.dumps({"runtimeOptions": settings}))
    (home / "dotnet").chmod(0o755)
    command = [str(home / "dotnet"), "exec", str(path)]
    program = Program(command, "dotnet", re.escape(framework.name), "caller", "libssl", "covered")
    check(program, sonde.service(run(program), 30))


def test_a_name_that_lies_is_not_believed(sonde, run, tmp_path, go_programs):
    for name in ("python3.11", "java", "bun"):
        lie = pathlib.Path(shutil.copy(go_programs / "agent", tmp_path / name))
        row = sonde.service(run(Program([str(lie)], "go", "", name, None, "not_yet")), 30)
        assert row["process.runtime.name"] == "go", name


def test_programs_of_one_runtime_are_told_apart(sonde, run):
    first = PROGRAMS["cpython"]()
    other = dataclasses.replace(first, command=[*first.command, "another"])
    keys = {sonde.service(run(one), 30)["sonde.workload.key"] for one in (first, other)}
    assert len(keys) == 2
