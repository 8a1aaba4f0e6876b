"""Calls a model in each way that a program does, and says what it got and what it runs on."""

import asyncio
import concurrent.futures
import subprocess
import sys

import openai

MESSAGES = [{"role": "user", "content": "CANARY-of-a-prompt"}]
CALL = {"model": "gpt-4o-mini", "messages": MESSAGES}
client = openai.OpenAI()


def plain(_number: int = 0) -> tuple:
    """One call."""
    answer = client.chat.completions.create(**CALL)
    return answer.choices[0].message.content, answer.usage.total_tokens


async def awaited() -> tuple:
    """One call of the other kind of client."""
    answer = await openai.AsyncOpenAI().chat.completions.create(**CALL)
    return answer.choices[0].message.content, answer.usage.total_tokens


def streamed() -> str:
    """One call whose answer comes in parts."""
    usage = {"include_usage": True}
    parts = client.chat.completions.create(stream=True, stream_options=usage, **CALL)
    return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)


print(plain())
print(asyncio.run(awaited()))
print(streamed())
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(plain, range(4))))
child = "import sys; print(sys.version_info[:2], [p for p in sys.path if 'bootstrap' in p])"
print(subprocess.check_output([sys.executable, "-c", child], text=True))
print(sys.version, getattr(sys, "_is_gil_enabled", lambda: True)())
print("a word on standard error", file=sys.stderr)
sys.exit(3)
