"""Two controllers of one cluster that both may put SDKs into pods: they agree by a Lease which one
does, no more than two workloads roll out at once, and one goes on where the other was killed.

Both are on the one node there is, each as a pod with a state of its own, so both have all programs.
"""

import json
import os
import pathlib
import secrets
import signal
import time

import pytest
from test_cluster import containers_of
from test_injection import NAMESPACE, WITHIN, Injecting, running

from harness import LONG_RUN, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]

NAMES = ("sonde-controller", "sonde-second")

# Rollouts that are waited for take a minute each.
long = pytest.mark.skipif(not LONG_RUN, reason="rollouts of minutes: SONDE_LONG_RUN=1 runs it")


class Pair(Injecting):
    """Two controllers."""

    # Long enough to kill one within it.
    window = 20

    def apply_controller(self, *patches: dict) -> None:
        super().apply_controller(*patches)
        self.made = self.cluster.get("daemonset", NAMES[0], "-n", "sonde")["spec"]
        self.second()

    def second(self) -> None:
        """Applies the second one, on a node that has an id of its own each time."""
        (first, second) = NAMES
        spec = json.loads(json.dumps(self.made).replace(f'"{first}"', f'"{second}"'))
        pod = spec["template"]["spec"]
        pod["serviceAccountName"] = pod["serviceAccount"] = first
        paths = {one["name"]: one["hostPath"] for one in pod["volumes"] if "hostPath" in one}
        paths["state"]["path"] = "/var/lib/sonde-second"
        paths["machine-id"]["path"] = "/etc/machine-id-second"
        write = 'echo "$1" >/etc/machine-id-second'
        self.cluster.call("enter", "sh", "-c", write, "sh", secrets.token_hex(16))
        self.start_second(spec)

    def start_second(self, spec: dict) -> None:
        """Applies the DaemonSet of the second one, and waits until it runs."""
        metadata = {"name": NAMES[1], "namespace": "sonde"}
        self.cluster.apply(
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}
        )
        rollout = ["rollout", "status", f"daemonset/{NAMES[1]}", "-n", "sonde", "--timeout=90s"]
        self.cluster.kubectl(*rollout, seconds=120)

    def end_controllers(self) -> None:
        """Ends both."""
        more = ["-n", "sonde", "--ignore-not-found", "--cascade=foreground", "--timeout=60s"]
        self.cluster.kubectl("delete", "daemonset", *NAMES, *more, seconds=90)

    def said(self) -> str:
        """What both controllers logged, and what they agreed on."""
        pods = ["-n", "sonde", "-l", f"app.kubernetes.io/name in ({', '.join(NAMES)})"]
        return self.cluster.kubectl("logs", *pods, "--prefix", "--tail=40") + str(self.table())

    def table(self) -> dict[str, str]:
        """Who has which workload in hand."""
        leases = self.cluster.get("leases", "-n", "sonde")["items"]
        found = [one["metadata"]["annotations"] for one in leases]
        turns = json.loads(found[0]["sonde/rollouts"])["turns"] if found else {}
        return {key: held["by"].partition("/")[2] for key, held in turns.items()}

    def pod(self, name: str) -> dict:
        """The pod of a controller."""
        selector = ["-n", "sonde", "-l", f"app.kubernetes.io/name={name}"]
        (pod,) = self.cluster.get("pods", *selector)["items"]
        return pod

    def own_row(self, pod: str, key: str) -> dict | None:
        """What the controller in this pod says of a workload."""
        ask = ["exec", "-n", "sonde", pod, "--", "/usr/bin/sonde", "services", "--output", "json"]
        rows = [json.loads(line) for line in self.cluster.kubectl(*ask).splitlines()]
        return next((row for row in rows if row["sonde.workload.key"] == key), None)

    def kill(self, pod: dict) -> None:
        """Kills a controller for good."""
        pids = [pid for pid in containers_of(pod) if is_controller(pid)]
        # Stopped first: what is started again in the same pod would go on by itself.
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        (owner,) = pod["metadata"]["ownerReferences"]
        self.cluster.kubectl("delete", "daemonset", owner["name"], "-n", "sonde", "--wait=false")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def given_back(self) -> None:
        """Waits until nobody has a workload in hand."""
        until("all turns are given back", lambda: not self.table(), WITHIN, 0.5)

    def at_full(self, name: str) -> tuple[str, dict]:
        """Deploys one and brings it to full; its key, and its specification before."""
        self.apply_controller()
        key = self.deploy(name, self.strict())
        before = self.object(name)["spec"]
        self.set_level(key, "full", "capturing")
        self.given_back()
        return key, before

    def patched(self, name: str) -> list[str]:
        """The pods that have changed this deployment, once for each time."""
        asked = [
            one
            for one in self.requests()
            if one["verb"] == "patch"
            and one["objectRef"].get("resource") == "deployments"
            and one["objectRef"].get("name") == name
            and "dryRun" not in one["requestURI"]
            and one["responseStatus"]["code"] == 200
        ]
        return [one["user"]["extra"]["authentication.kubernetes.io/pod-name"][0] for one in asked]


