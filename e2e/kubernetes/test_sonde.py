"""Sonde as a DaemonSet on a real cluster: every kind of workload under its name, its calls to the
digit, and what that costs the API server.

The tests build on each other, in the order they stand in.
"""

import json
import os
import pathlib
import signal
import time

import pytest
from daemonset import KNOWN_WITHIN, MACHINE, Fleet, about
from one_node import Cluster, eventually
from test_cluster import PYTHON, all_ready, containers_of, workload

from callers import CALLER, assert_exact, assert_recovers, caller_environment
from harness import ROOT, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(scope="module")
def fleet(kernel, cluster, tmp_path_factory):
    """Sonde on the cluster."""
    one = Fleet(cluster, tmp_path_factory.mktemp("fleet"))
    try:
        one.install()
        yield one
        assert one.sonde.stop() == 0, one.sonde.err.read_text()
    finally:
        one.sonde.process.kill()
        one.stand_in.stop()


def test_the_manifests_are_what_this_api_server_accepts(cluster: Cluster) -> None:
    """All of them, the dashboard's too, which the tests run on the machine."""
    namespace = ["apply", "-f", str(ROOT / "deploy" / "kubernetes" / "namespace.yaml")]
    cluster.kubectl(*namespace)
    said = cluster.kubectl("apply", "--dry-run=server", "-k", str(ROOT / "deploy" / "kubernetes"))
    assert said.count("(server dry run)") == len(said.splitlines())
    assert "deployment.apps/sonde-dashboard" in said


def test_it_runs_without_privileges_that_it_does_not_name(fleet: Fleet) -> None:
    selector = ["-n", "sonde", "-l", "app.kubernetes.io/name=sonde-controller"]
    (pod,) = fleet.cluster.get("pods", *selector)["items"]
    (pid,) = [
        pid
        for pid in containers_of(pod)
        if "controller" in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if "CapEff" in line)
    names = {"DAC_READ_SEARCH": 2, "NET_ADMIN": 12, "SYS_PTRACE": 19, "PERFMON": 38, "BPF": 39}
    wanted = sum(1 << number for number in (names | {"CHECKPOINT_RESTORE": 40}).values())
    assert int(effective, 16) == wanted
    # It says itself what it can do, in the same place and with the same capabilities.
    doctor = ["exec", "-n", "sonde", pod["metadata"]["name"], "--", "/usr/bin/sonde", "doctor"]
    said = fleet.cluster.kubectl(*doctor)
    assert "uprobe" in said
    assert "MISSING" not in said and "limited" not in said, said


def test_a_deployment_of_two_replicas_is_one_workload_with_two_instances(fleet: Fleet) -> None:
    spec = workload("Deployment", "web", fleet.pod(), replicas=2)
    spec["spec"]["template"]["metadata"]["labels"]["team"] = "search"
    fleet.cluster.apply(spec)
    eventually(90, lambda: all_ready(fleet.cluster, "deployment", "web"))
    row = fleet.known("web", "Deployment", "web")
    pods = fleet.cluster.pods("web")
    pids = {pid for pod in pods for pid in containers_of(pod) if is_python(pid)}

    def both():
        (one,) = [r for r in fleet.sonde.services() if same(r, row)]
        return {i["process.pid"] for i in one["sonde.instances"]} == pids and one

    row = until("both are instances", both, 30, 0.5)
    assert row["sonde.platform"] == "kubernetes"
    assert row["service.name"] == "web"
    assert row["process.runtime.name"] == "cpython"
    names = {pod["metadata"]["name"] for pod in pods}
    assert {one["k8s.pod.name"] for one in row["sonde.instances"]} == names
    facts = about(row)
    assert facts["k8s.namespace.name"] == "default"
    assert facts["k8s.node.name"] == "sonde-node"
    assert facts["k8s.pod.label.team"] == "search"
    assert facts["container.image.name"].startswith("sonde.test/python")
    uid = fleet.cluster.get("namespace", "kube-system")["metadata"]["uid"]
    assert facts["k8s.cluster.uid"] == uid
    key = row["sonde.workload.key"]
    # Of the place alone: no pod, no replica set, no id of a container.
    assert uid[:8] in key and "default" in key and "web" in key
    for pod in pods:
        assert pod["metadata"]["name"] not in key and pod["metadata"]["uid"] not in key


def test_its_calls_are_captured_to_the_digit(fleet: Fleet) -> None:
    row = fleet.known("web", "Deployment", "web")
    calls = assert_exact(fleet.sonde, row["sonde.workload.key"], fleet.stand_in, 6)
    assert len({call["process.pid"] for call in calls}) == 2
    for call in calls:
        assert call["k8s.namespace.name"] == "default"
        assert call["k8s.container.name"] == "main"
        assert call["service.name"] == "web"


