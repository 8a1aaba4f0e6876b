"""`many.py WAY`: children of multiprocessing that make one call each, and end at once."""

import json
import multiprocessing
import os
import sys

import openai


def call(results) -> None:
    """Makes a call, and says who made it."""
    openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "CANARY-of-a-prompt"}]
    )
    results.put(os.getpid())


if __name__ == "__main__":
    # The parent makes one, too: what its children inherit is an agent that runs.
    context = multiprocessing.get_context(sys.argv[1])
    results = context.Queue()
    call(results)
    children = [context.Process(target=call, args=(results,)) for _ in range(3)]
    for child in children:
        child.start()
    pids = [results.get(timeout=60) for _ in range(4)]
    for child in children:
        child.join()
    print(json.dumps(pids))
