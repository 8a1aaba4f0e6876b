"""What may leave the process. Without the wish for content, only attributes that are known to hold
none: a list of what goes, not of what stays, since libraries invent names."""

import re

# Names that go, and prefixes.
_NAMES = {
    "error.type",
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.agent.version",
    "gen_ai.conversation.id",
    "gen_ai.data_source.id",
    "gen_ai.operation.name",
    "gen_ai.output.type",
    "gen_ai.provider.name",
    "gen_ai.request.is_stream",
    "gen_ai.system",
    "gen_ai.token.type",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.workflow.name",
    "http.response.status_code",
    "server.address",
    "server.port",
    "session.id",
}
_PREFIXES = ("gen_ai.request.", "gen_ai.response.", "gen_ai.usage.", "gen_ai.server.", "openai.")
# Of those, what holds text of the caller, or a price that nobody was asked for.
_NEVER = {"gen_ai.request.stop_sequences", "gen_ai.request.user", "gen_ai.usage.cost"}
_CONTENT_ENDS = ("messages", "prompt", "instructions", "text", "content", "arguments", "user")
# Attributes that the name of a span may repeat; a name in code may stand there too.
_TITLES = ("gen_ai.tool.name", "gen_ai.agent.name", "gen_ai.workflow.name", "gen_ai.request.model")
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]{0,63}")
# What a name may be long: that of an agent is written by people, that of a task is a paragraph.
_LONGEST = 128


def attributes(span, everything):
    """The attributes of a span that go."""
    if everything:
        kept = {key: value for key, value in span.attributes.items() if key != "gen_ai.usage.cost"}
    else:
        kept = {key: cut(value) for key, value in span.attributes.items() if goes(key)}
    if span.error_type and "error.type" not in kept:
        kept["error.type"] = span.error_type
    return kept


def goes(key):
    """Whether an attribute holds no content."""
    if key in _NEVER or key.endswith(_CONTENT_ENDS):
        return False
    return key in _NAMES or key.startswith(_PREFIXES)


def cut(value):
    """A value, no longer than a name is."""
    return value[:_LONGEST] if isinstance(value, str) else value


def name(span, everything):
    """The name of a span: that which the conventions give, made of its operation and its object.
    What else a library writes there may be a task, which is a prompt."""
    if everything:
        return span.name
    told = span.attributes
    operation = str(told.get("gen_ai.operation.name") or "step")
    rest = span.name.removeprefix(operation).strip()
    known = {str(told[key]) for key in _TITLES if told.get(key)}
    if rest in known or _IDENTIFIER.fullmatch(rest):
        return f"{operation} {cut(rest)}"
    return operation
