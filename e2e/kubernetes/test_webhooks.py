"""What admission webhooks do to the dial at Full: those of others that are away or take things out,
and Sonde's own, of which there is none: pods start with the SDK while nothing of Sonde runs."""

import json
import signal

import pytest
from daemonset import MACHINE
from one_node import eventually
from test_injection import NAMESPACE, OURS, WITHIN, Injecting, running
from webhook import Webhook

from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]

PODS = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
DEPLOYMENTS = {
    "apiGroups": ["apps"],
    "apiVersions": ["v1"],
    "resources": ["deployments"],
    "operations": ["UPDATE"],
}


@pytest.fixture(scope="module")
def fleet(kernel, cluster, tmp_path_factory):
    """Sonde on the cluster."""
    yield from running(Injecting(cluster, tmp_path_factory.mktemp("fleet")))


@pytest.fixture
def webhook(fleet, tmp_path):
    """Makes a webhook that is away, and has it forgotten after the test."""
    made = []

    def make(asked: dict) -> Webhook:
        made.append(Webhook(fleet.cluster, tmp_path / "webhook", MACHINE, asked))
        return made[-1]

    yield make
    for one in made:
        one.remove()


def pods(fleet: Injecting, name: str) -> list[dict]:
    """The pods of a Deployment that are not on their way out."""
    found = fleet.cluster.get("pods", "-n", NAMESPACE, "-l", f"app={name}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def refusing(fleet: Injecting, name: str, kind: str) -> None:
    """Waits until the API server asks the webhook about an object of this kind, in vain."""
    change = ["annotate", kind, "-n", NAMESPACE, name, "asked=once", "--dry-run=server"]

    def is_refused() -> bool:
        try:
            fleet.cluster.kubectl(*change)
        except AssertionError as error:
            return "failed calling webhook" in str(error)
        return False

    until("the webhook is asked", is_refused, 20, 0.5)


def test_a_webhook_that_is_away_delays_the_change_and_the_way_back(fleet, webhook):
    """One that is asked about Deployments: nothing is half done, and it goes on by itself."""
    key = fleet.deploy("asked", fleet.strict())
    before = fleet.object("asked")["spec"]
    hook = webhook(DEPLOYMENTS)
    refusing(fleet, "asked", "deployment")
    fleet.wish(key, "full")
    now = fleet.reached(key, "full", "failed")
    assert "Cannot plan a change" in now["sonde.capture.reason"], now
    assert "hook.webhook.test" in now["sonde.capture.reason"], now
    assert fleet.object("asked")["spec"] == before
    hook.back()
    assert fleet.reached(key, "full", "capturing")["sonde.capture.observed"] == "full"

    hook.away()
    refusing(fleet, "asked", "deployment")
    fleet.wish(key, "off")

    def waits() -> bool:
        now = fleet.row(key)
        said = now["sonde.capture.reason"]
        return now["sonde.capture.state"] == "pending" and "hook.webhook.test" in said

    until("it waits for the webhook", waits, WITHIN, 0.5)
    (pod,) = pods(fleet, "asked")
    assert pod["status"]["containerStatuses"][0]["ready"], "the program runs on"
    hook.back()
    fleet.reached(key, "off", "discovered")
    assert fleet.object("asked")["spec"] == before


def test_pods_that_a_webhook_holds_up_are_put_back(fleet, webhook):
    """One that is asked about pods: no new pod comes, so the old one stays, and nothing waits."""
    key = fleet.deploy("held", fleet.strict())
    before = fleet.object("held")["spec"]
    (pod,) = pods(fleet, "held")
    hook = webhook(PODS)
    now = fleet.set_level(key, "full", "unhealthy")
    assert "hook.webhook.test" in now["sonde.capture.reason"], now
    assert fleet.object("held")["spec"] == before
    assert [one["metadata"]["uid"] for one in pods(fleet, "held")] == [pod["metadata"]["uid"]]

    # One that writes the variables anew, as some that bring an agent of their own do.
    def strip(made: dict) -> list[dict]:
        env = made["spec"]["containers"][0]["env"]
        kept = [one for one in env if "SONDE" not in one["name"] and one["name"] != "PYTHONPATH"]
        return [{"op": "replace", "path": "/spec/containers/0/env", "value": kept}]

    hook.back(strip)
    fleet.set_level(key, "off", "discovered")
    now = fleet.set_level(key, "full", "partly")
    assert "such as an admission webhook" in now["sonde.capture.reason"], now
    assert now["sonde.capture.observed"] == "network"
    assert {one["progress"] for one in now["sonde.agent"]["processes"]} == {"absent"}
    fleet.set_level(key, "off", "discovered")
    assert fleet.object("held")["spec"] == before


def test_pods_start_with_the_sdk_while_nothing_of_sonde_runs(fleet):
    cluster = fleet.cluster
    key = fleet.deploy("alone", fleet.strict())
    before = fleet.object("alone")["spec"]
    fleet.set_level(key, "full", "capturing")
    (first,) = pods(fleet, "alone")
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        assert cluster.get(kind)["items"] == [], "Sonde has no webhook"

    def place(selector: dict) -> None:
        """Sets on which nodes controllers run."""
        patch = json.dumps({"spec": {"template": {"spec": {"nodeSelector": selector}}}})
        controllers = ["daemonset", "sonde-controller", "-n", "sonde"]
        cluster.kubectl("patch", *controllers, "--type=merge", "-p", patch)

    def gone() -> bool:
        return cluster.get("pods", "-n", "sonde")["items"] == []

    place({"there-is": "none"})
    eventually(WITHIN, gone)
    fleet.sonde.process.send_signal(signal.SIGSTOP)
    try:
        name = first["metadata"]["name"]
        cluster.kubectl("delete", "pod", "-n", NAMESPACE, name, "--wait=false")
        fleet.settled("alone")
        eventually(WITHIN, lambda: len(pods(fleet, "alone")) == 1)
        (second,) = pods(fleet, "alone")
        assert second["metadata"]["uid"] != first["metadata"]["uid"]
        read = "print(open('/proc/1/environ').read())"
        shown = ["exec", "-n", NAMESPACE, second["metadata"]["name"], "--", "python3", "-S", "-c"]
        assert f"PYTHONPATH={OURS}" in cluster.kubectl(*shown, read)
    finally:
        fleet.sonde.process.send_signal(signal.SIGCONT)
        place({"there-is": None})
    fleet.reached(key, "full", "capturing")
    fleet.set_level(key, "off", "discovered")
    assert fleet.object("alone")["spec"] == before
