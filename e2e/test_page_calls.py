"""The page over calls: the filter language, a conversation, what comes live."""

import json
import time
import urllib.request

import pytest
from playwright.sync_api import expect

from fleet import Dashboard

TALK = 'talk "1"'


@pytest.fixture(scope="module")
def dashboard(binary, tmp_path_factory):
    """One dashboard, to which an SDK sent a few calls."""
    running = Dashboard(tmp_path_factory.mktemp("dashboard"))
    running.ingest = running.rows("tokens", "create", "--kind", "ingest")[0]["token"]
    send(running, 1, model="gpt-4o", duration=2, conversation=TALK)
    send(running, 2, model="gpt-4o", duration=7, conversation=TALK)
    send(running, 3, model="gpt-4o-mini", duration=9, tool="search")
    send(running, 4, model="claude-sonnet-4-5", provider="anthropic", duration=1)
    yield running
    running.stop()


def send(
    dashboard, number, *, model, duration, provider="openai", conversation=None, tool=None
) -> None:
    """Sends a call as an SDK would, that ended a moment ago."""
    end = time.time_ns() - (100 - number) * 1_000_000_000
    known = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.conversation.id": conversation,
    }
    attributes = [
        {"key": key, "value": {"stringValue": value}} for key, value in known.items() if value
    ]
    counts = {"gen_ai.usage.input_tokens": 1_000, "gen_ai.usage.output_tokens": 100}
    attributes += [{"key": key, "value": {"intValue": str(value)}} for key, value in counts.items()]
    if tool is not None:
        called = {"values": [{"stringValue": tool}]}
        attributes.append({"key": "sonde.tool_calls", "value": {"arrayValue": called}})
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat",
        "startTimeUnixNano": str(end - duration * 1_000_000_000),
        "endTimeUnixNano": str(end),
        "attributes": attributes,
    }
    service = {"key": "service.name", "value": {"stringValue": "agent"}}
    scope = {"scope": {"name": "an sdk"}, "spans": [span]}
    body = {"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": [scope]}]}
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {dashboard.ingest}",
    }
    request = urllib.request.Request(
        f"{dashboard.url}/v1/traces", json.dumps(body).encode(), headers
    )
    assert urllib.request.urlopen(request, timeout=10).status == 200


@pytest.fixture
def calls(dashboard, page):
    """The page of calls, logged in."""
    page.goto(dashboard.login_link())
    page.goto(f"{dashboard.url}/calls")
    expect(page.get_by_test_id("call-count")).to_have_text("4 calls")
    return page


def ask(page, text: str) -> None:
    field = page.get_by_label("Filter calls")
    field.fill(text)
    field.press("Enter")


def test_the_filter_line_takes_the_whole_language(dashboard, calls):
    count = calls.get_by_test_id("call-count")
    ask(calls, "duration:>5s")
    expect(count).to_have_text("2 calls")
    ask(calls, "-tool:search")
    expect(count).to_have_text("1 call")
    assert "filter=duration%3A%3E5s+-tool%3Asearch" in calls.url
    # The address of the page is the question.
    calls.reload()
    expect(count).to_have_text("1 call")
    calls.get_by_label("Remove the filter duration:>5s").click()
    expect(count).to_have_text("3 calls")
    ask(calls, "model:gpt-4o")
    expect(count).to_have_text("2 calls")


def test_what_is_no_filter_is_said_by_the_dashboard(calls):
    ask(calls, "duration:fast")
    expect(calls.get_by_label("Filter calls")).to_have_attribute("aria-invalid", "true")
    expect(calls.get_by_text("`duration:`")).to_be_visible()
    calls.get_by_label("Remove the filter duration:fast").click()
    expect(calls.get_by_test_id("call-count")).to_have_text("4 calls")


def test_a_conversation_is_one_and_can_be_listed(calls):
    calls.get_by_role("row").filter(has_text="7.00 s").first.click()
    turns = calls.get_by_label("Conversation").get_by_role("listitem")
    expect(turns).to_have_count(2)
    name = "Conversation 2 calls · 2,200 tokens"
    expect(calls.get_by_role("heading", name=name)).to_be_visible()
    # Another turn is a click away, and so is the list of all.
    turns.get_by_role("link").click()
    expect(calls.get_by_test_id("peek").get_by_text("2.00 s").first).to_be_visible()
    calls.get_by_role("button", name="list them").click()
    expect(calls.get_by_test_id("call-count")).to_have_text("2 calls")


def test_what_comes_live_is_what_the_filter_asks_for(dashboard, calls):
    ask(calls, "cost:>0.001")
    count = calls.get_by_test_id("call-count")
    # Priced by the tokens that the SDK told: 0.0035, 0.0035 and 0.0045; the small model is less.
    expect(count).to_have_text("3 calls")
    send(dashboard, 5, model="gpt-4o-mini", duration=1)
    send(dashboard, 6, model="gpt-4o", duration=1)
    expect(count).to_have_text("4 calls")


def test_a_page_that_ran_out_of_time_is_not_the_last(dashboard, page):
    page.goto(dashboard.login_link())
    ended = {"calls": [], "next": "9999999999999999999-0-0", "partial": True}

    def answer(route) -> None:
        if "before=" in route.request.url:
            url = route.request.url.split("&before=")[0].split("?before=")[0]
            route.continue_(url=url)
        else:
            route.fulfill(json=ended)

    page.route("**/api/v1/calls?*", answer)
    page.goto(f"{dashboard.url}/calls?range=1h")
    expect(page.get_by_text("No call was found so far.")).to_be_visible()
    page.get_by_role("button", name="Look further").click()
    expect(page.get_by_test_id("call-row").first).to_be_visible()
