"""Records spans behind OpenTelemetry's API: no thread, no lock, nothing that a fork could break."""

import random
import time

from sonde_agent.vendor.opentelemetry import trace

# Attributes of one span, at most; frameworks write a few dozen.
MAX_ATTRIBUTES = 128

# Seeded by the system, and by no seed of the program; a child that forks draws from it anew.
_random = random.SystemRandom()


class Untold(int):
    """A number that nobody told, and what it is added to is not known either: no attribute."""

    def __add__(self, _other):
        return self

    __radd__ = __add__


class Span(trace.Span):
    """A step of the program, while it runs and after."""

    def __init__(self, name, kind, scope, place, parent, ended, start, attributes, links):
        self.name, self.kind, self.scope, self.parent = name, kind, scope, parent
        self.start_time, self.end_time = start or time.time_ns(), None
        self.attributes, self.links = {}, list(links or ())
        self.failed, self.error_type = False, None
        self.status = trace.Status(trace.StatusCode.UNSET)
        self._place, self._ended = place, ended
        self.set_attributes(attributes or {})

    # Instrumentations look at what OpenTelemetry's SDK has under these names.
    events = ()

    @property
    def context(self):
        """Its ids."""
        return self._place

    @property
    def _attributes(self):
        return self.attributes

    def get_span_context(self):
        """Its ids."""
        return self._place

    def is_recording(self):
        """Whether it still runs."""
        return self.end_time is None

    def set_attribute(self, key, value):
        """Notes one thing about it."""
        known = key in self.attributes or len(self.attributes) < MAX_ATTRIBUTES
        told = value is not None and not isinstance(value, Untold)
        if self.end_time is None and told and known:
            self.attributes[key] = value

    def set_attributes(self, attributes):
        """Notes several."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name, attributes=None, timestamp=None):
        """Events hold prompts and answers; they are not kept."""

    def add_link(self, context, attributes=None):
        """Ties it to another one."""
        self.links.append(trace.Link(context, attributes))

    def update_name(self, name):
        """Gives it another name."""
        self.name = name

    def set_status(self, status, description=None):
        """Notes whether it failed; a description may quote a prompt, and is not kept."""
        code = getattr(status, "status_code", status)
        self.status = trace.Status(code)
        self.failed = code is trace.StatusCode.ERROR

    def record_exception(self, exception, attributes=None, timestamp=None, escaped=False):
        """Notes the class of an exception; its message may quote a prompt."""
        kind = type(exception)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        self.error_type = module + kind.__qualname__

    def end(self, end_time=None):
        """Ends it, once."""
        if self.end_time is None:
            self.end_time = end_time or time.time_ns()
            self._ended(self)

    def __exit__(self, kind, exception, trace_back):
        if exception is not None and self.is_recording():
            self.record_exception(exception)
            self.set_status(trace.StatusCode.ERROR)
        super().__exit__(kind, exception, trace_back)

    def __del__(self):
        # A stream that nobody read to its end, a task that was given up: nobody can end it now.
        try:
            if self.end_time is None:
                self.failed, self.error_type = True, "cancelled"
                self.end()
        except Exception:
            pass


class Tracer(trace.Tracer):
    """Makes the spans of one library."""

    def __init__(self, scope, exporter):
        self.scope, self.exporter = scope, exporter

    def start_span(
        self, name, context=None, kind=trace.SpanKind.INTERNAL, attributes=None, links=None,
        start_time=None, record_exception=True, set_status_on_exception=True,
    ):  # fmt: skip
        """Starts a span below the one that is current."""
        self.exporter.begun()
        parent = trace.get_current_span(context).get_span_context()
        if not parent.is_valid:
            parent = None
        trace_id = parent.trace_id if parent else _random.getrandbits(128) or 1
        place = trace.SpanContext(
            trace_id,
            _random.getrandbits(64) or 1,
            False,
            trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        return Span(
            name,
            kind,
            self.scope,
            place,
            parent,
            self.exporter.ended,
            start_time,
            attributes,
            links,
        )

    @trace._agnosticcontextmanager
    def start_as_current_span(
        self, name, context=None, kind=trace.SpanKind.INTERNAL, attributes=None, links=None,
        start_time=None, record_exception=True, set_status_on_exception=True, end_on_exit=True,
    ):  # fmt: skip
        """Starts a span, and makes it current."""
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(
            span, end_on_exit, record_exception, set_status_on_exception
        ) as current:
            yield current


class Provider(trace.TracerProvider):
    """Gives each library its tracer."""

    def __init__(self, exporter):
        self.exporter = exporter

    def get_tracer(self, name, *_args, **_more):
        """The tracer of a library, under the name that it has outside of the bundle."""
        return Tracer(name.replace("sonde_agent.vendor.", "", 1), self.exporter)