def test_a_rollout_keeps_key_and_wish(fleet: Fleet) -> None:
    row = fleet.known("web", "Deployment", "web")
    before = {pod["metadata"]["name"] for pod in fleet.cluster.pods("web")}
    fleet.cluster.kubectl("set", "env", "deployment/web", "RELEASE=2")
    eventually(90, lambda: all_ready(fleet.cluster, "deployment", "web"))
    after = {pod["metadata"]["name"] for pod in fleet.cluster.pods("web")}
    assert not before & after

    def rolled():
        (one,) = [r for r in fleet.sonde.services() if same(r, row)]
        return {i.get("k8s.pod.name") for i in one["sonde.instances"]} == after

    until("the instances are the new pods", rolled, 30, 0.5)
    assert_exact(fleet.sonde, row["sonde.workload.key"], fleet.stand_in)
    assert len([r for r in fleet.sonde.services() if r["service.name"] == "web"]) == 1


def test_every_kind_is_named_by_what_a_person_made(fleet: Fleet) -> None:
    job = {"template": {"spec": fleet.pod(restartPolicy="Never")}}
    stateful = workload("StatefulSet", "index", fleet.pod(), replicas=1, serviceName="index")
    # One whose time comes within the test, one that a person runs before its time.
    minutely = {
        "schedule": "* * * * *",
        "concurrencyPolicy": "Forbid",
        "jobTemplate": {"spec": job},
    }
    nightly = {"schedule": "0 3 * * *", "suspend": True, "jobTemplate": {"spec": job}}
    two = [fleet.container("chat"), fleet.container("embed")]
    fleet.cluster.apply(
        stateful,
        workload("DaemonSet", "guard", fleet.pod()),
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "import"}, "spec": job},
        *(
            {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": name},
                "spec": spec,
            }
            for name, spec in (("minutely", minutely), ("nightly", nightly))
        ),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lone"}, "spec": fleet.pod()},
        workload("Deployment", "pair", fleet.pod(*two), replicas=1),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}},
    )
    namesake = workload("Deployment", "web", fleet.pod(), replicas=1)
    namesake["metadata"]["namespace"] = "other"
    fleet.cluster.apply(namesake)
    # As its schedule would: a job of the cron job, with a name made from the time.
    fleet.cluster.kubectl("create", "job", "nightly-29413000", "--from=cronjob/nightly")

    keys = {
        name: fleet.known(name, kind, name)["sonde.workload.key"]
        for kind, name in [
            ("StatefulSet", "index"),
            ("DaemonSet", "guard"),
            ("Job", "import"),
            ("CronJob", "nightly"),
            ("Pod", "lone"),
        ]
    }
    keys |= {
        c: fleet.known("pair", "Deployment", "pair", c)["sonde.workload.key"]
        for c in ("chat", "embed")
    }
    webs = until(
        "both deployments called web",
        lambda: (
            (
                found := {
                    about(row).get("k8s.namespace.name"): row["sonde.workload.key"]
                    for row in fleet.sonde.services()
                    if row.get("sonde.workload.name") == "web"
                    or about(row).get("sonde.workload.name") == "web"
                }
            ).keys()
            >= {"default", "other"}
            and found
        ),
        KNOWN_WITHIN,
        0.5,
    )
    keys |= webs
    keys["minutely"] = fleet.known("minutely", "CronJob", "minutely", within=60 + KNOWN_WITHIN)[
        "sonde.workload.key"
    ]
    assert len(set(keys.values())) == len(keys), keys


def test_a_container_of_containerd_that_is_no_pod_is_named(fleet: Fleet) -> None:
    """Somebody's own, in a namespace of containerd that the kubelet does not look at."""

    def ctr(namespace: str, *arguments: str) -> str:
        return fleet.cluster.call("ctr", "-n", namespace, *arguments)

    image = fleet.directory / "python.tar"
    ctr("k8s.io", "images", "export", str(image), PYTHON)
    ctr("shop", "images", "import", str(image))
    image.unlink()
    pairs = caller_environment(fleet.stand_in, MACHINE)
    environment = [word for name, value in pairs.items() for word in ("--env", f"{name}={value}")]
    mount = f"type=bind,src={CALLER.parent},dst=/srv/app,options=rbind:ro"
    command = [PYTHON, "adviser", "python3", "/srv/app/caller.py"]
    ctr("shop", "run", "--detach", "--net-host", "--mount", mount, *environment, *command)
    try:
        named = {"service.name": "adviser"}.items()
        row = until(
            "the container is known",
            lambda: next((r for r in fleet.sonde.services() if named <= r.items()), None),
            KNOWN_WITHIN,
            0.5,
        )
        assert row["sonde.workload.key"].endswith("/containerd:shop/adviser"), row
        facts = about(row)
        assert facts["container.name"] == "adviser"
        assert "k8s.pod.name" not in facts
        assert_exact(fleet.sonde, row["sonde.workload.key"], fleet.stand_in)
    finally:
        ctr("shop", "task", "kill", "--signal", "SIGKILL", "adviser")


