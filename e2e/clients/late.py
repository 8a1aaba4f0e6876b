"""Calls a model API with nothing but the standard library, which is loaded with the first call.

A line of standard input is one call (`stream`, `model`, `wanted`); with `fork` it is made by a
child, with `load` nothing but the TLS library is loaded. Until the first line this process has
none mapped.
"""

import json
import os
import sys


def call(asked: dict) -> dict:
    """One call of OpenAI chat completions."""
    import urllib.error
    import urllib.request

    body = {"model": asked["model"], "messages": [], "stream": asked["stream"]}
    headers = {"content-type": "application/json", "x-stand-in": json.dumps(asked["wanted"])}
    url = "https://api.openai.com/v1/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
            return {"ok": True}
    except urllib.error.HTTPError as error:
        return {"ok": False, "status": error.code}


def main() -> None:
    """Answers lines until standard input ends."""
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["wanted"].get("load"):
            import ssl

            print(json.dumps({"ok": True, "library": ssl.OPENSSL_VERSION}), flush=True)
            continue
        if not asked["wanted"].get("fork"):
            print(json.dumps(call(asked)), flush=True)
            continue
        child = os.fork()
        if child == 0:
            # The child is seen as new within a second; it calls after that.
            import time

            time.sleep(1.2)
            print(json.dumps(call(asked) | {"child": os.getpid()}), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
