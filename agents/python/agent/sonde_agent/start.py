"""Instruments a library: sets up what records and sends, once, and lets the SDK wrap."""

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import sys

from sonde_agent import fixes, mark, others

_HOME = "sonde_agent.vendor"
_VERSION = re.compile(r"\d+")

_ready = None
_started = []


def instrument(library, warn):
    """Instruments one library, where the program's own version of it is one that the SDK knows."""
    global _ready
    if _ready is None:
        _ready = set_up(warn)
    if _ready is False:
        return
    names = importlib.import_module(f"{_HOME}.openlit._instrumentors")
    module, _, kind = names.INSTRUMENTOR_MAP[library].rpartition(".")
    instrumentor = getattr(importlib.import_module(f"{_HOME}.{module}"), kind)()
    unfit, version = fits(instrumentor.instrumentation_dependencies())
    if unfit:
        mark.leave("stood-down", "library-version", unfit)
        warn(f"{unfit}; its steps are not recorded, `network` works with it")
        return
    with fixes.around(library):
        instrumentor.instrument(
            environment=os.environ.get("OTEL_DEPLOYMENT_ENVIRONMENT", "default"),
            application_name=os.environ.get("OTEL_SERVICE_NAME", "default"),
            pricing_info={},
            capture_message_content=_ready.everything,
            disable_metrics=True,
            disable_events=True,
            capture_db_parameters=False,
        )
    _started.append(f"{library}={version}")
    mark.leave("started", *_started)


def set_up(warn):
    """Makes what records and sends; False where something speaks against it."""
    own = others.own_openlit(importlib.util.find_spec, os.environ)
    reason = own or others.no_threads(sys.modules)
    if reason:
        mark.leave("stood-down", *reason)
        warn(f"the agent does not start: {reason[1]}; `network` works with it")
        return False
    from sonde_agent import export, guard, post, spans

    endpoint = os.environ.get("SONDE_AGENT_ENDPOINT", "")
    if not endpoint:
        mark.leave("stood-down", "no-endpoint", "SONDE_AGENT_ENDPOINT is not set")
        return False
    everything = os.environ.get("SONDE_AGENT_CONTENT", "") == "1"
    target = post.Target(endpoint, os.environ.get("SONDE_AGENT_HEADERS", ""))
    # The SDK's own lines are not the program's.
    logging.getLogger(_HOME).addHandler(logging.NullHandler())
    logging.getLogger(_HOME).propagate = False
    exporter = export.Exporter(target, everything)
    trace = importlib.import_module(f"{_HOME}.opentelemetry.trace")
    trace.set_tracer_provider(spans.Provider(exporter))
    wrapt = importlib.import_module(f"{_HOME}.wrapt")
    plain = wrapt.wrap_function_wrapper

    def wrap(target, name, wrapper):
        return plain(target, name, guard.guarded(wrapper, warn))

    wrapt.wrap_function_wrapper = wrap
    # Where an API tells no tokens the SDK would count letters.
    helpers = importlib.import_module(f"{_HOME}.openlit.__helpers")
    helpers.general_tokens = lambda _text: spans.Untold()
    settings = importlib.import_module(f"{_HOME}.openlit._config").OpenlitConfig()
    settings.capture_message_content = everything
    settings.disable_metrics = settings.disable_events = True
    settings.metrics_dict = None
    return exporter


def fits(wanted):
    """Which version of the library there is, and what is wrong with it where something is."""
    version = ""
    for line in wanted:
        name, _, least = line.partition(" ")
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        least = re.search(r">=\s*([\d.]+)", least)
        if least and numbers(version) < numbers(least.group(1)):
            return f"{name} {version} is older than {least.group(1)}", version
        break
    return None, version


def numbers(version):
    """The numbers of a version, in order."""
    return tuple(int(part) for part in _VERSION.findall(version)[:3])
