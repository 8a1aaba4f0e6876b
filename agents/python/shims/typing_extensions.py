"""The few names of `typing_extensions` that OpenTelemetry's API uses, without its weight."""

import typing
from typing import Any, Literal, final  # noqa: F401

# Only read by checkers; in the oldest Pythons something has to stand in their place.
ParamSpec = getattr(typing, "ParamSpec", None) or typing.TypeVar
TypeAlias = getattr(typing, "TypeAlias", Any)


def deprecated(_message, **_more):
    """Marks nothing: the one who would be warned is the author of an instrumentation."""

    def unchanged(what):
        return what

    return unchanged
