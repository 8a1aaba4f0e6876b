"""A chat assistant, as many are written: OpenAI chat completions, streamed."""

import json
import random
import time
import urllib.error
import urllib.request

QUESTIONS = [
    ("gpt-4o-mini", "Which of our invoices of March are still open?"),
    ("gpt-4o-mini", "Write a friendly reminder for the second one."),
    ("gpt-4o", "Compare the two offers and say which one is cheaper over three years."),
    ("gpt-4o-mini", "What changed in release 2.4?"),
]


def ask(model: str, question: str) -> int:
    """Asks, and gives the number of events of the answer."""
    body = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": question}],
    }
    # What the stand-in answers with; the provider itself would ignore this header.
    answer = {
        "input": random.randint(180, 2400),
        "output": random.randint(30, 240),
        "words": random.randint(12, 40),
        "delay": random.uniform(0.15, 0.6),
        "pause": random.uniform(0.01, 0.04),
    }
    headers = {
        "content-type": "application/json",
        "authorization": "Bearer demo",
        "x-stand-in": json.dumps(answer),
    }
    request = urllib.request.Request(
        "https://api.openai.com/v1/chat/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return sum(line.startswith(b"data:") for line in response)


def main() -> None:
    """Asks one question after the other, for ever."""
    while True:
        for model, question in QUESTIONS:
            try:
                ask(model, question)
            except urllib.error.HTTPError as error:
                time.sleep(float(error.headers.get("retry-after", "1")))
            except OSError:
                time.sleep(1)
            time.sleep(random.uniform(0.8, 2.0))


if __name__ == "__main__":
    main()
