"""Sends spans, as OTLP in JSON over HTTP, from a thread of its own that starts with the first span
of each process. A bounded queue: what does not fit is dropped, and the program never waits."""

import atexit
import collections
import json
import os
import queue
import sys
import threading
import time

from sonde_agent import content, mark, place, post

# Spans that wait; at about two kilobytes each.
MAX_WAITING = 2048
# Spans of one request.
MAX_SENT = 256
# How long spans are gathered, and how long a program that ends is held up at most.
GATHER_SECONDS = 0.5
FLUSH_SECONDS = 2.0
# After a failure: this, twice this, …
MAX_PAUSE_SECONDS = 30.0

_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}


class Exporter:
    """The queue and its thread, of this process."""

    def __init__(self, target, everything):
        self.target, self.everything = target, everything
        # What is said of the spans so far, and the mark that says it.
        self.said, self.left = "", None
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self):
        """Begins anew: a child has neither the thread nor the spans of its parent."""
        self.waiting = collections.deque(maxlen=MAX_WAITING)
        self.thread = None
        self.starting = threading.Lock()
        # What is put there wakes the thread; of all that wakes, this alone may be used by a
        # collector of garbage that came by at any moment.
        self.wake = queue.SimpleQueue()
        self.ending, self.resource = False, None
        mark.take(self.left)
        self.said, self.left = "", None

    def begun(self):
        """A span begins: the thread is started now, since its end may be a garbage collection."""
        if self.thread is None:
            self.start()

    def ended(self, span):
        """Takes a span that ended."""
        self.waiting.append(span)
        if self.wake.empty():
            self.wake.put(None)

    def start(self):
        """Starts the thread of this process."""
        with self.starting:
            if self.thread is not None or self.ending:
                return
            self.thread = threading.Thread(target=self.run, name="sonde-agent", daemon=True)
            try:
                self.thread.start()
            except RuntimeError:
                # The interpreter ends; `flush` sends what waits.
                return
        atexit.register(self.flush)
        # Children of multiprocessing and of Celery end without `atexit`.
        for name in ("multiprocessing", "billiard"):
            util = sys.modules.get(f"{name}.util")
            process = sys.modules.get(f"{name}.process")
            if util is None or process is None:
                continue
            if getattr(process.current_process(), "_parent_pid", None) is not None:
                util.Finalize(None, self.flush, exitpriority=100)

    def run(self):
        """Sends what waits until the process ends."""
        pause = 0.0
        while not self.ending:
            self.wake.get()
            if not self.ending:
                time.sleep(GATHER_SECONDS)
            while self.waiting:
                if self.send():
                    pause = 0.0
                    continue
                if self.ending:
                    break
                pause = min(max(2 * pause, 1.0), MAX_PAUSE_SECONDS)
                try:
                    self.wake.get(timeout=pause)
                except queue.Empty:
                    pass

    def send(self):
        """Sends once; what was refused for good is gone, what failed waits on."""
        spans = []
        while self.waiting and len(spans) < MAX_SENT:
            spans.append(self.waiting.popleft())
        try:
            status = post.post(self.target, self.body(spans))
            trouble = f"the answer is {status or 'no HTTP'}"
        except Exception as error:
            status, trouble = 0, f"{type(error).__name__}: {error}"
        self.say("sent" if 200 <= status < 300 else f"unsent {trouble}")
        # 4xx, but for "too many": the same bytes will not be taken later either.
        if 200 <= status < 300 or (400 <= status < 500 and status not in (408, 429)):
            return True
        room = MAX_WAITING - len(self.waiting)
        self.waiting.extendleft(reversed(spans[-room:] if room else []))
        return False

    def say(self, state):
        """Says whether spans arrive; that the first one did stays true."""
        if self.said not in ("sent", state):
            mark.take(self.left)
            self.said, self.left = state, mark.leave(state)

    def flush(self):
        """Sends what waits, and gives up after a while: the program is about to end."""
        if self.ending:
            return
        self.ending = True
        self.wake.put(None)
        if self.thread is not None and self.thread.is_alive():
            self.thread.join(FLUSH_SECONDS)
        # Some servers never let threads run, and a new one cannot be started at the end.
        if self.waiting:
            self.send()

    def body(self, spans):
        """The request: spans by the library that made them."""
        if self.resource is None:
            self.resource = place.resource()
        scopes = {}
        for span in spans:
            try:
                scopes.setdefault(span.scope, []).append(encoded(span, self.everything))
            except Exception:
                # A span with something in it that is no value; the others go.
                continue
        scoped = [{"scope": {"name": name}, "spans": said} for name, said in scopes.items()]
        resource = {"attributes": pairs(self.resource)}
        told = {"resourceSpans": [{"resource": resource, "scopeSpans": scoped}]}
        return json.dumps(told, separators=(",", ":")).encode()


def encoded(span, everything):
    """A span in OTLP's JSON."""
    place_of = span.get_span_context()
    said = {
        "traceId": f"{place_of.trace_id:032x}",
        "spanId": f"{place_of.span_id:016x}",
        "name": content.name(span, everything),
        "kind": _KINDS.get(getattr(span.kind, "name", ""), 1),
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": pairs(content.attributes(span, everything)),
        "status": {"code": 2} if span.failed else {},
    }
    if span.parent is not None:
        said["parentSpanId"] = f"{span.parent.span_id:016x}"
    links = [link.context for link in span.links if link.context.is_valid]
    if links:
        said["links"] = [
            {"traceId": f"{one.trace_id:032x}", "spanId": f"{one.span_id:016x}"} for one in links
        ]
    return said


def pairs(attributes):
    """Attributes in OTLP's JSON."""
    return [{"key": str(key), "value": value(one)} for key, one in attributes.items()]


def value(one):
    """A value in OTLP's JSON."""
    if isinstance(one, bool):
        return {"boolValue": one}
    if isinstance(one, int):
        return {"intValue": str(one)}
    if isinstance(one, float):
        return {"doubleValue": one}
    if isinstance(one, (list, tuple)):
        return {"arrayValue": {"values": [value(each) for each in one]}}
    return {"stringValue": str(one)}
