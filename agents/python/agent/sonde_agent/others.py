"""Recognises what the agent must leave alone: other agents, and tools that are no service."""

import os
import sys

# Agents by what they put on the path of modules, in the environment, and among the modules.
# Their licence keys and endpoints alone prove nothing: a collector's address is no agent.
_AGENTS = (
    (
        "OpenTelemetry",
        ("opentelemetry/instrumentation/auto_instrumentation", "otel-auto-instrumentation"),
        ("OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"),
        ("opentelemetry.instrumentation.auto_instrumentation",),
    ),
    (
        "Datadog",
        ("ddtrace/bootstrap", "datadog-lib"),
        ("DD_INJECTION_ENABLED", "_DD_CONFIGURED"),
        ("ddtrace",),
    ),
    ("New Relic", ("newrelic/bootstrap",), ("NEW_RELIC_ADMIN_COMMAND",), ("newrelic",)),
    ("Dynatrace", ("oneagent",), (), ("oneagent", "autodynatrace")),
    (
        "Elastic APM",
        ("elasticapm/instrumentation/wrapper", "elastic-otel", "elasticotel"),
        (),
        ("elasticapm",),
    ),
    ("AppDynamics", ("appdynamics",), (), ("appdynamics.agent",)),
    ("Instana", ("instana/agent/python", ".instana"), ("AUTOWRAPT_BOOTSTRAP",), ("instana",)),
    ("Splunk", ("splunk_otel",), (), ("splunk_otel",)),
    (
        "OpenLIT",
        ("openlit/cli/bootstrap", "instrumentation-packages/bootstrap"),
        ("OPENLIT_CONTROLLER_MODE",),
        ("openlit",),
    ),
)
# Runs that install, build or show; as programs, and as modules.
_TOOLS = {"pip", "pip3", "pipx", "uv", "poetry", "conda", "virtualenv", "pyenv", "pre-commit"}
_MODULES = {"pip", "venv", "virtualenv", "ensurepip", "compileall", "py_compile", "build"}


def command():
    """The arguments of the process; the interpreter knows them late."""
    if hasattr(sys, "orig_argv"):
        return list(sys.orig_argv)
    try:
        with open("/proc/self/cmdline", "rb") as file:
            return [os.fsdecode(one) for one in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def tool(arguments):
    """Whether a command line is that of a tool."""
    rest = iter(arguments[1:])
    for argument in rest:
        if argument == "-m":
            return next(rest, "") in _MODULES
        if argument in ("-W", "-X"):
            next(rest, None)
        elif argument == "-c":
            return False
        elif not argument.startswith("-"):
            return os.path.basename(argument) in _TOOLS
    return False


def beside(environment):
    """Agents that somebody wants beside ours, in small letters."""
    return {one.strip().lower() for one in environment.get("SONDE_AGENT_BESIDE", "").split(",")}


def reason(environment, modules):
    """Why the agent keeps out: a word and a sentence; nothing where it may come in."""
    if "OTEL_SDK_DISABLED" in environment and environment["OTEL_SDK_DISABLED"].lower() == "true":
        return "switched-off", "OTEL_SDK_DISABLED says that nothing is to be recorded"
    paths = environment.get("PYTHONPATH", "").lower()
    preloaded = environment.get("LD_PRELOAD", "").lower()
    if "oneagent" in preloaded or "libdd" in preloaded or "datadog" in preloaded:
        return "other-agent", f"LD_PRELOAD brings another agent ({preloaded})"
    wanted = beside(environment)
    for name, places, variables, packages in _AGENTS:
        if name.lower() in wanted:
            continue
        found = [one for one in variables if environment.get(one)]
        found += [one for one in packages if one in modules]
        found += [one for one in places if one in paths]
        if found:
            return "other-agent", f"{name} is in this process ({found[0]})"
    return None


def no_threads(modules):
    """Why the agent keeps out of a server that lets no thread run."""
    server = modules.get("uwsgi")
    if server is None:
        return None
    told = {os.fsdecode(name) for name in getattr(server, "opt", {})}
    if told & {"enable-threads", "threads", "gevent"}:
        return None
    return "no-threads", "uWSGI lets no thread run here; `enable-threads` lets the agent send"


def own_openlit(find, environment):
    """Why an instrumentation keeps out where the program has the SDK of its own."""
    if "openlit" in beside(environment):
        return None
    try:
        there = find("openlit") is not None
    except (ImportError, ValueError):
        there = False
    if there:
        return "other-agent", (
            "the program has an OpenLIT SDK of its own; "
            "where it is not used, SONDE_AGENT_BESIDE=openlit says so"
        )
    return None
