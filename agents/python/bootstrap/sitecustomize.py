# What Python runs first in a program whose dial stands at Full. Any Python must be able to read
# this file, 2.7 too, and nothing that happens in it may reach the program.
"""Takes itself out of the way, loads what the program would have loaded, lets the agent in."""

import sys


def _warn(text):
    try:
        sys.stderr.write("sonde: %s\n" % text)
    except Exception:
        pass


def _leave():
    """Takes our directory off the path; children find it in PYTHONPATH. Gives its parent."""
    import os

    ours = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [one for one in sys.path if os.path.abspath(one or ".") != ours or not one]
    sys.path_importer_cache.pop(ours, None)
    # A name that leads to another bundle tomorrow must not mix two of them in one process.
    return os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def _enter(bundle):
    """Loads the agent from its place; it never has a name on the path."""
    import os

    if "sonde_agent" in sys.modules:
        return
    if os.environ.get("SONDE_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        return
    implementation = getattr(getattr(sys, "implementation", None), "name", "")
    if sys.version_info < (3, 9):
        _warn(
            "the agent is not loaded: it needs Python 3.9, this is %d.%d; "
            "`network` works with it" % sys.version_info[:2]
        )
        return
    if implementation != "cpython":
        _warn(
            "the agent is not loaded: it is for CPython, this is %s; "
            "`network` works with it" % implementation
        )
        return
    from importlib.machinery import SourceFileLoader
    from types import ModuleType

    class Loader(SourceFileLoader):
        """Reads, and never writes: no `__pycache__` beside what it reads."""

        def set_data(self, *_args, **_more):
            pass

    path = os.path.join(bundle, "agent", "sonde_agent", "__init__.py")
    loader = Loader("sonde_agent", path)
    agent = ModuleType("sonde_agent")
    # Packages of ours lead nowhere, so that Python's own finder, which would write, finds none.
    agent.__file__, agent.__path__, agent.__loader__ = path, [], loader
    agent.Loader = Loader
    sys.modules["sonde_agent"] = agent
    try:
        exec(loader.get_code("sonde_agent"), agent.__dict__)
        agent.enter(_warn)
    except BaseException:
        # Nothing of it stays.
        for name in [one for one in sys.modules if one.split(".")[0] == "sonde_agent"]:
            sys.modules.pop(name, None)
        raise


def _next():
    """Imports the program's own module of this name, as if there were no other."""
    this = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    finally:
        # The machinery that runs this file looks it up when it ends.
        if this is not None and "sitecustomize" not in sys.modules:
            sys.modules["sitecustomize"] = this


_bundle = None
try:
    _bundle = _leave()
except Exception:
    pass
try:
    # Where there is none this fails, and so does this file: as without us, nobody can import it.
    _next()
finally:
    if _bundle is not None:
        try:
            _enter(_bundle)
        except Exception:
            _warn("the agent is not loaded: %s" % (sys.exc_info()[1],))