def test_a_pod_that_an_unknown_kind_owns_is_named_by_its_owner(fleet: Fleet) -> None:
    fleet.cluster.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "modeltasks.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": "modeltasks", "singular": "modeltask", "kind": "ModelTask"},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            }
                        },
                    }
                ],
            },
        }
    )
    established = ["wait", "--for=condition=Established", "crd/modeltasks.example.com"]
    fleet.cluster.kubectl(*established, "--timeout=30s")
    task = {"apiVersion": "example.com/v1", "kind": "ModelTask", "metadata": {"name": "summary"}}
    fleet.cluster.apply(task)
    uid = fleet.cluster.get("modeltask", "summary")["metadata"]["uid"]
    owner = {"apiVersion": "example.com/v1", "kind": "ModelTask", "name": "summary", "uid": uid}
    metadata = {"name": "summary-x7k2p", "ownerReferences": [owner | {"controller": True}]}
    fleet.cluster.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": fleet.pod()}
    )
    row = fleet.known("summary", "ModelTask", "summary")
    assert "x7k2p" not in row["sonde.workload.key"]


def test_a_static_pod_is_named_without_its_node(fleet: Fleet) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "edge"}, "spec": fleet.pod()}
    manifest = fleet.cluster.state / "upper" / "etc" / "kubernetes" / "manifests" / "edge.yaml"
    write = ["enter", "sh", "-c", 'printf %s "$1" >/etc/kubernetes/manifests/edge.yaml', "sh"]
    fleet.cluster.call(*write, json.dumps(pod))
    assert manifest.exists()
    try:
        row = until(
            "the static pod is known",
            lambda: next(
                (
                    row
                    for row in fleet.sonde.services()
                    if about(row).get("k8s.pod.name") == "edge-sonde-node"
                    and row.get("sonde.workload.kind", about(row).get("sonde.workload.kind"))
                ),
                None,
            ),
            KNOWN_WITHIN,
            0.5,
        )
        assert about(row)["sonde.workload.kind"] == "Pod"
        assert about(row)["k8s.container.name"] == "main"
    finally:
        fleet.cluster.call("enter", "rm", "/etc/kubernetes/manifests/edge.yaml")


def test_the_api_server_is_asked_for_one_watch_and_never_lists_again(fleet: Fleet) -> None:
    asked = fleet.requests()
    pods = [one for one in asked if one.get("objectRef", {}).get("resource") == "pods"]
    lists = [one for one in pods if one["verb"] == "list"]
    watches = [one for one in pods if one["verb"] == "watch"]
    # Some twenty pods came and went so far. One controller was started.
    assert len(lists) <= 1, [one["requestURI"] for one in lists]
    assert 1 <= len(watches) <= 2, [one["requestURI"] for one in watches]
    for one in pods:
        assert "fieldSelector=spec.nodeName" in one["requestURI"], one["requestURI"]
    # Owners are asked for once each.
    owners = [one["requestURI"] for one in asked if one["verb"] == "get"]
    assert len(owners) == len(set(owners)), sorted(owners)


def test_a_job_that_is_over_is_shown_as_stopped(fleet: Fleet) -> None:
    key = fleet.known("lone", "Pod", "lone")["sonde.workload.key"]
    fleet.cluster.kubectl("delete", "pod", "lone", "--now")

    def row() -> dict:
        return next(row for row in fleet.sonde.services() if row["sonde.workload.key"] == key)

    until("no instance is left", lambda: row()["sonde.instances"] == [], 30, 0.5)


