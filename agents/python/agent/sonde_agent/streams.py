"""Stands between the SDK's streams and the program: one that fails in the middle is recorded with
its error, and one that the SDK cannot follow goes on."""

import functools
import inspect


class _Source:
    """The program's own stream, as one of the SDK gets it: with its last event remembered."""

    def __init__(self, own):
        self.own, self.last, self.raised = own, (), None

    def __getattr__(self, name):
        return getattr(self.own, name)

    def __iter__(self):
        return self

    def __aiter__(self):
        return self

    def __next__(self):
        self.last = ()
        try:
            event = next(self.own)
        except BaseException as error:
            self.raised = error
            raise
        self.last = (event,)
        return event

    async def __anext__(self):
        self.last = ()
        try:
            event = await self.own.__anext__()
        except BaseException as error:
            self.raised = error
            raise
        self.last = (event,)
        return event


def watched(result, failed):
    """What a wrapper gave, which may be a stream of the SDK's in front of the program's."""
    kind, held = type(result), getattr(result, "__dict__", {})
    own = held.get("__wrapped__")
    if own is None or "_span" not in held or isinstance(own, _Source):
        return result
    if "_sonde_follows" not in kind.__dict__:
        follow(kind, failed)
    result.__wrapped__ = _Source(own)
    return result


def follow(kind, failed):
    """Has each step of a class of streams looked at."""
    kind._sonde_follows = True

    def seen(self, error):
        """What the program gets after an error: where that was ours, the event all the same."""
        source = self.__wrapped__
        if error is source.raised or not source.last:
            # What has ended stays as it is.
            self._span.record_exception(error)
            self._span.set_status(_error())
            self._span.end()
            raise error
        failed(error)
        return source.last[0]

    for name, end in (("__next__", StopIteration), ("__anext__", StopAsyncIteration)):
        step = kind.__dict__.get(name)
        if inspect.iscoroutinefunction(step):
            setattr(kind, name, _async(step, end, seen))
        elif step is not None:
            setattr(kind, name, _plain(step, end, seen))


def _plain(step, end, seen):
    @functools.wraps(step)
    def following(self):
        try:
            return step(self)
        except end:
            raise
        except Exception as error:
            return seen(self, error)

    return following


def _async(step, end, seen):
    @functools.wraps(step)
    async def following(self):
        try:
            return await step(self)
        except end:
            raise
        except Exception as error:
            return seen(self, error)

    return following


def _error():
    from sonde_agent.vendor.opentelemetry import trace

    return trace.StatusCode.ERROR
