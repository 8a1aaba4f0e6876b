"""Streams that are read, left, and cut, and an error: what the program sees of each."""

import asyncio
import json

import openai

client = openai.OpenAI(max_retries=0)


def question(**wanted) -> dict:
    """What is asked, for a stream that goes as wanted."""
    return {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "CANARY-of-a-prompt"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "extra_headers": {"x-stand-in": json.dumps(wanted)},
    }


def stream(**wanted):
    """A stream that goes as wanted."""
    return client.chat.completions.create(**question(**wanted))


def read(limit: int | None = None, **wanted) -> list:
    """Class of the stream, how many events came, and what ended it."""
    seen, end = 0, "end"
    try:
        events = stream(**wanted)
        for _ in events:
            seen += 1
            if seen == limit:
                break
    except Exception as error:
        end = type(error).__name__
    return [seen, end]


async def read_async(**wanted) -> list:
    """The same of the client that does not wait."""
    seen, end = 0, "end"
    async with openai.AsyncOpenAI(max_retries=0) as client:
        try:
            events = await client.chat.completions.create(**question(**wanted))
            async for _ in events:
                seen += 1
        except Exception as error:
            end = type(error).__name__
    return [seen, end]


with stream() as managed:
    inside = sum(1 for _ in managed)
told = {
    "whole": read(),
    "left": read(limit=2),
    "cut": read(cut_after=3),
    "async": asyncio.run(read_async(cut_after=3)),
    "refused": read(status=429),
    "managed": inside,
    "next": type(next(iter(stream()))).__name__,
}
print(json.dumps(told))
