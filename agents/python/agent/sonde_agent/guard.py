"""Stands between the SDK's wrappers and the program: whatever a wrapper does wrong, the program's
own call is made once, and its own result or exception is what it gets."""

import inspect


class _Call:
    """The program's function, as a wrapper gets it: remembers what it did."""

    __slots__ = ("_wrapped", "made", "raised", "result")

    def __init__(self, wrapped):
        self._wrapped, self.made, self.result, self.raised = wrapped, False, None, None

    def __call__(self, *args, **more):
        self.made = True
        try:
            self.result = self._wrapped(*args, **more)
        except BaseException as error:
            self.raised = error
            raise
        return self.result

    def __getattr__(self, name):
        return getattr(self._wrapped, name)


class _AsyncCall(_Call):
    """The same of a coroutine function."""

    __slots__ = ()

    async def __call__(self, *args, **more):
        self.made = True
        try:
            self.result = await self._wrapped(*args, **more)
        except BaseException as error:
            self.raised = error
            raise
        return self.result


def guarded(wrapper, warn):
    """A wrapper that cannot fail on its own."""
    if inspect.iscoroutinefunction(wrapper):

        async def safe_async(wrapped, instance, args, kwargs):
            call = _AsyncCall(wrapped)
            try:
                return await wrapper(call, instance, args, kwargs)
            except BaseException as error:
                if error is call.raised or not isinstance(error, Exception):
                    raise
                failed(error)
            if call.raised is not None:
                raise call.raised
            return call.result if call.made else await wrapped(*args, **kwargs)

    def safe(wrapped, instance, args, kwargs):
        call = _Call(wrapped)
        try:
            return wrapper(call, instance, args, kwargs)
        except BaseException as error:
            if error is call.raised or not isinstance(error, Exception):
                raise
            failed(error)
        if call.raised is not None:
            raise call.raised
        return call.result if call.made else wrapped(*args, **kwargs)

    told = []

    def failed(error):
        if not told:
            told.append(True)
            warn(f"a step is not recorded: {type(error).__name__} in the SDK")

    return safe_async if inspect.iscoroutinefunction(wrapper) else safe
