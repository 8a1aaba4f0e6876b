"""The dial at Full for pods: put into the template by the controller, with the roles of the
manifests, seen to be loaded, and taken out to the byte; put back where the new pods do not come up;
refused where nothing would make the pods anew.

The tests build on each other, in the order they stand in.
"""

import json
import time

import pytest
from daemonset import MACHINE, Fleet, about
from one_node import Cluster, eventually
from test_cluster import all_ready, container, workload

from callers import CALLER, caller_environment
from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]

WINDOW = 5
NAMESPACE = "strict"
# On a busy machine of two cores.
WITHIN = 180
OURS = "/opt/sonde/agents/python/bootstrap"


class Injecting(Fleet):
    """A fleet whose controller may put SDKs into pods."""

    window = WINDOW

    def apply_controller(self, *patches: dict) -> None:
        made = self.sonde.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
        secret = json.dumps({"stringData": {"agent": json.loads(made)["token"]}})
        self.cluster.kubectl("patch", "secret", "sonde-token", "-n", "sonde", "-p", secret)
        place = "/spec/template/spec/containers/0/args/-"
        flags = ("--agent-token-file=/etc/sonde-token/agent", f"--agent-window={self.window}")
        flags += (f"--agent-endpoint={self.sonde.url}",)
        more = [{"op": "add", "path": place, "value": flag} for flag in flags]
        super().apply_controller(*more, *patches)

    def strict(self, program: str | None = None, **environment: str) -> dict:
        """A pod as the strictest level of Pod Security wants it, with a root that is read-only."""
        pairs = caller_environment(self.stand_in, MACHINE, **environment)
        context = {
            "runAsUser": 1000,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        env = [{"name": name, "value": value} for name, value in pairs.items()]
        one = container(CALLER.read_text(), securityContext=context, env=env)
        if program is not None:
            one["command"] = ["sh", "-c", program, "sh", CALLER.read_text()]
        return {"containers": [one]}

    def deploy(self, name: str, pod: dict, **spec) -> str:
        """Deploys it, and gives its key once it is known and its object."""
        made = workload("Deployment", name, pod, **{"replicas": 1} | spec)
        made["metadata"]["namespace"] = NAMESPACE
        self.cluster.apply(made)
        self.settled(name)
        return self.known(name, "Deployment", name, within=WITHIN)["sonde.workload.key"]

    def settled(self, name: str, kind: str = "Deployment") -> None:
        """Waits until all of its pods are as its template wants them."""
        eventually(WITHIN, lambda: all_ready(Here(self.cluster), kind.lower(), name))

    def object(self, name: str) -> dict:
        """The object, with those who own its fields."""
        return self.cluster.get("deployment", name, "-n", NAMESPACE, "--show-managed-fields")

    def row(self, key: str) -> dict:
        """The row of a service."""
        return next(row for row in self.sonde.services() if row["sonde.workload.key"] == key)

    def wish(self, key: str, level: str) -> None:
        """Sets the dial, and waits for nothing."""
        self.sonde.rows("services", "set", key, "--capture", level, "--wait", "0")

    def set_level(self, key: str, level: str, state: str) -> dict:
        """Sets the dial, and waits for a state."""
        self.wish(key, level)
        return self.reached(key, level, state)

    def reached(self, key: str, level: str, state: str) -> dict:
        """The row, once it is in a state at a wished level."""

        def there():
            now = self.row(key)
            done = now["sonde.capture.desired"] == level and now["sonde.capture.state"] == state
            return now if done else None

        try:
            return until(f"{key} is {state} at {level}", there, WITHIN, 0.5)
        except AssertionError as error:
            row = json.dumps(self.row(key), indent=1)[-4000:]
            raise AssertionError(f"{error}\n{row}\n{self.said()}") from error


class Here:
    """The cluster, looked at from within the namespace of the tests."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster

    def get(self, *arguments: str) -> dict:
        return self.cluster.get("-n", NAMESPACE, *arguments)


@pytest.fixture(scope="module")
def fleet(kernel, cluster, tmp_path_factory):
    """Sonde on the cluster."""
    yield from running(Injecting(cluster, tmp_path_factory.mktemp("fleet")))


def running(one: Injecting):
    """Runs it, beside a namespace of the level `restricted`."""
    try:
        one.install()
        label = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": NAMESPACE, "labels": label}
        one.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        yield one
        assert one.sonde.stop() == 0, one.sonde.err.read_text()
    finally:
        one.sonde.process.kill()
        one.stand_in.stop()


def test_a_deployment_gets_the_agent_and_is_put_back_to_the_byte(fleet: Injecting) -> None:
    key = fleet.deploy("web", fleet.strict(PYTHONPATH="/srv/$(CALL_AT)"))
    before = fleet.object("web")
    dry = fleet.sonde.cli("services", "enable", key, "--full", "--dry-run").stdout
    for part in ("+++ Deployment strict/web", "initContainers", "kubectl apply --server-side"):
        assert part in dry, dry
    assert fleet.object("web")["spec"] == before["spec"]

    now = fleet.set_level(key, "full", "capturing")
    assert now["sonde.capture.observed"] == "full"
    assert {one["progress"] for one in now["sonde.agent"]["processes"]} <= {"loaded", "started"}
    template = fleet.object("web")["spec"]["template"]["spec"]
    assert [one["name"] for one in template["initContainers"]] == ["sonde-agent"]
    env = {one["name"]: one.get("value") for one in template["containers"][0]["env"]}
    assert env["PYTHONPATH"] == f"{OURS}:/srv/$(CALL_AT)"
    assert env["SONDE_AGENT_HEADERS"] is None, "it comes from the secret"
    managers = {one["manager"] for one in fleet.object("web")["metadata"]["managedFields"]}
    assert "sonde" in managers
    fleet.cluster.get("secret", "sonde-agent", "-n", NAMESPACE)
    (pod,) = about(now)["k8s.pod.name"].split()
    read = "print(open('/proc/1/environ').read().replace('\\0', '\\n'))"
    shown = ["exec", "-n", NAMESPACE, pod, "--", "python3", "-S", "-c", read]
    assert f"PYTHONPATH={OURS}:/srv/{MACHINE}" in fleet.cluster.kubectl(*shown)

    fleet.set_level(key, "network", "capturing")
    after = fleet.object("web")
    assert after["spec"] == before["spec"]
    assert "sonde" not in {one["manager"] for one in after["metadata"]["managedFields"]}
    secrets = fleet.cluster.get("secrets", "-n", NAMESPACE)["items"]
    assert "sonde-agent" not in {one["metadata"]["name"] for one in secrets}


def test_one_that_does_not_come_up_is_put_back_and_stays_so(fleet: Injecting) -> None:
    crash = 'test -z "$PYTHONPATH" || { echo "no room for an agent" >&2; exit 3; }; '
    key = fleet.deploy("brittle", fleet.strict(crash + 'exec python3 -c "$1"'))
    before = fleet.object("brittle")
    now = fleet.set_level(key, "full", "unhealthy")
    assert "exit status 3" in now["sonde.capture.reason"]
    assert "no room for an agent" in now["sonde.capture.reason"]
    after = fleet.object("brittle")
    assert after["spec"] == before["spec"]
    # Nothing is tried again by itself: two looks later it is the same object.
    end = time.monotonic() + 35
    until("two looks are over", lambda: time.monotonic() > end, 60, 1)
    assert fleet.object("brittle")["metadata"]["generation"] == after["metadata"]["generation"]
    fleet.set_level(key, "off", "discovered")


def test_another_hand_is_respected(fleet: Injecting) -> None:
    key = fleet.deploy("handled", fleet.strict())
    written = fleet.object("handled")
    for name in ("managedFields", "resourceVersion", "uid", "creationTimestamp"):
        del written["metadata"][name]
    fleet.set_level(key, "full", "capturing")
    fleet.cluster.kubectl("replace", "-f", "-", given=json.dumps(written))

    def drifted() -> bool:
        return fleet.row(key)["sonde.capture.state"] == "drifted"

    until("it is seen to be out", drifted, WITHIN, 0.5)
    assert fleet.object("handled")["spec"] == written["spec"]
    fleet.set_level(key, "off", "discovered")


def test_a_pod_by_itself_is_refused(fleet: Injecting) -> None:
    pod = {"metadata": {"name": "lone", "namespace": NAMESPACE, "labels": {"app": "lone"}}}
    fleet.cluster.apply({"apiVersion": "v1", "kind": "Pod", **pod, "spec": fleet.strict()})
    key = fleet.known("lone", "Pod", "lone", within=WITHIN)["sonde.workload.key"]
    now = fleet.set_level(key, "full", "unsupported")
    assert "pod by itself" in now["sonde.capture.reason"]
    fleet.set_level(key, "off", "discovered")


def assert_in_and_out(fleet: Injecting, kind: str, name: str) -> None:
    """Full puts the SDK in, and moving the dial back leaves the specification as it was."""
    cluster = Here(fleet.cluster)
    key = fleet.known(name, kind, name, within=WITHIN)["sonde.workload.key"]
    before = cluster.get(kind.lower(), name)
    now = fleet.set_level(key, "full", "capturing")
    assert now["sonde.capture.observed"] == "full"
    assert {one["progress"] for one in now["sonde.agent"]["processes"]} <= {"loaded", "started"}
    changed = cluster.get(kind.lower(), name)
    assert "sonde-agent" in json.dumps(changed["spec"])
    fleet.sonde.rows("services", "set", key, "--capture", "off", "--wait", "0")

    def is_out() -> bool:
        return cluster.get(kind.lower(), name)["spec"] == before["spec"]

    until(f"{kind} {name} is as it was", is_out, WITHIN, 0.5)
    after = cluster.get(kind.lower(), name, "--show-managed-fields")
    assert "sonde/note" not in after["metadata"].get("annotations", {})
    assert "sonde" not in {one["manager"] for one in after["metadata"]["managedFields"]}


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_pods_of_this_kind_get_the_agent_and_are_put_back(fleet: Injecting, kind: str) -> None:
    name = f"a-{kind.lower()}"
    more = {"replicas": 1, "serviceName": name} if kind == "StatefulSet" else {}
    made = workload(kind, name, fleet.strict(), **more)
    made["metadata"]["namespace"] = NAMESPACE
    fleet.cluster.apply(made)
    fleet.settled(name, kind)
    assert_in_and_out(fleet, kind, name)


def test_a_cron_job_has_the_agent_from_its_next_run_on(fleet: Injecting) -> None:
    pod = fleet.strict() | {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    spec = {
        "schedule": "* * * * *",
        # A run calls until the next one takes its place.
        "concurrencyPolicy": "Replace",
        "jobTemplate": {"spec": {"template": {"spec": pod}}},
    }
    metadata = {"name": "minutely", "namespace": NAMESPACE}
    fleet.cluster.apply(
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec}
    )
    assert_in_and_out(fleet, "CronJob", "minutely")
    fleet.cluster.kubectl("delete", "cronjob", "minutely", "-n", NAMESPACE)


def test_pods_that_a_person_has_to_delete_are_left_alone(fleet: Injecting) -> None:
    more = {"serviceName": "manual", "updateStrategy": {"type": "OnDelete"}}
    made = workload("StatefulSet", "manual", fleet.strict(), replicas=1, **more)
    made["metadata"]["namespace"] = NAMESPACE
    fleet.cluster.apply(made)
    key = fleet.known("manual", "StatefulSet", "manual", within=WITHIN)["sonde.workload.key"]
    before = Here(fleet.cluster).get("statefulset", "manual")["spec"]
    now = fleet.set_level(key, "full", "unsupported")
    assert "OnDelete" in now["sonde.capture.reason"]
    assert "only when a person deletes them" in now["sonde.capture.reason"]
    assert Here(fleet.cluster).get("statefulset", "manual")["spec"] == before
    fleet.set_level(key, "off", "discovered")


# Grants that no request shows by itself, and why they are needed.
UNSEEN = {
    ("", "secrets", "create"): "applying one that is not there is asked for as `patch`: see below",
}


def test_the_roles_grant_what_is_used_and_nothing_else(fleet: Injecting) -> None:
    """What the tests above asked the API server, as it wrote it down, beside the roles."""
    asked, refused = set(), []
    for one in fleet.requests():
        what = one.get("objectRef", {})
        if "resource" not in what:
            continue
        resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
        asked.add((what.get("apiGroup", ""), resource, one["verb"]))
        if one["responseStatus"]["code"] == 403:
            refused.append(one["requestURI"])
    assert not refused, "the roles are not sufficient"
    cluster_roles = [("clusterrole", "sonde-controller"), ("clusterrole", "sonde-injection")]
    granted = {
        (group, resource, verb)
        for role in [*cluster_roles, ("role", "sonde-rollouts")]
        for rule in fleet.cluster.get("-n", "sonde", *role)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert asked <= granted, asked - granted
    assert granted - asked == set(UNSEEN), granted - asked


def test_a_secret_cannot_be_applied_anew_without_the_grant_to_create_it(fleet: Injecting) -> None:
    secret = {"metadata": {"name": "sonde-agent", "namespace": NAMESPACE}}
    given = json.dumps({"apiVersion": "v1", "kind": "Secret", **secret})
    account = "--as=system:serviceaccount:sonde:sonde-controller"
    apply = ["apply", "--server-side", "--validate=false", account, "-f", "-"]
    rules = fleet.cluster.get("clusterrole", "sonde-injection")["rules"]
    verbs = next(rule["verbs"] for rule in rules if rule["resources"] == ["secrets"])
    verbs.remove("create")
    patch = ["patch", "clusterrole", "sonde-injection", "--type=merge", "-p"]
    fleet.cluster.kubectl(*patch, json.dumps({"rules": rules}))

    def is_refused() -> bool:
        try:
            fleet.cluster.kubectl(*apply, given=given)
        except AssertionError as error:
            return "cannot create resource" in str(error)
        fleet.cluster.kubectl("delete", "secret", "sonde-agent", "-n", NAMESPACE)
        return False

    # The API server hears of a changed role a moment later.
    until("it is refused", is_refused, 20, 1)


def test_without_the_lease_nothing_is_changed(fleet: Injecting) -> None:
    fleet.cluster.kubectl("delete", "rolebinding", "sonde-rollouts", "-n", "sonde")
    key = fleet.deploy("alone", fleet.strict())
    before = fleet.object("alone")["spec"]
    reason = fleet.set_level(key, "full", "failed")["sonde.capture.reason"]
    assert "by the Lease sonde-rollouts" in reason
    assert "deploy/kubernetes/injection.yaml grants it" in reason
    assert fleet.object("alone")["spec"] == before
