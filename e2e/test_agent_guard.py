"""A wrapper of the SDK that fails, before or after the program's call, changes nothing of it."""

import asyncio
import importlib
import inspect
import sys

import pytest

from harness import ROOT

sys.path.insert(0, str(ROOT / "agents" / "python" / "agent"))
guard = importlib.import_module("sonde_agent.guard")


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


class Shown:
    """A span, as far as a stream has to do with it."""

    def __init__(self):
        self.error = None

    def record_exception(self, error):
        self.error = error

    def set_status(self, _status):
        pass

    def end(self):
        pass


def following() -> type:
    """A class of streams of the SDK's, which cannot follow an event."""

    class Following:
        def __init__(self, own, span):
            self.__wrapped__, self._span = own, span

        def __iter__(self):
            return self

        def __next__(self):
            event = next(self.__wrapped__)
            if event == "odd":
                raise KeyError("in the SDK")
            return event

        def __getattr__(self, name):
            return getattr(self.__wrapped__, name)

    return Following


def test_a_stream_goes_on_whatever_the_sdk_makes_of_its_events(monkeypatch):
    monkeypatch.setattr(guard.streams, "_error", lambda: None)

    def events(fails):
        yield from ["first", "odd", "last"]
        if fails:
            raise Own

    for fails in (False, True):
        warned, span, seen, ended = [], Shown(), [], None

        kind = following()

        def wrapper(wrapped, _instance, args, _kwargs, span=span, kind=kind):
            return kind(wrapped(*args), span)

        stream = guard.guarded(wrapper, warned.append)(events, None, (fails,), {})
        assert stream.gi_running is False, "it is the program's own in all else"
        try:
            for event in stream:
                seen.append(event)
        except Own as error:
            ended = error
        assert seen == ["first", "odd", "last"]
        assert len(warned) == 1, "said once"
        assert (ended is not None) == fails
        assert span.error is ended
