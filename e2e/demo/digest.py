"""A job that sums up tickets: Anthropic messages over a connection that stays open."""

import http.client
import json
import random
import ssl
import time

TICKETS = ["Printer on floor 3 offline", "VPN drops every hour", "Invoice shows the wrong VAT"]


def sum_up(connection: http.client.HTTPSConnection, model: str, ticket: str) -> dict:
    """One call; raises for a status that is not 200."""
    body = {
        "model": model,
        "max_tokens": 400,
        "messages": [{"role": "user", "content": f"Sum up in a sentence: {ticket}"}],
    }
    # What the stand-in answers with; the provider itself would ignore this header.
    cached = random.choice([0, 1024, 2048])
    answer = {
        "input": cached + random.randint(60, 900),
        "cached": cached,
        "output": random.randint(20, 160),
        "delay": random.uniform(0.3, 1.4),
    }
    headers = {
        "content-type": "application/json",
        "x-api-key": "demo",
        "anthropic-version": "2023-06-01",
        "x-stand-in": json.dumps(answer),
    }
    connection.request("POST", "/v1/messages", json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise http.client.HTTPException(f"status {response.status}")
    return json.loads(text)


def main() -> None:
    """Sums up tickets for ever; a new connection now and then, as servers ask for."""
    while True:
        connection = http.client.HTTPSConnection(
            "api.anthropic.com", timeout=30, context=ssl.create_default_context()
        )
        try:
            for number in range(12):
                model = "claude-haiku-4-5" if number % 3 else "claude-sonnet-4-5"
                sum_up(connection, model, random.choice(TICKETS))
                time.sleep(random.uniform(1.0, 3.0))
        except (http.client.HTTPException, OSError):
            time.sleep(1)
        finally:
            connection.close()


if __name__ == "__main__":
    main()
