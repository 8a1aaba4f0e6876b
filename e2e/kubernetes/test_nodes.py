"""Two nodes, each with a kubelet, a controller and a pod of one workload: each controller tells of
the pods of its own node, one changes the workload, and the other goes on when that one is killed.
"""

import json
import pathlib

import pytest
from one_node import Cluster, running_cluster
from test_injection import WITHIN, running
from test_turns import NAMES, Pair

from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

NODES = ("sonde-node", "sonde-second")
# Each set of pods is on both nodes, one on each.
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "spread"}},
    "matchLabelKeys": ["pod-template-hash"],
}


class Nodes(Pair):
    """A controller on each of two nodes, as a DaemonSet of its own, so that one can be ended."""

    def install(self) -> None:
        self.cluster.call("second")
        super().install()

    def load(self, archive: pathlib.Path) -> None:
        super().load(archive)
        far = Cluster(self.cluster.state)
        far.environment |= {"SONDE_CLUSTER_NODE": "second"}
        far.call("load", str(archive))

    def apply_controller(self, *patches: dict) -> None:
        here = {"kubernetes.io/hostname": NODES[0]}
        place = "/spec/template/spec/nodeSelector"
        super().apply_controller({"op": "add", "path": place, "value": here}, *patches)

    def second(self) -> None:
        (first, second) = NAMES
        spec = json.loads(json.dumps(self.made).replace(f'"{first}"', f'"{second}"'))
        pod = spec["template"]["spec"]
        pod["serviceAccountName"] = pod["serviceAccount"] = first
        pod["nodeSelector"] = {"kubernetes.io/hostname": NODES[1]}
        self.start_second(spec)

    def nodes_of(self, row: dict | None) -> list[str]:
        """Where the instances of a row are."""
        found = (row or {}).get("sonde.instances", [])
        return sorted(one.get("k8s.node.name", "unknown") for one in found)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster whose nodes see the processes of their own pods alone, as two machines do."""
    yield from running_cluster(tmp_path_factory.mktemp("nodes") / "state", SONDE_CLUSTER_PIDS="own")


@pytest.fixture(scope="module")
def fleet(kernel, cluster, tmp_path_factory):
    """Two nodes."""
    yield from running(Nodes(cluster, tmp_path_factory.mktemp("fleet")))


def test_one_node_patches_and_the_other_goes_on_when_it_is_killed(fleet: Nodes) -> None:
    pod = fleet.strict() | {"topologySpreadConstraints": [SPREAD]}
    key = fleet.deploy("spread", pod, replicas=2)
    before = fleet.object("spread")
    pods = dict(zip(NODES, (fleet.pod(name) for name in NAMES), strict=True))
    named = {node: pod["metadata"]["name"] for node, pod in pods.items()}
    assert all(pod["spec"]["nodeName"] == node for node, pod in pods.items())

    def is_told_by_each() -> bool:
        rows = {node: fleet.own_row(pod, key) for node, pod in named.items()}
        return all(fleet.nodes_of(row) == [node] for node, row in rows.items())

    try:
        until("each controller tells of the pod of its own node", is_told_by_each, 60, 0.5)
    except AssertionError as error:
        rows = {node: fleet.own_row(pod, key) for node, pod in named.items()}
        raise AssertionError(f"{error}\n{json.dumps(rows, indent=1)}\n{fleet.said()}") from error
    assert fleet.nodes_of(fleet.row(key)) == sorted(NODES), "and the dashboard of both"

    fleet.wish(key, "full")
    held = until("one has it in hand", lambda: fleet.table().get(key), WITHIN, 0.2)
    (node,) = (node for node, pod in named.items() if pod == held)
    (other,) = set(NODES) - {node}
    waits = f"Another node makes it: {node}/{held}"

    def is_said() -> bool:
        return waits in json.dumps(fleet.own_row(named[other], key))

    until("the other one says who makes it", is_said, 20, 0.5)
    until("it is patched", lambda: fleet.patched("spread"), 30, 0.3)
    fleet.kill(pods[node])

    def is_taken_over() -> bool:
        row = fleet.row(key)
        assert row["sonde.capture.observed"] != "full" or loaded(row), "only what is loaded is"
        return fleet.table().get(key) == named[other]

    until("the other one took it over", is_taken_over, 60, 0.5)
    now = fleet.set_level(key, "full", "capturing")
    assert now["sonde.capture.observed"] == "full"
    assert loaded(now), now["sonde.agent"]
    assert fleet.patched("spread") == [held], "no node has patched it once more"
    fleet.given_back()

    fleet.set_level(key, "network", "capturing")
    after = fleet.object("spread")
    assert after["spec"] == before["spec"]
    assert "sonde/note" not in after["metadata"]["annotations"]
    assert set(fleet.patched("spread")[1:]) == {named[other]}
    fleet.settled("spread")


def loaded(row: dict) -> list[dict]:
    """The processes that said themselves that the SDK is in."""
    found = row.get("sonde.agent", {}).get("processes", [])
    return [one for one in found if one["progress"] in ("loaded", "started", "sent")]
