"""The Python agent leaves programs as they are: whatever Python, server or agent they have."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import textwrap
import time
import urllib.request

import pytest

import agent
from agent import BUNDLE, CANARY, FRAMEWORKS, Sink, environment, interpreters, run, venv
from harness import StandIn, free_port, until

PYTHONS = interpreters()
# Says what a program sees of the agent: its path, its modules, the marks.
LOOK = """
import json, re, sys
maps = open("/proc/self/maps").read()
print(json.dumps({
    "path": [one for one in sys.path if "bootstrap" in one or "agents/python" in one],
    "sitecustomize": "sitecustomize" in sys.modules,
    "ours": [one for one in sys.modules if one.startswith("sonde_agent.vendor")],
    "threads": len(sys._current_frames()),
    "marks": re.findall(r"/memfd:sonde-agent/1 (.*) .deleted.", maps),
}))
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A stand-in that has each tool that is offered called once."""
    running = StandIn(tmp_path_factory.mktemp("tools"), "127.0.0.1:0", more=["--calls-tools"])
    yield running
    running.stop()


def look(python: str, *flags: str, **more: str) -> tuple[dict, str]:
    """What a program that does nothing sees, and its standard error."""
    done = run(python, *flags, "-c", LOOK, env=environment(None, **more))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_the_bundle_is_small_and_has_no_native_code():
    # Programs of other tests leave what they compiled of the one file that Python itself reads.
    compiled = set((BUNDLE / "bootstrap").rglob("*.pyc"))
    files = [path for path in BUNDLE.rglob("*") if path.is_file() and path not in compiled]
    assert {path.suffix for path in files if "licences" not in path.parts} == {".py", ".json"}
    assert not [path for path in files if path.read_bytes().startswith(b"\x7fELF")]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    assert sorted(path.name for path in (BUNDLE / "bootstrap").glob("*.py")) == ["sitecustomize.py"]
    for package in json.loads((BUNDLE / "manifest.json").read_text())["packages"]:
        texts = list((BUNDLE / "licences").glob(f"{package['name']}-*"))
        assert texts, f"{package['name']} has no licence"
    bill = json.loads((BUNDLE / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert len(bill["components"]) == len(list(BUNDLE.glob("licences/*")))


@pytest.mark.parametrize("version", PYTHONS)
def test_a_program_sees_nothing_of_it(version):
    """On every Python of this machine: no path, no module of a known name, no thread."""
    seen, said = look(PYTHONS[version])
    plain, _ = look(PYTHONS[version], PYTHONPATH="")
    assert seen == {
        "path": [],
        "sitecustomize": plain["sitecustomize"],
        "ours": [],
        "threads": 1,
        "marks": ["loaded"],
    }
    assert said == ""


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_isolated_interpreters_are_left_alone(flag):
    """-I and -E ignore the path; -S runs no sitecustomize. The program runs on as it is."""
    seen, said = look(agent.PYTHON, flag)
    assert (seen["marks"], said) == ([], "")


@pytest.mark.parametrize("python", agent.too_old())
def test_other_pythons_run_on_with_a_printed_reason(python):
    done = run(python, "-c", "print(6 * 7)", env=environment(None))
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert done.stderr.startswith("sonde: the agent is not loaded: ")
    assert "network" in done.stderr


def test_the_kill_switch_leaves_nothing():
    seen, said = look(agent.PYTHON, SONDE_DISABLED="1")
    assert (seen["marks"], seen["path"], said) == ([], [], "")


def test_the_programs_own_sitecustomize_and_usercustomize_run(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.own_site = __file__\n")
    user = tmp_path / "user"
    site = run(agent.PYTHON, "-c", "import site; print(site.getusersitepackages())",
               env=environment(None, PYTHONUSERBASE=str(user)))  # fmt: skip
    directory = pathlib.Path(site.stdout.strip())
    directory.mkdir(parents=True)
    (directory / "usercustomize.py").write_text("import builtins; builtins.own_user = __file__\n")
    path = f"{BUNDLE / 'bootstrap'}:{tmp_path}"
    code = "import sitecustomize; print(sitecustomize.__file__, own_site, own_user)"
    env = environment(None, PYTHONPATH=path, PYTHONUSERBASE=str(user))
    done = run(agent.PYTHON, "-c", code, env=env)
    own = str(tmp_path / "sitecustomize.py")
    assert done.stdout.split() == [own, own, str(directory / "usercustomize.py")], done.stderr
    # One that fails is told as Python tells it.
    (tmp_path / "sitecustomize.py").write_text("raise ValueError('their own')\n")
    with_us = run(agent.PYTHON, "-c", "print(1)", env=env)
    without = run(agent.PYTHON, "-c", "print(1)", env=env | {"PYTHONPATH": str(tmp_path)})
    assert (with_us.stdout, with_us.stderr) == (without.stdout, without.stderr)


def test_children_are_covered_and_installers_are_not(tmp_path):
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LOOK!r}])"
    done = run(agent.PYTHON, "-c", child, env=environment(None))
    assert json.loads(done.stdout)["marks"] == ["loaded"]
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").write_text("")
    (tmp_path / "pip" / "__main__.py").write_text(LOOK)
    done = run(agent.PYTHON, "-m", "pip", env=environment(None), cwd=tmp_path)
    assert json.loads(done.stdout)["marks"] == []


def test_nothing_becomes_importable_that_was_not():
    code = """
        import importlib.util
        names = ["openlit", "opentelemetry", "wrapt", "requests"]
        print([name for name in names if importlib.util.find_spec(name)])
    """
    done = run(next(iter(PYTHONS.values())), "-I", "-c", "print(1)", env=environment(None))
    assert done.returncode == 0
    for path in ("", str(BUNDLE / "bootstrap")):
        env = environment(None, PYTHONPATH=path)
        done = run(
            "/usr/bin/python3", "-S" if not path else "-s", "-c", textwrap.dedent(code), env=env
        )
        if not path:
            expected = done.stdout
        assert "openlit" not in done.stdout, done.stderr
    assert expected == "[]\n"


def test_a_program_with_old_pins_stays_what_it_is(api, sink):
    """Failure 1: openai, pydantic, protobuf and wrapt of other days are the ones it has."""
    python = venv("old") / "python"
    told = []
    for path in ("", str(BUNDLE / "bootstrap")):
        env = environment(sink, api, PYTHONPATH=path)
        done = run(python, FRAMEWORKS / "versions.py", env=env)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]
    assert told[0]["versions"]["pydantic"] == "1.10.17"
    assert "openai 1.40.0 is older than" in done.stderr, "it stands down with a printed reason"
    assert sink.spans == []


@pytest.mark.parametrize(
    ("name", "command", "more"),
    [
        ("Datadog", ["ddtrace-run", "python"], {"DD_TRACE_ENABLED": "false"}),
        ("OpenTelemetry", ["opentelemetry-instrument", "python"], {"OTEL_TRACES_EXPORTER": "none"}),
        ("New Relic", ["newrelic-admin", "run-python"], {"NEW_RELIC_MONITOR_MODE": "false"}),
        ("Elastic APM", ["elasticapm-run", "python"], {"ELASTIC_APM_ENABLED": "false"}),
    ],
)
def test_another_agent_is_recognised_and_left_alone(name, command, more):
    """Failure 4: the real agents, started as their makers say."""
    tools = venv("others")
    env = environment(None, **more) | {"PATH": f"{tools}:{os.environ['PATH']}"}
    done = run(tools / command[0], *command[1:], "-c", LOOK, env=env)
    assert done.returncode == 0, done.stderr
    marks = json.loads(done.stdout.splitlines()[-1])["marks"]
    # Some put a sitecustomize of their own before ours and load no other.
    assert marks == [] or marks[0].startswith("stood-down other-agent"), marks
    if marks:
        assert f"the agent is not loaded: {name} is in this process" in done.stderr


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("Datadog", "ddtrace/bootstrap"),
        ("OpenTelemetry", "opentelemetry/instrumentation/auto_instrumentation"),
        ("New Relic", "newrelic/bootstrap"),
        ("Elastic APM", "elasticapm/instrumentation/wrapper"),
    ],
)
def test_another_agent_behind_ours_on_the_path_is_loaded_alone(name, inside):
    """Failure 4: as operators of clusters inject them, by PYTHONPATH."""
    (place,) = (venv("others").parent / "lib").glob(f"*/site-packages/{inside}")
    path = f"{BUNDLE / 'bootstrap'}:{place}"
    quiet = {"DD_TRACE_ENABLED": "false", "OTEL_TRACES_EXPORTER": "none"}
    quiet |= {"NEW_RELIC_MONITOR_MODE": "false", "ELASTIC_APM_ENABLED": "false"}
    env = environment(None, PYTHONPATH=path, **quiet)
    done = run(venv("others") / "python", "-c", LOOK, env=env)
    assert done.returncode == 0, done.stderr
    (mark,) = json.loads(done.stdout.splitlines()[-1])["marks"]
    assert mark.startswith("stood-down other-agent"), mark
    assert f"the agent is not loaded: {name} is in this process" in done.stderr


def test_an_sdk_of_the_programs_own_is_left_alone(tmp_path, api, sink):
    """A program that has openlit itself decides about it; the agent does not start."""
    (tmp_path / "openlit").mkdir()
    (tmp_path / "openlit" / "__init__.py").write_text("")
    env = environment(sink, api, PYTHONPATH=f"{BUNDLE / 'bootstrap'}:{tmp_path}")
    done = run(venv("requirements") / "python", FRAMEWORKS / "openai_call.py", env=env)
    assert done.returncode == 0, done.stderr
    assert "the program has an OpenLIT SDK of its own" in done.stderr
    assert sink.spans == []
    # Where it lies there unused, its owner can say so.
    env |= {"SONDE_AGENT_BESIDE": "openlit"}
    done = run(venv("requirements") / "python", FRAMEWORKS / "openai_call.py", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert calls(sink, 1)


def calls(sink: Sink, number: int) -> list:
    """The model calls, once there are so many; each is there once."""

    def chats():
        return [one for one in sink.spans if one.attributes["gen_ai.operation.name"] == "chat"]

    until(f"{number} calls are sent", lambda: len(chats()) >= number, 30)
    time.sleep(0.5)
    assert len(chats()) == number
    return chats()


@contextlib.contextmanager
def serving(command: list, env: dict, port: int, **more):
    """A server that runs until the block ends; standard error is its log."""
    with subprocess.Popen(
        [str(part) for part in command], env=env, cwd=FRAMEWORKS, **more
    ) as running:
        try:
            until("the server answers", lambda: answers(port), 40)
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(timeout=20)
            except subprocess.TimeoutExpired:
                running.kill()


def answers(port: int) -> bool:
    """Whether something answers there."""
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).status == 200
    except OSError:
        return False


def ask(port: int, path: str = "/call") -> dict:
    """Has a server make one call; gives its process and the answer's id."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return json.loads(answer.read())


