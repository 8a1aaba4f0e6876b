"""A web application, as WSGI and as ASGI, that makes a call for each request of /call."""

import json
import os

import openai

client = openai.OpenAI()


def call() -> bytes:
    """Makes a call, and says who made it."""
    answer = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "CANARY-of-a-prompt"}]
    )
    return json.dumps({"pid": os.getpid(), "id": answer.id}).encode()


def application(environ, start_response):
    """WSGI."""
    body = call() if environ["PATH_INFO"] == "/call" else b"{}"
    start_response("200 OK", [("content-type", "application/json")])
    return [body]


async def asgi(scope, _receive, send):
    """ASGI."""
    if scope["type"] != "http":
        return
    body = call() if scope["path"] == "/call" else b"{}"
    head = {"type": "http.response.start", "status": 200, "headers": []}
    await send(head)
    await send({"type": "http.response.body", "body": body})