@pytest.fixture(scope="module")
def fleet(kernel, cluster, tmp_path_factory):
    """Two controllers on the cluster."""
    yield from running(Pair(cluster, tmp_path_factory.mktemp("fleet")))


@long
def test_no_more_than_two_roll_out_at_once(fleet: Pair) -> None:
    names = ["one", "two", "three"]
    keys = {name: fleet.deploy(name, fleet.strict()) for name in names}
    before = {name: fleet.object(name)["spec"] for name in names}
    for key in keys.values():
        fleet.wish(key, "full")
    most, waited = 0, set()

    def are_all_in() -> bool:
        nonlocal most
        most = max(most, len(fleet.table()))
        rows = [fleet.row(key) for key in keys.values()]
        waited.update(
            row["sonde.capture.reason"]
            for row in rows
            if "two rollouts are under way" in row["sonde.capture.reason"]
        )
        return all(
            (row["sonde.capture.state"], row["sonde.capture.observed"]) == ("capturing", "full")
            for row in rows
        )

    try:
        until("all three are at full", are_all_in, 2 * WITHIN, 0.3)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{fleet.said()}") from error
    assert most == 2
    assert waited, "the third one says what it waits for"
    for name in names:
        assert len(fleet.patched(name)) == 1, fleet.patched(name)
    for name, key in keys.items():
        fleet.set_level(key, "off", "discovered")
        assert fleet.object(name)["spec"] == before[name]
    fleet.given_back()


@long
def test_one_that_lost_its_turn_stops_acting(fleet: Pair) -> None:
    """It stands still while new pods crash: the other one puts it back, and that holds."""
    crash = 'test -z "$PYTHONPATH" || { echo "no room for an agent" >&2; exit 3; }; '
    key = fleet.deploy("brittle", fleet.strict(crash + 'exec python3 -c "$1"'))
    before = fleet.object("brittle")
    named = {fleet.pod(name)["metadata"]["name"]: fleet.pod(name) for name in NAMES}
    until("both know it", lambda: all(fleet.own_row(pod, key) for pod in named), WITHIN)
    fleet.wish(key, "full")
    until("it is patched", lambda: fleet.patched("brittle"), WITHIN, 0.1)
    (holder,) = fleet.patched("brittle")
    (other,) = named.keys() - {holder}
    pids = [pid for pid in containers_of(named[holder]) if is_controller(pid)]

    def is_unwell(pod: str) -> bool:
        row = fleet.own_row(pod, key) or {}
        reason = row.get("sonde.capture.reason", "")
        return row.get("sonde.capture.state") == "unhealthy" and "exit status 3" in reason

    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        until("the other one put it back", lambda: is_unwell(other), WITHIN, 0.5)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    after = fleet.object("brittle")
    assert after["spec"] == before["spec"]
    until("the first one says so, too", lambda: is_unwell(holder), 60, 0.5)
    # Two looks later nobody has tried again.
    end = time.monotonic() + 35
    until("two looks are over", lambda: time.monotonic() > end, 60, 1)
    assert fleet.object("brittle")["metadata"]["generation"] == after["metadata"]["generation"]
    assert fleet.patched("brittle").count(holder) == 1
    assert fleet.row(key)["sonde.capture.state"] == "unhealthy"
    fleet.set_level(key, "off", "discovered")


