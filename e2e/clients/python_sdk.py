"""Calls a model API through its official Python SDK, once for each line on standard input.

Usage: python_sdk.py openai|openai-async|anthropic|anthropic-async

A line is JSON: `stream`, `model`, `wanted` (see `stand_in.py`), and where not the usual: `prompt`,
`host`, and `parallel`, the number of calls that an asynchronous client makes at once, each with one
output token more. The answer is a line of JSON on standard output: `ok`, and `status` or `error`
where it is not.
"""

import asyncio
import json
import os
import sys

import anthropic
import openai

PROMPT = "Say something about probes."
# One attempt a call: a retry would be a second call, and tests count.
COMMON = {"api_key": "sk-test", "max_retries": 0, "timeout": 30}


def arguments(kind: str, call: dict) -> dict:
    """What the SDK is asked."""
    messages = [{"role": "user", "content": call.get("prompt", PROMPT)}]
    asked = {"model": call["model"], "messages": messages, "stream": call["stream"]}
    asked["extra_headers"] = {"x-stand-in": json.dumps(call.get("wanted", {}))}
    if kind.startswith("anthropic"):
        asked["max_tokens"] = 300
    elif call["stream"]:
        asked["stream_options"] = {"include_usage": True}
    return asked


def at_host(client, call: dict):
    """The client, pointed elsewhere where the call says so."""
    if "host" not in call:
        return client
    return client.with_options(base_url=f"https://{call['host']}/v1")


def call_sync(client, kind: str, call: dict) -> dict:
    """One call of a blocking client."""
    client = at_host(client, call)
    make = client.chat.completions.create if kind == "openai" else client.messages.create
    answer = make(**arguments(kind, call))
    return {"ok": True, "events": sum(1 for _ in answer) if call["stream"] else 1}


async def call_async(client, kind: str, call: dict) -> dict:
    """One call of an asynchronous client."""
    is_openai = kind.startswith("openai")
    make = client.chat.completions.create if is_openai else client.messages.create
    answer = await make(**arguments(kind, call))
    if not call["stream"]:
        return {"ok": True, "events": 1}
    events = 0
    async for _ in answer:
        events += 1
    return {"ok": True, "events": events}


async def call_parallel(client, kind: str, call: dict) -> dict:
    """Several calls at once, on as many connections as the client opens."""
    calls = []
    for number in range(call["parallel"]):
        wanted = call["wanted"] | {"output": call["wanted"].get("output", 100) + number}
        calls.append(call_async(client, kind, call | {"wanted": wanted}))
    await asyncio.gather(*calls)
    return {"ok": True}


def outcome(error: Exception) -> dict:
    """A failure as the SDK told it."""
    return {"ok": False, "error": type(error).__name__, "status": getattr(error, "status_code", 0)}


def main() -> None:
    """Answers lines until standard input ends."""
    kind = sys.argv[1]
    loop = asyncio.new_event_loop()
    clients = {
        "openai": openai.OpenAI,
        "openai-async": openai.AsyncOpenAI,
        "anthropic": anthropic.Anthropic,
        "anthropic-async": anthropic.AsyncAnthropic,
    }
    client = clients[kind](**COMMON)
    print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        call = json.loads(line)
        try:
            if kind.endswith("-async"):
                make = call_parallel if "parallel" in call else call_async
                answer = loop.run_until_complete(make(client, kind, call))
            else:
                answer = call_sync(client, kind, call)
        except (openai.OpenAIError, anthropic.AnthropicError) as error:
            answer = outcome(error)
        except Exception as error:  # a stream that is cut raises what the transport raises
            answer = outcome(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
