"""The page over a fleet: names, history, the pending dial, many at once, rules, layers, tokens."""

import contextlib
import re
import time

import pytest
from playwright.sync_api import expect

from fleet import Dashboard, Node
from harness import until

FACTS = [
    {"name": "btf", "standing": "good", "found": "the kernel describes its own types"},
    {
        "name": "uprobe_multi",
        "standing": "limited",
        "found": "the kernel is older than 6.6",
        "remedy": "Each probe is set by itself; nothing is lost.",
    },
]


@pytest.fixture(scope="module")
def dashboard(binary, tmp_path_factory):
    """One dashboard for the tests of this file."""
    running = Dashboard(tmp_path_factory.mktemp("dashboard"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def nodes(dashboard):
    """A node of a cluster with several workloads, and one that stands alone and has troubles."""
    token = dashboard.join_token("--environment", "production", "--uses", "2")
    cluster = {"id": "c1b5", "name": "prod-eu"}
    first = Node(dashboard, token, "node-1", cluster=cluster)
    for name, namespace in (("checkout", "shop"), ("billing", "shop"), ("crawler", "ci")):
        first.add(
            f"kubernetes:{namespace}/Deployment/{name}",
            name,
            attributes={
                "k8s.namespace.name": namespace,
                "k8s.deployment.name": name,
                "k8s.pod.label.team": name[:1],
            },
        )
    first.add(
        "kubernetes:shop/CronJob/nightly",
        "nightly",
        instances=[],
        state="stopped",
        attributes={"k8s.namespace.name": "shop"},
    )
    first.more["doctor"] = FACTS
    second = Node(dashboard, token, "bare-7", platforms=["systemd", "process"])
    second.add("systemd:agent.service", "agent", platform="systemd")
    second.more |= {
        "doctor": [
            FACTS[0],
            {
                "name": "privilege",
                "standing": "missing",
                "found": "eBPF is not granted",
                "remedy": "Run it as root, or grant CAP_BPF and CAP_PERFMON.",
            },
        ],
        "lost": {"ring_full": 1234, "truncated": 5},
    }
    for node in (first, second):
        node.poll()
        node.run()
    yield first, second
    for node in (first, second):
        node.stop()


@pytest.fixture
def signed_in(dashboard, nodes, page):
    """The page, logged in, with the fleet behind it."""
    page.goto(dashboard.login_link())
    return page


@contextlib.contextmanager
def silent(node: Node):
    """A node that does not poll meanwhile."""
    node.stop()
    yield
    node.run()


def row(page, name: str):
    """The row of a service."""
    return page.locator(f'[data-testid="service-row"][data-name="{name}"]')


def open_service(page, dashboard, name: str):
    """Opens the panel of a service."""
    page.goto(f"{dashboard.url}/services")
    row(page, name).get_by_role("button", name=name).click()
    return page.get_by_test_id("peek")


def names(dashboard) -> set[str]:
    """Names of all services, as the API gives them."""
    return {one["service.name"] for one in dashboard.rows("services")}


def test_a_name_is_changed_in_place(signed_in, dashboard):
    page = signed_in
    peek = open_service(page, dashboard, "billing")
    peek.get_by_role("button", name="Rename").click()
    box = peek.get_by_label("Name of the service")
    box.fill("invoices")
    box.press("Escape")
    expect(peek.get_by_role("heading", name="billing")).to_be_visible()
    assert "billing" in names(dashboard)

    page.keyboard.press("e")
    expect(box).to_be_focused()
    box.fill("a" * 257)
    box.press("Enter")
    expect(peek.get_by_role("alert")).to_contain_text("1 to 256 printable characters")
    hostile = "<b>invoices</b> & co"
    box.fill(hostile)
    box.press("Enter")
    expect(peek.get_by_role("heading", name=hostile)).to_be_visible()
    expect(row(page, hostile)).to_be_visible()
    assert hostile in names(dashboard)
    history = peek.get_by_test_id("history")
    expect(history).to_contain_text(f"named “{hostile}”")
    expect(history).to_contain_text("on the page")

    peek.get_by_role("button", name="Rename").click()
    box.fill("")
    box.press("Enter")
    expect(peek.get_by_role("heading", name="billing")).to_be_visible()
    expect(peek.get_by_test_id("history")).to_contain_text("its own name again")


def test_a_wish_is_pending_with_the_age_of_the_poll_and_then_in_effect(signed_in, dashboard, nodes):
    page, (first, _) = signed_in, nodes
    page.goto(f"{dashboard.url}/services")
    line = row(page, "checkout")
    with silent(first):
        line.get_by_role("radio", name="Network").click()
        state = line.get_by_test_id("state")
        expect(state).to_contain_text(re.compile(r"pending · node-1 (answered|is silent)"))
        expect(line.get_by_role("radio", name="Network")).to_have_attribute("data-pending", "true")
    expect(state).to_have_text("capturing")
    expect(line.get_by_role("radio", name="Network")).to_have_attribute("data-pending", "false")

    peek = open_service(page, dashboard, "checkout")
    history = peek.get_by_test_id("history")
    expect(history).to_contain_text("Network was chosen · on the page")
    expect(history).to_contain_text("capturing · node-1")
    evidence = peek.get_by_test_id("evidence")
    expect(evidence).to_contain_text("SNI")
    expect(evidence).to_contain_text("certain")
    expect(evidence).to_contain_text("likely")
    expect(peek).to_contain_text("covered")


def test_a_refused_wish_snaps_back_with_the_reason(signed_in, dashboard, nodes):
    page, (_, second) = signed_in, nodes
    key = next(iter(second.workloads))
    reason = "This node's own configuration forbids it: max_capture is off."
    page.goto(f"{dashboard.url}/services")
    line = row(page, "agent")
    with silent(second):
        line.get_by_role("radio", name="Network").click()
        expect(line.get_by_test_id("state")).to_contain_text("pending")
        second.workloads[key] |= {"state": "blocked", "reason": reason}
    expect(line.get_by_test_id("state")).to_contain_text("max_capture is off")
    expect(line.get_by_role("radio", name="Off")).to_be_checked()
    second.workloads[key] |= {"state": "discovered", "reason": ""}


def test_what_failed_is_tried_again_and_a_step_is_taken_back(signed_in, dashboard, nodes):
    page, (_, second) = signed_in, nodes
    key = next(iter(second.workloads))
    page.goto(f"{dashboard.url}/services")
    with silent(second):
        second.workloads[key] |= {"state": "failed", "reason": "The probe could not be set."}
        second.poll()
        peek = open_service(page, dashboard, "agent")
        history = peek.get_by_test_id("history")
        history.get_by_role("button", name="try again").click()
        expect(history).to_contain_text("“try again” was asked for")
        history.get_by_role("button", name="cancel").click()
        expect(history).to_contain_text("“try again” was taken back")
        expect(history.get_by_role("button", name="cancel")).to_have_count(0)
        second.workloads[key] |= {"state": "discovered", "reason": ""}


def test_many_are_set_at_once_after_one_question(signed_in, dashboard):
    page = signed_in
    page.goto(f"{dashboard.url}/services")
    page.get_by_role("button", name="Group none").click()
    page.get_by_role("option", name="namespace").click()
    groups = page.get_by_test_id("group")
    expect(groups).to_have_count(3)
    expect(groups.nth(1)).to_contain_text("shop")
    groups.nth(1).get_by_role("checkbox").check()
    page.get_by_role("button", name="Set capture for 3 selected").click()
    effects = page.get_by_test_id("effects")
    expect(effects).to_contain_text("are read from their next call on; nothing is restarted")
    expect(effects).to_contain_text("do not run; they are read from their next start on")
    page.get_by_role("dialog").get_by_role("button", name=re.compile("^Set ")).click()
    expect(row(page, "billing").get_by_test_id("state")).to_have_text("capturing")
    expect(row(page, "crawler").get_by_role("radio", name="Off")).to_be_checked()
    expect(row(page, "nightly").get_by_test_id("state")).to_have_text("stopped")
    wanted = {one["service.name"]: one for one in dashboard.rows("services")}
    assert wanted["nightly"]["sonde.capture.desired"] == "network"


def test_a_rule_is_tried_while_it_is_typed_and_held_when_it_is_saved(signed_in, dashboard, nodes):
    page, (first, _) = signed_in, nodes
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press(",")
    out = page.get_by_test_id("rules-exclude")
    tester = page.get_by_test_id("tester")
    expect(tester.get_by_role("status")).to_have_text("5 of 5 services count")
    out.get_by_role("button", name="Add a rule").click()
    out.get_by_role("button", name="Save").click()
    expect(out).to_contain_text("Give at least one")
    out.get_by_label("Label").fill("=x")
    expect(out).to_contain_text("The label has no name")
    out.get_by_label("Label").fill("")
    out.get_by_label("Namespace").fill("c*")
    expect(tester.get_by_role("status")).to_have_text("would change 1 service")
    changed = tester.locator('[data-changed="true"]')
    expect(changed).to_contain_text("crawler")
    expect(changed).to_contain_text("would be left out")
    assert first.wish.get("rules", {}).get("exclude", []) == []
    out.get_by_role("button", name="Save").click()
    expect(out.get_by_test_id("rule")).to_contain_text("namespace=c*")
    until("the node has the rule", lambda: first.wish.get("rules", {}).get("exclude"))
    assert first.wish["rules"]["exclude"] == [{"namespace": "c*"}]

    # The node forgets what it is told to leave out, and the page says why.
    key = next(key for key in first.workloads if "crawler" in key)
    kept = first.workloads.pop(key)
    page.goto(f"{dashboard.url}/services")
    state = row(page, "crawler").get_by_test_id("state")
    expect(state).to_have_text("left out by a rule: exclude 1: namespace=c*")

    page.goto(f"{dashboard.url}/settings")
    out.get_by_test_id("rule").get_by_role("button", name="remove").click()
    expect(out).to_contain_text("Nothing is left out.")
    first.workloads[key] = kept


def test_a_provider_is_added_with_its_mistakes_at_the_fields(signed_in, dashboard, nodes):
    page, (first, _) = signed_in, nodes
    page.goto(f"{dashboard.url}/settings")
    form = page.get_by_test_id("rules-providers")
    form.get_by_role("button", name="Add a provider").click()
    form.get_by_label("Host").fill("https://llm.example")
    expect(form).to_contain_text("The host name alone")
    form.get_by_label("Host").fill("llm.*.example")
    form.get_by_label("Port").fill("70000")
    expect(form).to_contain_text("A number from 1 to 65535.")
    form.get_by_label("Port").fill("8443")
    form.get_by_label("Name", exact=True).fill("our-gateway")
    form.get_by_label("Name", exact=True).press("Enter")
    expect(form.get_by_test_id("rule")).to_contain_text("our-gateway · llm.*.example:8443")
    wanted = [{"name": "our-gateway", "host": "llm.*.example", "port": 8443}]
    until("the node has it", lambda: first.wish.get("rules", {}).get("providers") == wanted)


def test_layers_are_laid_over_each_other_and_a_locked_value_says_why(signed_in, dashboard, nodes):
    page, (_, second) = signed_in, nodes
    page.goto(f"{dashboard.url}/settings")
    page.get_by_role("tab", name="Configuration").click()
    expect(page.get_by_role("tab", selected=True)).to_have_count(1)
    page.get_by_label("Report at least every (s)").fill("3")
    expect(page.get_by_text("A whole number from 5 to 300.")).to_be_visible()
    page.get_by_label("Report at least every (s)").fill("60")
    page.get_by_role("button", name="Save").click()
    effective = page.get_by_test_id("effective")
    expect(effective.get_by_role("row", name="bare-7")).to_contain_text("60 s all nodes")
    expect(effective.get_by_role("row", name="bare-7")).to_contain_text("in effect")

    effective.get_by_role("button", name="node-1").click()
    expect(page.get_by_text("Now: 60 s, of all nodes.")).to_be_visible()
    page.get_by_label("Report at least every (s)").fill("30")
    page.get_by_role("button", name="Save").click()
    expect(effective.get_by_role("row", name="node-1")).to_contain_text("30 s this node")

    with silent(second):
        error = "`log` is not in effect: /etc/sonde/sonde.toml sets it."
        second.more["configuration"] = second.more["configuration"] | {"error": error}
    effective.get_by_role("button", name="bare-7").click()
    locked = page.get_by_test_id("locked")
    expect(locked).to_contain_text("/etc/sonde/sonde.toml sets it")
    second.more.pop("configuration")


def test_the_fleet_says_how_each_node_is(signed_in, dashboard):
    page = signed_in
    page.goto(f"{dashboard.url}/fleet")
    first = page.get_by_test_id("node").filter(has_text="node-1")
    expect(first).to_contain_text("production · prod-eu")
    expect(first).to_contain_text("works, 1 limit")
    second = page.get_by_test_id("node").filter(has_text="bare-7")
    expect(second).to_contain_text("no capture: 1 thing missing")
    expect(second).to_contain_text("1,239")
    second.get_by_role("button", name="bare-7").click()
    expect(second).to_contain_text("Run it as root, or grant CAP_BPF and CAP_PERFMON.")
    expect(second).to_contain_text("ring full")
    expect(second).to_contain_text("1,234")


def test_a_controller_is_added_with_a_token_that_is_shown_once(signed_in, dashboard):
    page = signed_in
    page.goto(f"{dashboard.url}/fleet")
    page.get_by_role("button", name="Add a controller").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("rack 4")
    dialog.get_by_label("Environment").fill("staging")
    dialog.get_by_label("Nodes that may join").fill("1")
    dialog.get_by_role("button", name="Make the join token").click()
    token = dialog.get_by_text(re.compile(r"^sonde_join_\w+$")).text_content()
    expect(dialog).to_contain_text("This address means the node itself there")
    for place, word in (("Docker", "--cap-add BPF"), ("Kubernetes", "kubectl create secret")):
        dialog.get_by_text(place, exact=True).click()
        command = dialog.locator("code").last
        expect(command).to_contain_text(word)
        expect(command).to_contain_text(token)
    dialog.get_by_label("Address of this dashboard").fill("http://x; rm -rf /")
    expect(dialog).to_contain_text("An address such as")
    dialog.get_by_role("button", name="Done").click()
    assert token not in page.content()

    line = page.get_by_test_id("token").filter(has_text="rack 4")
    expect(line).to_contain_text("0 of 1")
    joined = Node(dashboard, token, "rack-4")
    joined.poll()
    shown = page.get_by_test_id("node").filter(has_text="rack-4")
    expect(shown).to_contain_text("staging")
    page.reload()
    expect(line).to_contain_text("used up")

    shown.get_by_role("button", name="rack-4").click()
    shown.get_by_role("button", name="Revoke …").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke", exact=True).click()
    expect(shown).to_contain_text("revoked: nothing of it is taken")
    with pytest.raises(OSError, match=r"40[13]"):
        joined.poll()

    line.get_by_role("button", name="revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke", exact=True).click()
    expect(line).to_have_count(0)
    listed = dashboard.rows("tokens", "list")
    assert "rack 4" not in [one["name"] for one in listed]


def test_a_small_screen_has_every_page_and_nothing_runs_over(signed_in, dashboard):
    page = signed_in
    page.set_viewport_size({"width": 390, "height": 844})
    for place in ("services", "fleet", "settings", "settings?tab=configuration"):
        page.goto(f"{dashboard.url}/{place}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        time.sleep(0.4)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{place} is {wide} px wide"
