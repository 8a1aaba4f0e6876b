"""The command line as scripts use it: rows, exit codes, and messages that say what to do next."""

import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest

from harness import KINDS, SONDE, free_port, until

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--"]
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def run(*arguments: str, **more) -> subprocess.CompletedProcess:
    """Runs the binary, whatever comes of it."""
    return subprocess.run(
        [str(SONDE), *map(str, arguments)], capture_output=True, text=True, timeout=60, **more
    )


def refused(done: subprocess.CompletedProcess, code: int, *words: str) -> None:
    """It ended with this code, said all these words on standard error, and nothing else."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr, done.stderr
    assert "panicked" not in done.stderr


def test_version_and_completions():
    assert run("version").stdout.startswith("sonde 0.")
    for shell in ("bash", "zsh", "fish"):
        assert "sonde" in run("completions", shell).stdout


def test_a_wrong_flag_is_bad_usage():
    refused(run("up", "--lisen", "x"), 64, "--listen")
    refused(run("nonsense"), 64, "nonsense")
    refused(run("up", "--listen", "nowhere"), 64, "nowhere")


def test_a_flag_that_would_have_no_effect_is_refused(tmp_path):
    place = ["--data-dir", tmp_path]
    for command, *words in [
        (["services", *place, "set", "a", "--capture", "off"], "set", "--data-dir"),
        (["controller", "--max-capture", "off", "status"], "status", "--max-capture"),
        (["controller", "uninstall", "--dashboard", "http://x"], "--dashboard"),
        (["controller", "status", "--token", "x"], "--token"),
        (["services", "explain", "1", "--dashboard", "http://x"], "--dashboard"),
        (["storage", "restore", tmp_path, "--token-file", "x"], "--token-file"),
        (["tokens", "revoke", "1", "--output", "json"], "--output"),
        (["services", "enable", "a", "--dry-run"], "--full"),
        (["dashboard", *place, "--forward-what", "everything"], "--forward"),
        (["up", *place, "--forward-ca", "x"], "--forward"),
        (["dashboard", *place, "--clickhouse-password-file", "x"], "--clickhouse"),
        (["controller", "--dashboard", "http://x", "--otlp-header", "a=b"], "--otlp-endpoint"),
        (["controller", "--dashboard", "http://x", "--otlp-ca", "x"], "--otlp-endpoint"),
        (["controller", "--dashboard", "http://x", "--client-key", "x"], "--client-cert"),
        (["controller", "--dashboard", "http://x", "--standalone"], "--standalone"),
        (["run", "--agent-header", "a=b", "--", "true"], "--agent-endpoint"),
    ]:
        refused(run(*command), 64, *words)


def test_a_taken_port_names_it(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("up", "--data-dir", tmp_path, "--listen", place)
    refused(done, 64, place, "--listen")


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, "/proc/sonde"):
        done = run("up", "--data-dir", place, "--listen", f"127.0.0.1:{free_port()}")
        refused(done, 64, str(place), "--data-dir")


def test_all_mistakes_of_a_configuration_file_are_told(tmp_path):
    file = tmp_path / "sonde.toml"
    file.write_text('lisen = "x"\ndata-dir = "y"\n')
    refused(run("--config", file, "up"), 64, str(file), "listen", "data_dir")
    file.write_text("listen = \n")
    refused(run("--config", file, "up"), 64, "line 1")
    refused(run("--config", tmp_path / "none.toml", "up"), 64, "none.toml")


def test_nobody_to_ask_says_how_to_start(tmp_path):
    done = run("services", "--data-dir", tmp_path)
    refused(done, 64, "sonde up")


def test_a_wrong_token_is_refused(up):
    sonde = up()
    done = run("services", "--dashboard", sonde.url, "--token", "wrong")
    refused(done, 64, "token")
    done = run("services", "--dashboard", f"http://127.0.0.1:{free_port()}", "--token", "any")
    refused(done, 1, "127.0.0.1")


def test_a_token_opens_the_dashboard_to_another_machine(up):
    sonde = up()
    token = json.loads(sonde.cli("tokens", "create", "--kind", "api", "--output", "json").stdout)[
        "token"
    ]
    done = run("services", "--output", "json", "--dashboard", sonde.url, "--token", token)
    assert done.returncode == 0, done.stderr


def test_an_unknown_service_is_bad_usage(up):
    done = up().cli("services", "set", "nobody", "--capture", "off", check=False)
    refused(done, 64, "nobody", "sonde services")


def test_doctor_says_each_thing_with_its_remedy():
    done = run("doctor", "--output", "json")
    assert done.returncode in (0, 77), done.stderr
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    assert "btf" in {fact["sonde.doctor.name"] for fact in facts}
    missing = [fact for fact in facts if fact["sonde.doctor.standing"] == "missing"]
    assert bool(missing) == (done.returncode == 77)
    assert all(
        fact.get("sonde.doctor.remedy") for fact in facts if fact["sonde.doctor.standing"] != "good"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly(number, up):
    sonde = up()
    sonde.process.send_signal(number)
    assert sonde.process.wait(timeout=10) == 0
    assert not (sonde.data / "sonde.sock").exists()
    assert "panicked" not in sonde.err.read_text()
    again = sonde.start()
    assert again.stop() == 0


def test_it_prints_where_the_page_is(up):
    sonde = up()
    link = re.compile(r"\S+/login\S+")
    said = until("a login link is printed", lambda: link.search(sonde.out.read_text()))
    assert said[0].startswith(f"{sonde.url}/login?code=")


def test_the_socket_and_the_data_are_for_their_owner_alone(up):
    sonde = up()
    assert (sonde.data / "sonde.sock").stat().st_mode & 0o777 == 0o600
    assert sonde.data.stat().st_mode & 0o077 == 0


@pytest.mark.kernel
def test_rows_have_the_promised_keys(sonde, watched):
    program, key = watched(KINDS[2])
    _, answer = program.call(stream=True)
    service = sonde.service(program.pid)
    promised = "service.name sonde.workload.key sonde.platform process.pid process.command_args"
    promised += " process.runtime.name sonde.providers sonde.capture.desired"
    promised += " sonde.capture.observed sonde.capture.reason"
    assert set(promised.split()) <= set(service)
    call = sonde.call(key, answer["id"])
    promised = "time service.name gen_ai.provider.name gen_ai.operation.name gen_ai.request.model"
    promised += " gen_ai.response.model gen_ai.usage.input_tokens gen_ai.usage.output_tokens"
    promised += " gen_ai.response.finish_reasons gen_ai.response.time_to_first_chunk"
    promised += " http.response.status_code sonde.duration sonde.cost"
    assert set(promised.split()) <= set(call)
    assert isinstance(call["sonde.cost"], str)
    assert None not in call.values()


@pytest.mark.kernel
def test_follow_prints_calls_as_they_end(sonde, watched):
    program, key = watched(KINDS[0])
    command = [str(SONDE), "calls", "--follow", "--limit", "0", "--service", key]
    command += ["--output", "json", "--data-dir", str(sonde.data)]
    lines = queue.Queue()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follow:
        threading.Thread(target=lambda: list(map(lines.put, follow.stdout)), daemon=True).start()
        try:
            until("a call is followed", lambda: program.call(stream=False) and lines.qsize(), 10)
        finally:
            follow.kill()
    assert json.loads(lines.get())["sonde.workload.key"] == key


@NEEDS_ROOT
def test_without_privilege_it_runs_and_says_what_is_missing(up, nobody):
    binary = nobody / "sonde"
    shutil.copy(SONDE, binary)
    doctor = subprocess.run([*AS_NOBODY, binary, "doctor"], capture_output=True, text=True)
    assert doctor.returncode == 77, doctor.stdout
    sonde = up(binary=binary, prefix=AS_NOBODY, directory=nobody)
    assert all("sonde.capture.observed" in row for row in sonde.services())
    told = sonde.cli("doctor", "--output", "json", check=False)
    assert told.returncode == 77
    facts = [json.loads(line) for line in told.stdout.splitlines()]
    missing = [fact for fact in facts if fact["sonde.doctor.standing"] == "missing"]
    assert missing
    assert all(fact["sonde.doctor.remedy"] for fact in missing)
    assert sonde.stop() == 0


@pytest.fixture
def nobody():
    """A directory that an ordinary user may write to, unlike those of pytest."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="sonde-nobody-"))
    os.chown(place, 65534, 65534)
    yield place
    shutil.rmtree(place)