def test_a_token_that_was_rotated_is_read_again(fleet: Fleet) -> None:
    """The first token dies with the object that it is bound to; the file holds another by then."""
    place = fleet.directory / "account"
    place.mkdir()
    credentials = fleet.cluster.state / "credentials"
    (place / "ca.crt").write_bytes((credentials / "ca.crt").read_bytes())
    (place / "namespace").write_text("sonde")

    def token(name: str) -> str:
        secret = {"name": name, "namespace": "sonde"}
        fleet.cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": secret})
        create = ["create", "token", "sonde-controller", "-n", "sonde"]
        return fleet.cluster.kubectl(
            *create, "--bound-object-kind", "Secret", "--bound-object-name", name
        )

    (place / "token").write_text(token("first"))
    template = "/spec/template/spec"
    mount = {"name": "account", "mountPath": SERVICE_ACCOUNT, "readOnly": True}
    fleet.apply_controller(
        {"op": "add", "path": f"{template}/automountServiceAccountToken", "value": False},
        {"op": "add", "path": f"{template}/containers/0/volumeMounts/-", "value": mount},
        {
            "op": "add",
            "path": f"{template}/volumes/-",
            "value": {"name": "account", "hostPath": {"path": str(place)}},
        },
    )
    # A controller that was started again forgot nothing.
    web = fleet.known("web", "Deployment", "web")
    assert web["sonde.capture.desired"] == "network"
    assert_exact(fleet.sonde, web["sonde.workload.key"], fleet.stand_in)

    (place / "token.new").write_text(token("second"))
    (place / "token.new").rename(place / "token")
    fleet.cluster.kubectl("delete", "secret", "first", "-n", "sonde")
    # The API server itself remembers for ten seconds that a token was good.
    time.sleep(11)
    # A new one, whose owners have to be asked for.
    fleet.cluster.apply(workload("Deployment", "late", fleet.pod(), replicas=1))
    fleet.known("late", "Deployment", "late")

    def is_asked() -> bool:
        owner = "/apis/apps/v1/namespaces/default/replicasets/late-"
        asked = (one for one in fleet.requests() if one["requestURI"].startswith(owner))
        return any(one["responseStatus"]["code"] == 200 for one in asked)

    # Its name alone could be guessed. The file is read again each minute.
    until("the API server was asked with the second token", is_asked, 120, 1)


def test_what_was_wanted_holds_after_every_restart_of_a_pod(fleet: Fleet) -> None:
    """Its container ends, its pod is deleted, the controller is killed, the node fails: what was
    wanted is in effect within ten seconds of the pod being up, and history tells why."""
    cluster = fleet.cluster
    cluster.apply(workload("Deployment", "steady", fleet.pod(), replicas=1))
    row = fleet.known("steady", "Deployment", "steady")
    key = row["sonde.workload.key"]
    assert_exact(fleet.sonde, key, fleet.stand_in)

    def callers() -> set[int]:
        return {
            pid for pod in cluster.pods("steady") for pid in containers_of(pod) if is_python(pid)
        }

    def up_after(act) -> set[int]:
        before = callers()
        act()
        return until("it is up again", lambda: (now := callers()) and not now & before and now, 90)

    def container_ended() -> set[int]:
        return up_after(lambda: [os.kill(pid, signal.SIGKILL) for pid in callers()])

    def pod_deleted() -> set[int]:
        (pod,) = cluster.pods("steady")
        name = pod["metadata"]["name"]
        return up_after(lambda: cluster.kubectl("delete", "pod", name, "--now"))

    def controllers() -> set[int]:
        selector = ["-n", "sonde", "-l", "app.kubernetes.io/name=sonde-controller"]
        pods = cluster.get("pods", *selector)["items"]
        found = {pid for pod in pods for pid in containers_of(pod)}
        return {pid for pid in found if b"controller" in command_line(pid).split(b"\0")}

    def controller_killed() -> set[int]:
        before = controllers()
        assert len(before) == 1
        os.kill(*before, signal.SIGKILL)
        until("another controller runs", lambda: controllers() - before, 90)
        return callers()

    def node_failed() -> set[int]:
        # The kubelet, containerd, every pod and the controller at once.
        before = controllers()
        pids = up_after(lambda: (cluster.call("fail"), cluster.call("recover")))
        until("another controller runs", lambda: controllers() - before, 90)
        return pids

    for act in (container_ended, pod_deleted, controller_killed, node_failed):
        try:
            assert_recovers(fleet.sonde, key, fleet.stand_in, act)
        except AssertionError as error:
            raise AssertionError(f"after {act.__name__}: {error}\n{fleet.said()}") from error
    cluster.kubectl("delete", "deployment", "steady")


def command_line(pid: int) -> bytes:
    """What a process was started with; nothing of one that ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def is_python(pid: int) -> bool:
    """The process is a caller, and not the pod's own."""
    return b"caller.py" in command_line(pid)


def same(row: dict, other: dict) -> bool:
    """Both are of one workload."""
    return row["sonde.workload.key"] == other["sonde.workload.key"]
