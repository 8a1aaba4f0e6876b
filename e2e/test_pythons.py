"""One bundle for each CPython from 3.9 to 3.14, for glibc and musl, with its lock and without.

The same unmodified program calls the stand-in under each, with the client of OpenAI: what it prints
and how it ends is the same with and without the SDK, and each call is a span.
"""

import concurrent.futures
import os

import pytest

from agent import BUNDLE, CACHE, CANARY, environment, interpreters, pythons, run
from harness import HERE, SONDE

PROGRAM = HERE / "pythons" / "calls.py"
# One each of: asked and waited for, awaited, streamed; and four at once.
CALLS = 7
# What `./dev` gives to every machine, with what it is called there.
MADE = ["3.9-debian", "3.13-debian", "3.14-debian", "3.13-musl", "3.13t"]
# Beside them the versions that only this machine has.
NAMES = MADE + [name for name in pythons() if f"{name}-debian" not in MADE]


@pytest.fixture
def python(request) -> str:
    """The interpreter of that name."""
    found = interpreters().get(request.param)
    if found is None:
        how = "SONDE_LONG_RUN=1 ./dev test" if request.param == "3.13t" else "./dev test"
        pytest.skip(f"CPython {request.param} is not here: `{how}` makes it, as root")
    return found


@pytest.fixture(scope="module")
def agents(tmp_path_factory):
    """Where `sonde run` lays the bundle down, once for all of them."""
    return tmp_path_factory.mktemp("agents") / "python"


def packages(python: str) -> str:
    """The directory of the client for this interpreter."""
    name = next(name for name, path in interpreters().items() if path == python)
    return str(CACHE / "pythons" / "packages" / name.removesuffix("-debian"))


each = pytest.mark.parametrize("python", NAMES, indirect=True)


@each
def test_a_program_is_the_same_with_the_sdk_and_each_call_is_a_span(python, stand_in, sink, agents):
    own = environment(None, stand_in, PYTHONPATH=packages(python))
    command = [SONDE, "run", "--agent-endpoint", sink.endpoint, "--agent-bundle", agents, "--"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with_it = pool.submit(run, *command, python, PROGRAM, env=own)
        without = run(python, PROGRAM, env=own)
        done = with_it.result()
    assert without.returncode == 3, without.stderr
    assert (done.returncode, done.stdout, done.stderr) == (3, without.stdout, without.stderr)
    # What waited was sent before the program ended.
    assert [span.attributes["gen_ai.operation.name"] for span in sink.spans] == ["chat"] * CALLS
    for span in sink.spans:
        said = span.attributes
        assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (42, 17)
        assert not span.failed
    assert CANARY not in sink.bytes
    assert len({span.id for span in sink.spans}) == CALLS


@pytest.mark.parametrize("python", MADE, indirect=True)
def test_one_that_stands_down_says_why_and_the_program_runs_on(python, sink, tmp_path):
    """A package `openlit` of the program's own is a reason that every Python can have."""
    (tmp_path / "openlit").mkdir()
    (tmp_path / "openlit" / "__init__.py").write_text("")
    path = f"{BUNDLE / 'bootstrap'}:{tmp_path}:{packages(python)}"
    code = "import openai.resources, sys; print(6 * 7); sys.exit(3)"
    done = run(python, "-c", code, env=environment(sink, PYTHONPATH=path))
    assert (done.returncode, done.stdout) == (3, "42\n"), done.stderr
    assert "the program has an OpenLIT SDK of its own" in done.stderr
    assert sink.spans == []


@pytest.mark.skipif(os.geteuid() != 0, reason="`./dev` makes them as root")
def test_the_oldest_and_the_newest_are_tested_on_every_machine():
    assert set(MADE) - set(interpreters()) <= {"3.13-musl", "3.13t"}, "these take a compiler"


@pytest.mark.parametrize("python", ["3.13-musl"], indirect=True)
def test_the_one_for_musl_is_loaded_by_musl(python):
    code = (
        "import os; print({line.split()[-1] for line in open('/proc/self/maps') if '.so' in line})"
    )
    done = run(python, "-c", code, env=environment(None))
    assert "-linux-musl/libc.so" in done.stdout, done.stderr
    assert "libc.so.6" not in done.stdout


@pytest.mark.parametrize("python", ["3.13t"], indirect=True)
def test_one_without_its_lock_stays_without(python):
    """A native module that does not know of it would bring the lock back; the bundle has none."""
    code = "import sys, openai; print(sys._is_gil_enabled())"
    path = f"{BUNDLE / 'bootstrap'}:{packages(python)}"
    done = run(python, "-c", code, env=environment(None, PYTHONPATH=path))
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


@each
def test_the_bundle_stays_as_it_is(python):
    """Nothing compiled of it is left by any Python: the same files serve all of them."""
    done = run(python, "-c", "import sys; print(6 * 7)", env=environment(None))
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n", "")
    assert list((BUNDLE / "agent").rglob("__pycache__")) == []