def test_one_patches_and_the_other_goes_on_when_it_is_killed(fleet: Pair) -> None:
    key = fleet.deploy("shared", fleet.strict())
    before = fleet.object("shared")
    pods = {name: fleet.pod(name) for name in NAMES}
    named = {name: pod["metadata"]["name"] for name, pod in pods.items()}
    until("both know it", lambda: all(fleet.own_row(pod, key) for pod in named.values()), WITHIN)
    fleet.wish(key, "full")
    holder = until("one has it in hand", lambda: fleet.table().get(key), WITHIN, 0.2)
    (name,) = (name for name, pod in named.items() if pod == holder)
    (other,) = (pod for pod in named.values() if pod != holder)

    def is_said() -> bool:
        return f"Another node makes it: sonde-node/{holder}" in json.dumps(
            fleet.own_row(other, key)
        )

    until("the other one says who makes it", is_said, 20, 0.5)
    until("it is patched", lambda: fleet.patched("shared"), 30, 0.3)
    fleet.kill(pods[name])

    until("the other one took it over", lambda: fleet.table().get(key) == other, 60, 0.5)
    now = fleet.set_level(key, "full", "capturing")
    assert now["sonde.capture.observed"] == "full"
    assert fleet.patched("shared") == [holder], "it was there already"
    fleet.given_back()

    fleet.set_level(key, "network", "capturing")
    after = fleet.object("shared")
    assert after["spec"] == before["spec"]
    assert "sonde/note" not in after["metadata"]["annotations"]
    assert "sonde" not in {one["manager"] for one in after["metadata"]["managedFields"]}
    assert set(fleet.patched("shared")[1:]) == {other}
    secret = fleet.cluster.get("secrets", "-n", NAMESPACE)["items"]
    assert "sonde-agent" not in {one["metadata"]["name"] for one in secret}


def test_a_sonde_that_leaves_waits_for_its_turn(fleet: Pair) -> None:
    key, before = fleet.at_full("leaving")
    changed = fleet.object("leaving")["spec"]
    fleet.end_controllers()
    # Two others died over their rollouts.
    held = {"by": "gone/pod", "beat": 1, "rolls": True}
    table = json.dumps({"turns": {"one": held, "two": held}, "ends": {}})
    place = ["lease", "sonde-rollouts", "-n", "sonde", "--overwrite"]
    fleet.cluster.kubectl("annotate", *place, f"sonde/rollouts={table}")
    pod = fleet.made["template"]["spec"] | {"restartPolicy": "Never"}
    (one,) = pod["containers"]
    leave = {"command": ["/usr/bin/sonde", "controller", "uninstall"], "args": ["--restore"]}
    pod["containers"] = [one | leave]
    metadata = {"name": "leave", "namespace": "sonde"}
    fleet.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod})

    def log() -> str:
        waits = fleet.cluster.get("pod", "leave", "-n", "sonde")["status"]["phase"] == "Pending"
        return "" if waits else fleet.cluster.kubectl("logs", "leave", "-n", "sonde")

    until("it says that it waits", lambda: "two rollouts are under way" in log(), 60, 0.3)
    assert fleet.object("leaving")["spec"] == changed
    until("it has its turn", lambda: fleet.table().get(key) == "uninstall", 60, 0.2)

    def phase() -> str:
        return fleet.cluster.get("pod", "leave", "-n", "sonde")["status"]["phase"]

    until("it is done", lambda: phase() in ("Succeeded", "Failed"), WITHIN, 0.5)
    assert phase() == "Succeeded", log()
    assert f"{key} is as it was before" in log()
    assert fleet.object("leaving")["spec"] == before
    assert key not in fleet.table()
    fleet.settled("leaving")


def test_what_nobody_knows_of_any_more_is_taken_out_by_whoever_has_its_pods(fleet: Pair) -> None:
    key, before = fleet.at_full("stranded")
    # Those that knew of it are gone, with all that they noted, when it is switched off.
    fleet.end_controllers()
    fleet.wish(key, "off")
    fleet.cluster.call("enter", "rm", "-rf", "/var/lib/sonde-second")
    fleet.second()

    def is_out() -> bool:
        now = fleet.object("stranded")
        return now["spec"] == before and "sonde/note" not in now["metadata"]["annotations"]

    try:
        until("it is taken out", is_out, WITHIN, 0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{fleet.said()}") from error


def is_controller(pid: int) -> bool:
    """The process is Sonde's, and not the pod's own."""
    return b"controller" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
