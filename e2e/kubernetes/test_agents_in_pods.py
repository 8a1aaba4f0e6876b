"""An unmodified program of a real framework in a pod: at Full its agent, tool and model spans
arrive as one tree with exact tokens."""

import pytest
from one_node import eventually
from test_cluster import PYTHON, all_ready, workload
from test_injection import WITHIN, Injecting, running
from test_sonde import MACHINE

from agent import FRAMEWORKS, venv
from harness import StandIn, ask_socket, until

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(900)]

PORT = 8443
# Where the pod sees the framework's packages, made for the Python of its image.
PACKAGES = "/srv/venv/lib/python3.11/site-packages"
# Once and again, as a server would.
AGAIN = """
import runpy, time
while True:
    runpy.run_path("/srv/frameworks/langgraph_agent.py", run_name="__main__")
    time.sleep(1)
"""


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


def pod(api: StandIn) -> dict:
    """A pod with the program, its packages and the authority, all from the node."""
    env = {
        "OPENAI_BASE_URL": f"https://api.openai.com:{PORT}/v1",
        "OPENAI_API_KEY": "sk-stand-in",
        "SSL_CERT_FILE": "/srv/ca/ca.pem",
        "PYTHONPATH": PACKAGES,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    places = {
        "venv": (venv("requirements").parent, "/srv/venv"),
        "frameworks": (FRAMEWORKS, "/srv/frameworks"),
        "ca": (api.ca, "/srv/ca/ca.pem"),
    }
    mounts = [{"name": name, "mountPath": at, "readOnly": True} for name, (_, at) in places.items()]
    one = {
        "name": "main",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", AGAIN],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "volumeMounts": mounts,
    }
    return {
        "containers": [one],
        "volumes": [{"name": n, "hostPath": {"path": str(p)}} for n, (p, _) in places.items()],
        "hostAliases": [{"ip": MACHINE, "hostnames": ["api.openai.com"]}],
    }


def test_a_run_in_a_pod_is_one_tree_with_exact_tokens(fleet: Injecting, api: StandIn) -> None:
    fleet.cluster.apply(workload("Deployment", "forecast", pod(api), replicas=1))
    eventually(WITHIN, lambda: all_ready(fleet.cluster, "deployment", "forecast"))
    row = fleet.known("forecast", "Deployment", "forecast", within=WITHIN)
    key = row["sonde.workload.key"]
    before = fleet.cluster.get("deployment", "forecast")["spec"]
    now = fleet.set_level(key, "full", "capturing")
    assert now["sonde.capture.observed"] == "full"

    def whole() -> dict | None:
        """The trace of a run that is over: two model calls around a tool."""
        for call in fleet.sonde.calls(key):
            trace = call.get("trace_id")
            told = ask_socket(fleet.sonde.data / "sonde.sock", "GET", f"traces/{trace}")
            kinds = [run["gen_ai.operation.name"] for run in told.get("runs", [])]
            if len(told["calls"]) == 2 and {"invoke_workflow", "execute_tool"} <= set(kinds):
                return told
        return None

    try:
        told = until("a run is whole", whole, WITHIN, 1)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{fleet.sonde.calls(key)[-2:]}") from error
    spans = [*told["calls"], *told["runs"]]
    known = {span["span_id"] for span in spans}
    roots = [span for span in spans if span.get("parent_span_id") not in known]
    assert len({span["trace_id"] for span in spans}) == 1
    assert [root["gen_ai.operation.name"] for root in roots] == ["invoke_workflow"]
    for call in told["calls"]:
        assert call["gen_ai.usage.input_tokens"] == 42
        assert call["gen_ai.usage.output_tokens"] == 17
        assert call["sonde.workload.key"] == key
    tool = next(run for run in told["runs"] if run["gen_ai.operation.name"] == "execute_tool")
    assert tool["name"] == "weather"

    fleet.set_level(key, "off", "discovered")
    assert fleet.cluster.get("deployment", "forecast")["spec"] == before
