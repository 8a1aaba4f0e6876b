"""Names that instrumentations import."""

from opentelemetry.context import create_key

_SUPPRESS_INSTRUMENTATION_KEY = create_key("suppress_instrumentation")


def unwrap(_target, _name):
    """Nothing is unwrapped while a program runs."""
