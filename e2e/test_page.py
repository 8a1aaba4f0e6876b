"""The page in a real browser: a person switches capture on and off, and sees the calls."""

import os
import pathlib
import subprocess
import sys
import time

import pytest
from playwright.sync_api import expect

from harness import KINDS, ROOT, until


def dial(page, name: str, level: str):
    """One position of the dial in the row of a service."""
    row = page.get_by_role("row").filter(has_text=name)
    return row.get_by_role("radio", name=level)


def bpftool_shows(link: int) -> bool:
    """What the kernel's own tool says of a link."""
    command = ["/usr/sbin/bpftool", "link", "show", "id", str(link)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.kernel
def test_a_person_switches_capture_on_and_off(kernel, up, client, page):
    kind = KINDS[0]
    sonde = up()
    program = client(kind)
    program.call(stream=False)
    row = sonde.service(program.pid)
    name, key = row["service.name"], row["sonde.workload.key"]
    before = sonde.links()

    page.goto(sonde.login_link())
    page.goto(f"{sonde.url}/services")
    expect(dial(page, name, "Off")).to_be_checked()
    dial(page, name, "Network").click()
    expect(dial(page, name, "Network")).to_be_checked()
    until("in effect", lambda: sonde.service(program.pid)["sonde.capture.observed"] == "network")
    added = sonde.links() - before
    assert added
    assert all(bpftool_shows(link) for link in added)

    wanted = {"input": 1234, "output": 567}
    page.goto(f"{sonde.url}/calls")
    program.call(stream=True, **wanted)
    line = page.get_by_role("row").filter(has_text="gpt-4o-mini")
    expect(line.first).to_contain_text("1,234")
    expect(line.first).to_contain_text("567")

    page.goto(f"{sonde.url}/services")
    dial(page, name, "Off").click()
    until("off", lambda: sonde.service(program.pid)["sonde.capture.observed"] == "off")
    assert sonde.links() & added == set()
    assert not any(bpftool_shows(link) for link in added)
    count = len(sonde.calls(key))
    assert program.call(stream=True)[0]["ok"]
    time.sleep(1.5)
    assert len(sonde.calls(key)) == count


@pytest.mark.kernel
def test_a_name_and_a_rule_of_the_page_hold_on_the_node(kernel, up, client, page):
    sonde = up()
    program = client(KINDS[0])
    program.call(stream=False)
    key = sonde.service(program.pid)["sonde.workload.key"]
    sonde.wish(key, "network")
    page.goto(sonde.login_link())
    page.goto(f"{sonde.url}/services")
    line = page.locator(f'[data-testid="service-row"][data-key="{key}"]')
    line.get_by_role("button").first.click()
    page.keyboard.press("e")
    box = page.get_by_label("Name of the service")
    box.fill("shop assistant")
    box.press("Enter")
    expect(page.get_by_role("heading", name="shop assistant")).to_be_visible()

    def named():
        program.call(stream=False)
        return any(call["service.name"] == "shop assistant" for call in sonde.calls(key))

    until("calls carry the name", named, 15, every=0.5)

    page.goto(f"{sonde.url}/settings")
    out = page.get_by_test_id("rules-exclude")
    out.get_by_role("button", name="Add a rule").click()
    out.get_by_label("Name or key").fill("shop*")
    expect(page.locator('[data-changed="true"]')).to_contain_text("shop assistant")
    out.get_by_role("button", name="Save").click()
    expect(out.get_by_test_id("rule")).to_contain_text("name=shop*")
    page.goto(f"{sonde.url}/services")
    # A poll that was under way may end first, which takes 30 seconds at most.
    expect(line.get_by_test_id("state")).to_contain_text("left out by a rule", timeout=40_000)
    count = len(sonde.calls(key))
    assert program.call(stream=False)[0]["ok"]
    time.sleep(1.5)
    assert len(sonde.calls(key)) == count

    page.goto(f"{sonde.url}/settings")
    out.get_by_role("button", name="remove").click()
    expect(out).to_contain_text("Nothing is left out.")
    page.goto(f"{sonde.url}/services")
    expect(line.get_by_test_id("state")).to_have_text("capturing", timeout=40_000)


def test_the_page_asks_for_a_login(up, page):
    sonde = up()
    page.goto(sonde.url)
    expect(page.get_by_text("sonde login")).to_be_visible()
    link = sonde.login_link()
    page.goto(link)
    page.goto(f"{sonde.url}/services")
    expect(page.get_by_role("heading", name="Services")).to_be_visible()


def test_a_login_link_works_once(up, browser):
    sonde = up()
    link = sonde.login_link()
    for expected_to_work in (True, False):
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(link)
        status = opened.request.get(f"{sonde.url}/api/v1/services").status
        assert (status == 200) is expected_to_work
        context.close()


@pytest.mark.kernel
def test_the_demo_fills_every_page(kernel, up, browser):
    """Also makes the pictures of the documents, when SONDE_UPDATE_SCREENSHOTS asks for them."""
    is_asked = bool(os.environ.get("SONDE_UPDATE_SCREENSHOTS"))
    place = ROOT / "docs" if is_asked else ROOT / "e2e" / "out"
    place.mkdir(exist_ok=True)
    sonde = up()
    demo = subprocess.Popen([sys.executable, str(ROOT / "e2e" / "demo" / "run.py")])
    try:
        for name in ("assistant.py", "digest.py"):

            def named(name=name):
                rows = [row for row in sonde.services() if row["service.name"] == name]
                return rows[0]["sonde.workload.key"] if rows else None

            sonde.wish(until(f"{name} is discovered", named, 15), "network")
        time.sleep(150 if is_asked else 10)
        for scheme in ("dark", "light"):
            take_pictures(browser, sonde, scheme, place)
    finally:
        demo.terminate()
        demo.wait()


def take_pictures(browser, sonde, scheme: str, place: pathlib.Path) -> None:
    """A picture of each page, with what the demo made in it."""
    size = {"width": 1440, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    opened = context.new_page()
    opened.goto(sonde.login_link())
    for name, shown in (("overview", "gpt-4o"), ("services", "assistant.py"), ("calls", "gpt-4o")):
        opened.goto(f"{sonde.url}/{name}?range=5m")
        expect(opened.get_by_text(shown).first).to_be_visible()
        opened.wait_for_timeout(800)
        opened.screenshot(path=place / f"screenshot-{name}-{scheme}.png")
    context.close()


@pytest.mark.kernel
def test_full_says_first_what_it_would_change(kernel, up, client, page):
    sonde = up()
    program = client(KINDS[0])
    program.call(stream=False)
    row = sonde.service(program.pid)
    page.goto(sonde.login_link())
    page.goto(f"{sonde.url}/services")
    dial(page, row["service.name"], "Full").click()
    # A bare process is never restarted: what a person can do instead is said.
    refused = page.get_by_test_id("preview-refused")
    expect(refused).to_contain_text("sonde run --")
    expect(page.get_by_test_id("by-hand")).to_contain_text("&& sonde run -- ")
    expect(page.get_by_test_id("enable-full")).to_be_disabled()
    page.get_by_role("button", name="Cancel").click()
    # For several at once, the node is asked about each before anything can be set.
    page.get_by_role("checkbox", name=f"Select {row['service.name']}").check()
    page.get_by_role("button", name="Set capture for 1 selected").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Full", exact=True).click()
    expect(page.get_by_test_id("effects")).to_contain_text("stay as they are: It is a bare process")
    expect(dialog.get_by_role("button", name="Nothing to change")).to_be_disabled()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dial(page, row["service.name"], "Off")).to_be_checked()
    assert program.process.poll() is None
