"""A wrapper of the SDK that fails, before or after the program's call, changes nothing of it."""

import asyncio
import importlib.util
import inspect

import pytest

from harness import ROOT

GUARD = ROOT / "agents" / "python" / "agent" / "sonde_agent" / "guard.py"
SPEC = importlib.util.spec_from_file_location("guard", GUARD)
guard = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(guard)


class Own(Exception):
    """The program's exception."""


@pytest.mark.parametrize("where", ["before", "after", "nowhere"])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "decorated"])
def test_a_wrapper_that_fails_changes_nothing(where, fails, kind):
    made, warned = [], []

    def plain(value):
        made.append(value)
        if fails:
            raise Own
        return value + 1

    async def coroutine(value):
        return plain(value)

    def decorated(value):
        return coroutine(value)

    def wrapper(wrapped, _instance, args, kwargs):
        if where == "before":
            raise KeyError("in the SDK")
        result = wrapped(*args, **kwargs)
        if where == "after":
            raise KeyError("in the SDK")
        return result

    async def wrapper_async(wrapped, _instance, args, kwargs):
        assert inspect.iscoroutinefunction(wrapped) is (kind == "coroutine")
        if where == "before":
            raise KeyError("in the SDK")
        result = await wrapped(*args, **kwargs)
        if where == "after":
            raise KeyError("in the SDK")
        return result

    def run():
        if kind == "plain":
            return guard.guarded(wrapper, warned.append)(plain, None, (1,), {})
        function = {"coroutine": coroutine, "decorated": decorated}[kind]
        return asyncio.run(guard.guarded(wrapper_async, warned.append)(function, None, (1,), {}))

    if fails:
        with pytest.raises(Own):
            run()
    else:
        assert run() == 2
    assert made == [1], "the program's call is made once"
    # Where the program's own call failed, the SDK never came to what is after it.
    assert len(warned) == (where == "before" or (where == "after" and not fails))
