"""One call of OpenAI's client; with WAIT, it then waits for the end of its input."""

import os
import sys

import openai

answer = openai.OpenAI().chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "CANARY-of-a-prompt"}]
)
print(answer.id, flush=True)
if os.environ.get("WAIT"):
    sys.stdin.read()
