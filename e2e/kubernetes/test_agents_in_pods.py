"""Unmodified programs of real frameworks in pods: at Full the agent, tool and model spans of each
arrive as one tree with exact tokens."""

import pytest
from daemonset import MACHINE
from one_node import eventually
from test_cluster import PYTHON, all_ready, workload
from test_injection import WITHIN, Injecting, running

from framework_runs import PORT, SERVICES, assert_whole, command, places, variables
from harness import StandIn

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fleet(kernel, cluster, tmp_path_factory):
    """Sonde on the cluster."""
    yield from running(Injecting(cluster, tmp_path_factory.mktemp("fleet")))


@pytest.fixture
def api(tmp_path):
    """A stand-in that has each tool that is offered called once."""
    one = StandIn(tmp_path, f"{MACHINE}:{PORT}", more=["--calls-tools"])
    yield one
    one.stop()


def pod(api: StandIn, name: str) -> dict:
    """A pod with the program, its packages and the authority, all from the node."""
    seen = places(api)
    mounts = [{"name": at, "mountPath": to, "readOnly": True} for at, (_, to) in seen.items()]
    one = {
        "name": "main",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": command(name),
        "env": [{"name": name, "value": value} for name, value in variables().items()],
        "volumeMounts": mounts,
    }
    return {
        "containers": [one],
        "volumes": [{"name": at, "hostPath": {"path": str(p)}} for at, (p, _) in seen.items()],
        "hostAliases": [{"ip": MACHINE, "hostnames": ["api.openai.com"]}],
        "terminationGracePeriodSeconds": 1,
    }


def test_runs_in_pods_are_trees_with_exact_tokens(fleet: Injecting, api: StandIn) -> None:
    """Side by side; two of them roll out at a time."""
    for name, service in SERVICES.items():
        fleet.cluster.apply(workload("Deployment", service, pod(api, name), replicas=1))
    keys, before = {}, {}
    for name, service in SERVICES.items():
        eventually(WITHIN, lambda one=service: all_ready(fleet.cluster, "deployment", one))
        row = fleet.known(service, "Deployment", service, within=WITHIN)
        keys[name] = row["sonde.workload.key"]
        before[service] = fleet.cluster.get("deployment", service)["spec"]
    for key in keys.values():
        fleet.wish(key, "full")
    for key in keys.values():
        assert fleet.reached(key, "full", "capturing")["sonde.capture.observed"] == "full"
    assert_whole(fleet.sonde, keys, WITHIN)
    for key in keys.values():
        fleet.wish(key, "off")
    for name, service in SERVICES.items():
        fleet.reached(keys[name], "off", "discovered")
        assert fleet.cluster.get("deployment", service)["spec"] == before[service]
