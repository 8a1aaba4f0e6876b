"""Celery over a directory as its broker; `tasks.py N` asks for N calls and waits for them."""

import os
import sys

import celery
import openai

PLACE = os.environ["CELERY_DIRECTORY"]
app = celery.Celery("tasks", broker="filesystem://", backend=f"file://{PLACE}")
for name in ("queue", "done"):
    os.makedirs(f"{PLACE}/{name}", exist_ok=True)
app.conf.broker_transport_options = {
    "data_folder_in": f"{PLACE}/queue",
    "data_folder_out": f"{PLACE}/queue",
    "control_folder": f"{PLACE}/done",
}


@app.task
def call() -> str:
    """Makes a call."""
    answer = openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "CANARY-of-a-prompt"}]
    )
    return answer.id


if __name__ == "__main__":
    waiting = [call.delay() for _ in range(int(sys.argv[1]))]
    print([one.get(timeout=60) for one in waiting])
