"""Stands between the SDK's wrappers and the program: whatever a wrapper does wrong, the program's
own call is made once, and its own result or exception is what it gets."""

import functools
import inspect

from sonde_agent import streams


class _Call:
    """What became of the program's own call."""

    def __init__(self):
        self.made, self.result, self.raised, self.pending = False, None, None, None

    def of(self, wrapped):
        """The program's function, as a wrapper gets it: of the same kind, and remembered."""
        if inspect.iscoroutinefunction(wrapped):

            @functools.wraps(wrapped)
            async def call(*args, **more):
                self.made = True
                return await self.record(wrapped(*args, **more))

        else:

            @functools.wraps(wrapped)
            def call(*args, **more):
                self.made = True
                try:
                    result = wrapped(*args, **more)
                except BaseException as error:
                    self.raised = error
                    raise
                # A decorated coroutine function is a plain one that gives a coroutine.
                if inspect.iscoroutine(result):
                    self.pending = self.record(result)
                    return self.pending
                self.result = result
                return result

        if hasattr(wrapped, "__self__"):
            call.__self__ = wrapped.__self__
        return call

    async def record(self, coroutine):
        """Awaits the program's coroutine."""
        try:
            self.result = await coroutine
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.pending = None
        return self.result

    def is_own(self, error):
        """Whether an exception is the program's, or one that nobody may hold up."""
        return error is self.raised or not isinstance(error, Exception)


def guarded(wrapper, warn):
    """A wrapper that cannot fail on its own."""
    told = []

    def failed(error):
        if not told:
            told.append(True)
            warn(f"a step is not recorded: {type(error).__name__} in the SDK")

    async def safe_async(wrapped, instance, args, kwargs):
        call = _Call()
        try:
            result = await wrapper(call.of(wrapped), instance, args, kwargs)
            return streams.watched(result, failed)
        except BaseException as error:
            if call.is_own(error):
                raise
            failed(error)
        if call.pending is not None:
            return await call.pending
        if call.raised is not None:
            raise call.raised
        if call.made:
            return call.result
        result = wrapped(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def safe(wrapped, instance, args, kwargs):
        call = _Call()
        try:
            result = wrapper(call.of(wrapped), instance, args, kwargs)
            return streams.watched(result, failed)
        except BaseException as error:
            if call.is_own(error):
                raise
            failed(error)
        if call.pending is not None:
            return call.pending
        if call.raised is not None:
            raise call.raised
        return call.result if call.made else wrapped(*args, **kwargs)

    return safe_async if inspect.iscoroutinefunction(wrapper) else safe