SERVERS = {
    "gunicorn": ["gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "server:application"],
    "gunicorn-preload": [
        "gunicorn", "--preload", "-w", "2", "-b", "127.0.0.1:{port}", "server:application",
    ],
    "gunicorn-gevent": [
        "gunicorn", "-k", "gevent", "-w", "1", "-b", "127.0.0.1:{port}", "server:application",
    ],
    "uwsgi": [
        "uwsgi", "--http-socket", "127.0.0.1:{port}", "--master", "--processes", "2",
        "--enable-threads", "--wsgi-file", "server.py", "--need-app", "--die-on-term",
    ],
    "uvicorn-reload": ["uvicorn", "--reload", "--port", "{port}", "server:asgi"],
}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
def test_servers_that_fork_and_reload_work(server, api, sink):
    """Failure 7: each call of each worker is sent once, from the process that made it."""
    port = free_port()
    tools = venv("requirements")
    command = [part.format(port=port) for part in SERVERS[server]]
    env = environment(sink, api, VIRTUAL_ENV=str(tools.parent))
    with serving([tools / command[0], *command[1:]], env, port):
        made = [ask(port) for _ in range(6)]
        seen = calls(sink, 6)
    assert {(one["pid"], one["id"]) for one in made} == {
        (one.resource["process.pid"], one.attributes["gen_ai.response.id"]) for one in seen
    }


def test_a_server_that_lets_no_thread_run_is_left_alone(api, sink, tmp_path):
    """uWSGI without `enable-threads`: nothing could be sent, so nothing is changed."""
    port = free_port()
    tools = venv("requirements")
    command = [tools / "uwsgi", "--http-socket", f"127.0.0.1:{port}", "--need-app", "--die-on-term"]
    command += ["--wsgi-file", "server.py"]
    env = environment(sink, api, VIRTUAL_ENV=str(tools.parent))
    with open(tmp_path / "log", "wb") as log, serving(command, env, port, stderr=log):
        marks = agent.marks(ask(port)["pid"])
    assert any(mark.startswith("stood-down no-threads") for mark in marks), marks
    assert "uWSGI lets no thread run here" in (tmp_path / "log").read_text()
    assert sink.spans == []


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_send_their_own(way, api, sink):
    done = run(
        venv("requirements") / "python", FRAMEWORKS / "many.py", way, env=environment(sink, api)
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert {one.resource["process.pid"] for one in calls(sink, len(made))} == set(made)


def test_workers_of_celery_send_their_own(api, sink, tmp_path):
    tools = venv("requirements")
    env = environment(sink, api, CELERY_DIRECTORY=str(tmp_path))
    command = [
        tools / "celery",
        "-A",
        "tasks",
        "worker",
        "--pool",
        "prefork",
        "-c",
        "2",
        "-l",
        "warning",
    ]
    with subprocess.Popen([str(part) for part in command], env=env, cwd=FRAMEWORKS) as worker:
        done = run(tools / "python", "tasks.py", "3", env=env, cwd=FRAMEWORKS)
        made = calls(sink, 3) if done.returncode == 0 else []
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=30)
    assert done.returncode == 0, done.stderr
    assert worker.pid not in {one.resource["process.pid"] for one in made}


def test_streams_that_are_left_or_fail_are_the_programs_own(api, sink):
    """Failure 8: a stream that nobody reads to its end, one that is cut, an error of the API."""
    python = venv("requirements") / "python"
    told = []
    for path in ("", str(BUNDLE / "bootstrap")):
        done = run(python, FRAMEWORKS / "streams.py", env=environment(sink, api, PYTHONPATH=path))
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]
    whole = [one for one in sink.spans if one.attributes.get("gen_ai.usage.output_tokens") == 17]
    assert whole, "the stream that was read has its tokens"
    ends = [one.attributes["error.type"] for one in sink.spans if one.failed]
    assert any("RateLimit" in end for end in ends), ends
    # The one that was cut, of each client, is no program's that gave up.
    (cut,) = {tuple(told[0][way]) for way in ("cut", "async")}
    assert sum(end.endswith(cut[1]) for end in ends) == 2, (cut, ends)
    # Of those that nobody read on: the request is known, and that it was given up.
    assert ends.count("cancelled") == 2, ends
    assert CANARY not in sink.bytes


