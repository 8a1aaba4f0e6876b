"""What every instrumentation is made from."""


class BaseInstrumentor:
    """One for each library and process."""

    _instance = None

    def __new__(cls, *_args, **_more):
        if cls._instance is None:
            cls._instance = object.__new__(cls)
        return cls._instance

    def instrumentation_dependencies(self):
        """What the instrumentation is made for, such as `openai >= 1.92.0`."""
        return ()

    def instrument(self, **more):
        """Wraps the library."""
        self._instrument(**more)

    def _instrument(self, **_more):
        raise NotImplementedError
