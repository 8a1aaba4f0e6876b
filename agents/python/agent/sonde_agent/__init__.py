"""Lets the agent into a process, or says why not.

What runs here runs in every Python process of a service that is switched to Full, also in those
that never call a model: it looks, leaves a mark, and puts a finder into place that waits for a
library that the agent knows. No thread, no connection, no package of others.

`Loader`, set by the bootstrap, reads modules and writes none.
"""

import os
import sys

# `importlib.util` would bring half of the standard library with it.
from importlib.machinery import ModuleSpec


class Finder:
    """Finds the agent's own modules, which no path leads to."""

    def __init__(self, top, loader):
        self.top, self.loader = top, loader

    def find_spec(self, name, _path=None, _target=None):
        """The module's place, for names of ours."""
        if not name.startswith("sonde_agent."):
            return None
        stem = os.path.join(self.top, *name.split(".")[1:])
        for path, is_package in ((stem + ".py", False), (os.path.join(stem, "__init__.py"), True)):
            if os.path.exists(path):
                return spec(name, path, self.loader(name, path), is_package)
        return None


def spec(name, path, loader, is_package):
    """The specification of a module of ours. A package leads nowhere: Python's own finder, which
    would write what it compiles, has nothing to find there."""
    made = ModuleSpec(name, loader, origin=path, is_package=is_package)
    made.has_location = True
    return made


def enter(warn):
    """Lets the agent in, unless something speaks against it."""
    sys.modules["sonde_agent"].__spec__ = spec("sonde_agent", __file__, __loader__, True)
    sys.meta_path.append(Finder(os.path.dirname(__file__), Loader))  # noqa: F821
    from sonde_agent import mark, others, watch

    reason = others.tool(others.command())
    if reason:
        # An installer or a compiler of modules; nobody waits for its spans.
        return
    reason = others.reason(os.environ, sys.modules)
    if reason:
        mark.leave("stood-down", *reason)
        warn(f"the agent is not loaded: {reason[1]}; `network` works with it")
        return
    mark.leave("loaded")
    watch.start(warn)