def test_a_receiver_that_is_away_holds_nothing_up(api):
    """Nobody listens: the program does its work, and ends within the time that flushing has."""
    env = environment(None, api, SONDE_AGENT_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    done = run(venv("requirements") / "python", FRAMEWORKS / "openai_call.py", env=env, seconds=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_written_into_the_bundle(api, sink):
    """Failure 11: a mount that may only be read is enough."""
    run(venv("requirements") / "python", FRAMEWORKS / "openai_call.py", env=environment(sink, api))
    assert calls(sink, 1)
    assert list((BUNDLE / "agent").rglob("__pycache__")) == []


def test_tokens_that_the_api_did_not_tell_are_not_made_up(api, sink):
    """A stream has usage only where it is asked for: else the SDK would count letters."""
    code = """
        import openai
        asked = [{"role": "user", "content": "CANARY-of-a-prompt"}]
        chat = openai.OpenAI().chat.completions
        for _ in chat.create(model="gpt-4o-mini", messages=asked, stream=True):
            pass
    """
    done = run(
        venv("requirements") / "python", "-c", textwrap.dedent(code), env=environment(sink, api)
    )
    assert (done.returncode, done.stderr) == (0, "")
    (call,) = calls(sink, 1)
    assert [name for name in call.attributes if "tokens" in name] == []
    assert not call.failed


def test_how_far_it_came_is_seen_from_outside(api, sink):
    """Failure 28: loaded, started with the libraries, and whether its spans arrive."""
    away = f"http://127.0.0.1:{free_port()}"
    for endpoint, last in ((sink.endpoint, "sent"), (away, "unsent ConnectionRefusedError")):
        env = environment(sink, api, WAIT="1", SONDE_AGENT_ENDPOINT=endpoint)
        command = [str(venv("requirements") / "python"), str(FRAMEWORKS / "openai_call.py")]
        with subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as program:
            program.stdout.readline()

            def said(pid=program.pid, last=last):
                return [mark for mark in agent.marks(pid) if mark.startswith(last)]

            until(f"it says {last}", said, 60)
            marks = agent.marks(program.pid)
            program.stdin.close()
        assert "loaded" in marks
        assert any(mark.startswith("started openai=") for mark in marks), marks


def test_headers_name_and_attributes_are_sent(api, sink):
    more = {
        "SONDE_AGENT_HEADERS": "authorization=Bearer%20a%3Db",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "sonde.workload.key=docker:shop,team=a%20b",
    }
    run(
        venv("requirements") / "python",
        FRAMEWORKS / "openai_call.py",
        env=environment(sink, api, **more),
    )
    (call,) = calls(sink, 1)
    assert call.resource["service.name"] == "shop"
    assert call.resource["sonde.workload.key"] == "docker:shop"
    assert call.resource["team"] == "a b"
    assert sink.headers[0]["authorization"] == "Bearer a=b"


def test_content_goes_only_where_it_is_wanted(api, sink):
    python = venv("requirements") / "python"
    run(python, FRAMEWORKS / "openai_call.py", env=environment(sink, api))
    assert calls(sink, 1)
    assert CANARY not in sink.bytes
    run(python, FRAMEWORKS / "openai_call.py", env=environment(sink, api, SONDE_AGENT_CONTENT="1"))
    assert calls(sink, 2)
    assert CANARY in sink.bytes
