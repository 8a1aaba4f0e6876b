"""What the agent keeps out of: programs with another agent, and those that nothing gets into."""

import json
import os

import pytest

import agent
from agent import BUNDLE, environment, run, venv

# Says how the program ended up, and changes nothing.
LOOK = """
import json, os, re, sys
maps = open("/proc/self/maps").read()
print(json.dumps({
    "marks": re.findall(r"/memfd:sonde-agent/1 (.*) .deleted.", maps),
    "path": [one for one in sys.path if "bootstrap" in one],
    "frozen": getattr(sys, "frozen", False),
    "preload": os.environ.get("LD_PRELOAD"),
}))
"""
BOOTSTRAP = str(BUNDLE / "bootstrap")
# Agents by what they leave in the environment; real ones are in `test_agent.py`.
AGENTS = [
    ("OpenTelemetry", {"OTEL_PYTHON_CONFIGURATOR": "aws_configurator"}),
    ("OpenTelemetry", {"PYTHONPATH": "/otel-auto-instrumentation-python"}),
    ("Datadog", {"DD_INJECTION_ENABLED": "tracer"}),
    ("Datadog", {"PYTHONPATH": "/datadog-lib/"}),
    ("New Relic", {"NEW_RELIC_ADMIN_COMMAND": "run-python"}),
    ("Dynatrace", {"PYTHONPATH": "/opt/dynatrace/oneagent/agent/python"}),
    ("Elastic APM", {"PYTHONPATH": "/opt/elasticapm/instrumentation/wrapper"}),
    ("AppDynamics", {"PYTHONPATH": "/opt/appdynamics/lib"}),
    ("Instana", {"AUTOWRAPT_BOOTSTRAP": "instana"}),
    ("Splunk", {"PYTHONPATH": "/opt/splunk_otel"}),
    ("OpenLIT", {"OPENLIT_CONTROLLER_MODE": "agent_observability"}),
]


def look(**more: str) -> tuple[dict, str]:
    """What a program says of itself, with the agent offered to it, and its standard error."""
    path = ":".join(one for one in (BOOTSTRAP, more.pop("PYTHONPATH", "")) if one)
    done = run(agent.PYTHON, "-c", LOOK, env=environment(None, PYTHONPATH=path, **more))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize(("name", "left"), AGENTS)
def test_every_other_agent_ends_in_a_named_state(name, left):
    """Failure 4: it stands down and says so, unless the program's owner wants both."""
    seen, said = look(**left)
    (mark,) = seen["marks"]
    assert mark.startswith(f"stood-down other-agent {name} is in this process"), mark
    assert f"the agent is not loaded: {name} is in this process" in said
    seen, said = look(SONDE_AGENT_BESIDE=name.lower(), **left)
    assert (seen["marks"], said) == (["loaded"], "")


@pytest.mark.parametrize(
    "left",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
        {"DD_API_KEY": "0", "NEW_RELIC_LICENSE_KEY": "0"},
        {"PYTHONPATH": "/srv/openlit-demo"},
    ],
)
def test_a_name_or_an_address_alone_is_no_agent(left):
    seen, said = look(**left)
    assert (seen["marks"], said) == (["loaded"], "")


def test_a_library_that_is_preloaded_stays_and_none_is_added():
    """Failure 24: nothing of ours needs LD_PRELOAD, and the program's own is its own."""
    seen, _ = look(LD_PRELOAD="libm.so.6")
    assert (seen["marks"], seen["preload"]) == (["loaded"], "libm.so.6")
    seen, _ = look()
    assert seen["preload"] is None


def test_a_frozen_program_runs_on_as_it_is(tmp_path):
    """Failure 6: one that PyInstaller made reads no path from outside."""
    (tmp_path / "app.py").write_text(LOOK)
    make = [venv("frozen") / "pyinstaller", "--onedir", "--noconfirm", "app.py"]
    made = run(*make, env=dict(os.environ), cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    done = run(tmp_path / "dist" / "app" / "app", env=environment(None))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["frozen"] is True
    assert (seen["marks"], seen["path"], done.stderr) == ([], [], "")
