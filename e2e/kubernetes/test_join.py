"""Controllers that join with the token of their service account: the API server says whose."""

import json
import pathlib
import secrets
import urllib.error
import urllib.request

import pytest
from one_node import Cluster

from apart import Apart
from harness import until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

# What deploy/kubernetes/join.yaml allows the dashboard.
REVIEWER = pathlib.Path(__file__).parents[2] / "deploy" / "kubernetes" / "join.yaml"


@pytest.fixture
def apart(kernel, cluster: Cluster, tmp_path: pathlib.Path):
    """A dashboard that asks the cluster as its own service account."""
    cluster.kubectl("create", "namespace", "sonde")
    for name in ("sonde-dashboard", "sonde-controller", "another"):
        cluster.kubectl("create", "serviceaccount", name, "-n", "sonde")
    # The administrator's way in, with another token.
    config = tmp_path / "kubeconfig"
    config.write_bytes((cluster.state / "kubeconfig").read_bytes())
    own = token(cluster, "sonde-dashboard", "--duration=1h")
    cluster.kubectl("config", "set-credentials", "user", f"--token={own}", f"--kubeconfig={config}")
    one = Apart(tmp_path)
    one.environment["dashboard"] = {"KUBECONFIG": str(config), "NO_PROXY": "*", "no_proxy": "*"}
    one.dashboard_flags = ["--join-service-account", "sonde/sonde-controller"]
    one.start("dashboard")
    until("the dashboard answers", one.is_up, 20)
    yield one
    one.stop()


def token(cluster: Cluster, account: str, *more: str) -> str:
    """A new token of a service account."""
    return cluster.kubectl("create", "token", account, "-n", "sonde", *more).strip()


def enrol(apart: Apart, shown: str) -> tuple[int, str]:
    """Asks to be let in as some node; the status, and what is said."""
    body = {
        "protocol": 2,
        "oldest_protocol": 1,
        "instance": {
            "id": f"host-{secrets.token_hex(6)}",
            "host_name": "some",
            "version": "0.1.0",
            "kernel": "6.1",
            "started_unix_nanos": 1,
        },
        "credential": f"sonde_node_{secrets.token_hex(32)}",
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{apart.port}/api/v1/enrol",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {shown}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_pod_joins_with_what_the_kubelet_gave_it(apart: Apart, cluster: Cluster, tmp_path):
    good = token(cluster, "sonde-controller", "--audience=sonde")
    # Before the dashboard may ask, nobody is let in, and what is missing is said.
    status, said = enrol(apart, good)
    assert status == 503 and "tokenreviews" in said, (status, said)
    cluster.kubectl("apply", "-n", "sonde", "-f", str(REVIEWER))

    def may_ask() -> bool:
        return enrol(apart, good)[0] == 200

    until("the role is in effect", may_ask, 20, 0.5)
    refusals = {
        "of another account": token(cluster, "another", "--audience=sonde"),
        "for the API server": token(cluster, "sonde-controller"),
        "made up": good[:-8] + "AAAAAAAA",
    }
    assert {why: enrol(apart, one)[0] for why, one in refusals.items()} == {
        "of another account": 403,
        "for the API server": 401,
        "made up": 401,
    }
    for one in (good, *refusals.values()):
        assert one not in apart.log("dashboard")

    # A controller reads the token where the kubelet writes it.
    file = tmp_path / "token"
    file.write_text(good)
    apart.flags = ["--token-file", str(file)]
    apart.start("controller")
    until("joined", lambda: apart.status().get("identity") == "joined", 30)
    names = [row["name"] for row in apart.ask("tokens", "list")]
    assert names.count("service account sonde/sonde-controller") == 1, names
