"""How programs are found, left out and explained: real clients and proxies on the real kernel."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

import groups
from callers import CALLER, caller_environment
from harness import CURL, KINDS, Kind, until

pytestmark = pytest.mark.kernel

# Listens on a port of loopback that it prints, and does nothing else.
LISTENER = """
    import socket, time
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    time.sleep(600)
"""

# Connects whoever asks by CONNECT to the address and port of its arguments.
PROXY = """
    import socket, sys, threading
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)

    def pump(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.close()

    def serve(client):
        while b"\\r\\n\\r\\n" not in client.recv(65536):
            pass
        upstream = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        client.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
        threading.Thread(target=pump, args=(upstream, client), daemon=True).start()
        pump(client, upstream)

    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""

# Takes requests in plain text, and opens the TLS connection itself, to the server that they name.
SIDECAR = """
    import socket, ssl, sys, threading
    context = ssl.create_default_context(cafile=sys.argv[3])
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)

    def pump(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)

    def serve(client):
        head = b""
        while b"\\r\\n\\r\\n" not in head:
            head += client.recv(65536)
        host = next(line for line in head.split(b"\\r\\n") if line.lower().startswith(b"host:"))
        name = host.split(b":")[1].strip().decode()
        upstream = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        upstream = context.wrap_socket(upstream, server_hostname=name)
        upstream.sendall(head)
        threading.Thread(target=pump, args=(client, upstream), daemon=True).start()
        pump(upstream, client)
        client.close()

    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def script(tmp_path):
    """Runs a Python script under a name, gives the process and the port that it prints."""
    running = []

    def start(name: str, text: str, *arguments: str):
        file = tmp_path / name
        file.write_text(textwrap.dedent(text))
        command = [sys.executable, str(file), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in running:
        process.kill()
        process.wait()


def explain(sonde, about) -> dict:
    """The one program that it can be, explained."""
    return sonde.rows("services", "explain", str(about))[0]


def test_a_program_that_is_discovered_and_one_that_is_not_are_explained(sonde, client):
    known, other = (
        client(KINDS[0]),
        client(Kind("idle", KINDS[0].command, "openai", "m", "cpython")),
    )
    known.call(stream=False)
    row = sonde.service(known.pid)
    why = explain(sonde, known.pid)
    assert why["discovered"] and why["sonde.workload.key"] == row["sonde.workload.key"]
    assert "api.openai.com" in why["verdict"]
    about = [step["about"] for step in why["steps"]]
    assert about[:2] == ["process", "identity"] and "names" in about and "sockets" in about
    shown = sonde.cli("services", "explain", str(known.pid)).stdout
    assert "api.openai.com by TLS server name" in shown
    del other
    done = sonde.cli("services", "explain", "nobody", check=False)
    assert done.returncode == 64 and "nobody" in done.stderr


def test_models_and_providers_are_listed_with_their_times_and_outlive_a_restart(up, client):
    sonde, program = up(), client(KINDS[0])
    program.call(stream=False)
    row = sonde.service(program.pid)
    key = row["sonde.workload.key"]
    assert [one["what"] for one in row["sonde.asked"]] == ["provider"], "no call was read yet"
    sonde.wish(key, "network")
    program.call(stream=False)

    def row_with_model() -> dict:
        rows = [row for row in sonde.services() if row["sonde.workload.key"] == key]
        return next((row for row in rows if row.get("sonde.models")), None)

    row = until("the model is known", row_with_model)
    assert row["sonde.models"] == [program.kind.model]
    asked = {one["name"]: one for one in row["sonde.asked"]}
    assert set(asked) == {"openai", program.kind.model}
    for one in asked.values():
        assert row["sonde.first_seen"] <= one["first_seen"] <= one["last_seen"]
    assert program.kind.model in sonde.cli("services").stdout
    assert sonde.stop() == 0
    sonde.start()
    row = until("the model is known again", row_with_model)
    again = {one["name"]: one["first_seen"] for one in row["sonde.asked"]}
    assert again == {name: one["first_seen"] for name, one in asked.items()}


def test_a_proxy_is_not_named_and_the_program_behind_it_is(sonde, stand_in, script):
    proxy, port = script("proxy.py", PROXY, stand_in.address, str(stand_in.port))
    command = [CURL, "--silent", "--proxy", f"http://127.0.0.1:{port}", "--cacert", stand_in.ca]
    command += ["https://api.openai.com/v1/models", "--header", "x-test: relay"]
    subprocess.run(command, check=False, capture_output=True, timeout=20)

    def curl():
        rows = [row for row in sonde.services() if row["service.name"] == "curl"]
        return next((row for row in rows if "openai" in row["sonde.providers"]), None)

    until("curl is discovered", curl)
    why = until("the proxy was heard", lambda: explain(sonde, proxy.pid), 5)
    assert not why["discovered"] and "passes on" in why["verdict"], why
    pids = [one["process.pid"] for row in sonde.services() for one in row["sonde.instances"]]
    assert proxy.pid not in pids


def test_a_sidecar_that_opens_the_tls_connection_itself_is_not_named(sonde, stand_in, script):
    # docs/discovery.md, line 4: as a service mesh does it.
    sidecar, port = script("sidecar.py", SIDECAR, stand_in.address, str(stand_in.port), stand_in.ca)
    environment = os.environ | caller_environment(
        stand_in, "127.0.0.1", CALL_URL=f"http://api.openai.com:{port}/v1/chat/completions"
    )
    command = [sys.executable, str(CALLER), "by-a-sidecar"]
    program = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        row = sonde.service(program.pid)
        assert json.loads(program.stdout.readline())["ok"], "the sidecar works"
        assert "openai" in row["sonde.providers"]
        assert row["sonde.evidence"][0]["by"] == "host"
        until(
            "the sidecar was heard", lambda: "passes on" in explain(sonde, sidecar.pid)["verdict"]
        )
        pids = [one["process.pid"] for row in sonde.services() for one in row["sonde.instances"]]
        assert program.pid in pids and sidecar.pid not in pids
    finally:
        program.kill()
        program.wait()


HOSTILE = "<script>alert(1)</script>\n\x1b[31m\x07\u202e"


@pytest.mark.parametrize("in_group", [False, True])
def test_names_arguments_and_cgroups_that_are_hostile_are_text(sonde, stand_in, tmp_path, in_group):
    # A file and a directory may have any bytes but two; so may arguments and, but for the newline,
    # groups.
    directory = os.fsencode(tmp_path) + b"/" + HOSTILE.replace("/", "").encode() + b"\xff\xfe"
    os.mkdir(directory)
    executable = directory + b"/<img src=x onerror=alert(2)>\n\x1b]0;t\x07\xc3"
    shutil.copy(os.path.realpath("/usr/bin/python3"), executable)
    command = [executable, str(CALLER).encode(), HOSTILE.encode(), b"\xff\xfe\xc3(", b"x" * 100_000]
    environment = os.environ | caller_environment(stand_in, stand_in.address)
    environment |= {"PYTHONHOME": "/usr", "OTEL_SERVICE_NAME": HOSTILE, "CALL_CA": stand_in.ca}
    group = groups.unified() / ("sonde-" + HOSTILE.replace("/", "").replace("\n", "") + ".service")
    if in_group:
        group.mkdir()
        shell = b'echo $$ >"$1/cgroup.procs" && shift && exec "$@"'
        command = [b"sh", b"-c", shell, b"sh", os.fsencode(group), *command]
    process = subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.DEVNULL)
    try:
        row = sonde.service(process.pid, 30)
        assert "openai" in row["sonde.providers"]
        said = json.dumps(row, ensure_ascii=False)
        shown = (
            sonde.cli("services").stdout + sonde.cli("services", "explain", str(process.pid)).stdout
        )
        for text in (said, shown.replace("\n", "")):
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
        assert len(said) < 30_000
        assert len(row["sonde.workload.key"]) < 500
        assert len(row["service.name"]) <= 128
    finally:
        process.kill()
        process.wait()
        groups.remove(group)


def test_a_model_server_that_starts_later_is_found_and_a_port_alone_is_not(sonde, script):
    server, port = script("ollama", LISTENER, "serve")
    other, _ = script("listener.py", LISTENER)
    row = sonde.service(server.pid, 15)
    assert row["sonde.providers"] == ["ollama"]
    first = row["sonde.evidence"][0]
    assert (first["by"], first["confidence"]) == ("listen", "likely")
    assert first["seen"] == f"127.0.0.1:{port}"
    assert not explain(sonde, other.pid)["discovered"]


def test_rules_leave_programs_out_and_can_be_tried(up, client):
    python = subprocess.run(["readlink", "-f", sys.executable], capture_output=True, text=True)
    path = python.stdout.strip()
    sonde = up("--exclude", f"path={path}")
    left_out, node = client(KINDS[0]), client(KINDS[4])
    left_out.call(stream=False)
    node.call(stream=False)
    sonde.service(node.pid)
    pids = [one["process.pid"] for row in sonde.services() for one in row["sonde.instances"]]
    assert left_out.pid not in pids
    why = explain(sonde, left_out.pid)
    assert not why["discovered"] and "exclude 1" in why["verdict"], why
    tried = sonde.rows("services", "test-rules", "--exclude", "name=*", str(node.pid))
    assert [row["counts"] for row in tried] == [False]
    tried = sonde.rows("services", "test-rules", str(left_out.pid))
    assert [row["counts"] for row in tried] == [True], "these rules, not those that hold"


def test_programs_are_found_without_the_kernel_and_it_is_said(up, script):
    server, _ = script("litellm", LISTENER)
    sonde = up("--ebpf", "false")
    assert sonde.service(server.pid, 15)["sonde.providers"] == ["litellm"]
    said = sonde.cli("doctor", "--output", "json", check=False).stdout.splitlines()
    facts = [json.loads(line) for line in said]
    doctor = {fact["sonde.doctor.name"]: fact["sonde.doctor.standing"] for fact in facts}
    assert doctor["discovery_names"] == "limited"
    assert doctor["discovery_sockets"] == "good"
