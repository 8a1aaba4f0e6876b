"""Calls a model API over and over, each time on a new connection: the program that runs in the
containers, units and pods of the tests. Standard library only.

Environment: `CALL_URL`; `CALL_WANTED`, JSON for `stand_in.py`; `CALL_MODEL`; `CALL_EVERY`, seconds
between two calls; `CALL_TIMES`, after how many it ends, 0 for never; `CALL_CA`, the authority's
certificate as text or the path of its file; `CALL_AT`, an address that stands for the URL's host.
It says `{"ok": true}` or what failed, a line a call, and ends on SIGTERM.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import ssl
import sys
import time
import urllib.parse


def call(context: ssl.SSLContext | None, url: urllib.parse.SplitResult, body: bytes) -> dict:
    """One call on a connection of its own."""
    port = url.port or (443 if url.scheme == "https" else 80)
    at = os.environ.get("CALL_AT") or url.hostname
    raw = socket.create_connection((at, port), timeout=20)
    if context is not None:
        raw = context.wrap_socket(raw, server_hostname=url.hostname)
    connection = http.client.HTTPConnection(url.hostname, port, timeout=20)
    connection.sock = raw
    wanted = os.environ.get("CALL_WANTED", "{}")
    headers = {"content-type": "application/json", "authorization": "Bearer sk-test"}
    connection.request("POST", url.path, body, headers | {"x-stand-in": wanted})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return {"ok": answer.status == 200, "status": answer.status}


def main() -> None:
    """Calls until SIGTERM, or as often as it was asked to."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    url = urllib.parse.urlsplit(
        os.environ.get("CALL_URL", "https://api.openai.com/v1/chat/completions")
    )
    context = None
    if url.scheme == "https":
        authority = os.environ.get("CALL_CA", "")
        kind = "cafile" if authority.startswith("/") else "cadata"
        context = ssl.create_default_context(**{kind: authority})
    messages = [{"role": "user", "content": "Say something about probes."}]
    model = os.environ.get("CALL_MODEL", "gpt-4o-mini")
    body = json.dumps({"model": model, "messages": messages}).encode()
    times = int(os.environ.get("CALL_TIMES", "0"))
    for _ in range(times) if times else itertools.count():
        try:
            said = call(context, url, body)
        except OSError as error:
            said = {"ok": False, "error": str(error)}
        print(json.dumps(said), flush=True)
        time.sleep(float(os.environ.get("CALL_EVERY", "0.5")))


if __name__ == "__main__":
    main()
