"""Settings that no other test starts a Sonde with: each is seen to do what it says."""

import http.server
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import urllib.request
import uuid

import pytest

import groups
from agent import CANARY, FRAMEWORKS, environment, venv
from callers import CALLER, caller_environment
from fleet import Dashboard, Node
from harness import CURL, KINDS, ROOT, SONDE, until
from test_storage import kept, send
from tls import TlsFront

DAY = 86_400


@pytest.fixture
def grouped(stand_in):
    """Starts a caller in a control group of its own; gives its pid."""
    running, made = [], []

    def start(path: str) -> int:
        group = groups.unified()
        for name in path.split("/"):
            group /= name
            if not group.exists():
                group.mkdir()
                made.append(group)
        told = os.environ | caller_environment(stand_in, stand_in.address, CALL_CA=stand_in.ca)
        command = groups.inside(group, ["python3", str(CALLER)])
        running.append(subprocess.Popen(command, env=told, stdout=subprocess.DEVNULL))
        return running[-1].pid

    yield start
    for process in running:
        process.kill()
        process.wait()
    for group in made:
        groups.remove(group)


def wish_all(sonde, keys: dict[str, str]) -> None:
    """Wishes to capture each, without waiting."""
    for key in keys.values():
        sonde.cli("services", "set", key, "--capture", "network", "--wait", "0")


def reached(sonde, keys: dict[str, str], captured: str, **blocked: str) -> None:
    """Waits until one is captured and the others are blocked, each by its ceiling."""

    def row(name: str) -> dict:
        return next(r for r in sonde.services() if r["sonde.workload.key"] == keys[name])

    until("one is captured", lambda: row(captured)["sonde.capture.observed"] == "network", 20)
    for name, ceiling in blocked.items():
        until(f"{name} is blocked", lambda n=name: row(n)["sonde.capture.state"] == "blocked")
        assert ceiling in row(name)["sonde.capture.reason"], row(name)
        assert row(name)["sonde.capture.observed"] == "off"


def rings(sonde) -> set[int]:
    """Sizes of the ring buffers that it holds."""
    found = set()
    for entry in os.scandir(f"/proc/{sonde.process.pid}/fdinfo"):
        text = open(entry.path).read()
        if re.search(r"^map_type:\s*27$", text, re.MULTILINE):
            found.add(int(re.search(r"^max_entries:\s*(\d+)$", text, re.MULTILINE)[1]))
    return found


@pytest.mark.kernel
def test_units_are_captured_as_the_node_allows_and_the_ring_is_as_large_as_it_says(
    kernel, up, grouped
):
    mine = f"sonde-test-{os.getpid()}-"
    allow = ["--allow-unit", f"{mine}shop*", "--deny-unit", f"{mine}shop-bank.service"]
    sonde = up("--ring-mib", "2", "--injection", "off", *allow)
    keys = {
        name: sonde.service(grouped(f"{mine}{unit}.service"), 20)["sonde.workload.key"]
        for name, unit in (("shop", "shop"), ("bank", "shop-bank"), ("other", "other"))
    }
    wish_all(sonde, keys)
    reached(sonde, keys, "shop", bank="deny_unit", other="allow_unit")
    assert 2 << 20 in rings(sonde), rings(sonde)
    preview = ["services", "enable", keys["shop"], "--full", "--dry-run"]
    done = sonde.cli(*preview, check=False)
    assert done.returncode == 64 and "`injection`" in done.stderr, done.stderr


class ApiServer(http.server.BaseHTTPRequestHandler):
    """As much of an API server as names pods: one list of them, a watch without news, and the id of
    the cluster."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answers one request."""
        self.server.asked.append(self.path)
        if "watch=true" in self.path:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.server.over.wait()
            return
        status, kind = 200, {"kind": "PodList", "items": self.server.pods}
        kind["metadata"] = {"resourceVersion": "5"}
        if self.path.startswith("/api/v1/namespaces/kube-system"):
            kind = {"kind": "PartialObjectMetadata", "metadata": {"name": "kube-system"}}
            kind["apiVersion"], kind["metadata"]["uid"] = "meta.k8s.io/v1", str(uuid.uuid4())
        elif not self.path.startswith("/api/v1/pods"):
            status, kind = 404, {"kind": "Status", "status": "Failure", "code": 404}
        body = json.dumps({"apiVersion": "v1"} | kind).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        """Says nothing."""


def pod(name: str, namespace: str, container: str) -> dict:
    """A pod of one container."""
    state = {"name": "main", "image": "shop:1", "imageID": "", "ready": True, "restartCount": 0}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "4"},
        "spec": {"nodeName": "by-hand", "containers": [{"name": "main"}]},
        "status": {"containerStatuses": [state | {"containerID": f"containerd://{container}"}]},
    }


@pytest.mark.kernel
def test_pods_are_captured_in_the_namespaces_that_the_node_allows(kernel, up, grouped, tmp_path):
    spaces = {"shop": "prod-shop", "bank": "prod-bank", "dev": "dev"}
    containers = {name: secrets.token_hex(32) for name in spaces}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ApiServer)
    server.daemon_threads, server.asked, server.over = True, [], threading.Event()
    server.pods = [pod(name, spaces[name], containers[name]) for name in spaces]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    flags = ["--kubeconfig", str(tmp_path / "kubeconfig"), "--node-name", "by-hand"]
    sonde = up(*flags, "--allow-namespace", "prod-*", "--deny-namespace", "prod-bank")
    try:
        until("the pods of the node are asked for", lambda: any("pods" in p for p in server.asked))
        assert any("spec.nodeName%3Dby-hand" in path for path in server.asked), server.asked
        pids = {name: grouped(f"kubepods/pod{uuid.uuid4()}/{containers[name]}") for name in spaces}
        keys = {name: sonde.service(pid, 20)["sonde.workload.key"] for name, pid in pids.items()}
        for name, key in keys.items():
            assert key.endswith(f"/k8s:{spaces[name]}:pod/{name}:main"), key
        wish_all(sonde, keys)
        reached(sonde, keys, "shop", bank="deny_namespace", dev="allow_namespace")
    finally:
        server.over.set()
        server.shutdown()


@pytest.mark.kernel
def test_what_is_included_counts_and_a_host_that_is_added_is_a_provider(
    kernel, up, stand_in, client
):
    gateway = "name=our-gateway,host=models.example.com,family=openai"
    sonde = up("--include", "path=*/curl", "--provider", gateway, "--max-capture", "off")
    client(KINDS[0]).call(stream=False)
    command = [CURL, "--silent", "--cacert", stand_in.ca]
    command += ["--resolve", f"models.example.com:{stand_in.port}:{stand_in.address}"]
    place = f"https://models.example.com:{stand_in.port}/v1/models"

    def found() -> list[dict]:
        subprocess.run([*command, place], capture_output=True, timeout=20)
        return sonde.services()

    (row,) = until("curl is found", found)
    assert (row["service.name"], row["sonde.providers"]) == ("curl", ["our-gateway"])
    key = row["sonde.workload.key"]
    sonde.cli("services", "set", key, "--capture", "network", "--wait", "0")

    def reason() -> str:
        found()
        return sonde.services()[0]["sonde.capture.reason"]

    until("no capture at all is allowed", lambda: "max_capture" in reason(), 20)


@pytest.mark.kernel
def test_calls_reach_a_receiver_over_tls_with_a_header(kernel, up, client, certificates, tmp_path):
    far = up("--ebpf", "false")
    made = far.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
    front = TlsFront(certificates, far.port)
    program = client(KINDS[0])
    command = [SONDE, "controller", "--standalone", "--data-dir", tmp_path / "alone"]
    command += ["--otlp-endpoint", f"https://127.0.0.1:{front.port}", "--wish", "name=*"]
    command += ["--otlp-ca", certificates / "ca.pem"]
    # A secret stands in the environment.
    bearer = {"SONDE_OTLP_HEADER": f"authorization=Bearer {json.loads(made)['token']}"}
    log = open(tmp_path / "alone.log", "wb")
    alone = subprocess.Popen(
        [str(part) for part in command], env=os.environ | bearer, stdout=log, stderr=log
    )
    try:

        def arrived() -> list[dict]:
            program.call(stream=False)
            return kept(far)

        assert until("a call arrives", arrived, 20, 0.5)[0]["process.pid"] == program.pid
        assert front.handshakes
    finally:
        alone.terminate()
        assert alone.wait(timeout=20) == 0
        front.stop()


def test_everything_is_passed_on_over_tls(up, certificates):
    far = up("--ebpf", "false")
    made = far.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
    front = TlsFront(certificates, far.port)
    to = ["--forward", f"https://127.0.0.1:{front.port}", "--forward-what", "everything"]
    to += ["--forward-header", f"authorization=Bearer {json.loads(made)['token']}"]
    near = up("--ebpf", "false", *to, "--forward-ca", str(certificates / "ca.pem"))
    made = near.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
    token = json.loads(made)["token"]
    send(near, token, 3)
    until("the calls arrive", lambda: len(kept(far)) == 3, 20)
    # Where calls alone are passed on, metrics are rejected.
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [METRIC]}]}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{near.url}/v1/metrics", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer) == {}
    front.stop()


METRIC = {
    "name": "gen_ai.client.token.usage",
    "sum": {
        "isMonotonic": True,
        "aggregationTemporality": 2,
        "dataPoints": [{"asInt": "7", "timeUnixNano": "1795435200000000000"}],
    },
}


def test_calls_are_kept_for_as_long_and_as_full_as_it_is_said(up):
    sonde = up("--ebpf", "false")
    made = sonde.cli("tokens", "create", "--kind", "ingest", "--output", "json").stdout
    for number, days in enumerate((0, 2, 5)):
        send(sonde, json.loads(made)["token"], 5, days * DAY, 1 + number * 100)
    assert len(kept(sonde)) == 15
    # And what is asked for by a filter.
    assert len(sonde.rows("calls", "--filter", "input:<2 service:shop")) == 6
    assert sonde.rows("calls", "--filter", "model:claude*") == []
    assert sonde.stop() == 0

    def standing() -> str:
        found = re.search(r"^standing +(\w+)$", sonde.cli("storage", "status").stdout, re.MULTILINE)
        return found[1] if found else ""

    full = ["--disk-warn-percent", "1", "--disk-drop-percent"]
    sonde.start("--ebpf", "false", "--retention-days", "3", *full, "100")
    until("five days ago is gone", lambda: len(kept(sonde)) == 10, 20)
    until("it warns of the disk", lambda: standing() == "warning", 20)
    assert "of at most 3 before today" in sonde.cli("storage", "status").stdout
    assert sonde.stop() == 0
    sonde.start("--ebpf", "false", *full, "1")
    until("the oldest day makes room", lambda: len(kept(sonde)) == 5, 20)
    until("and that is said", lambda: "dropped    1 days" in status(sonde), 20)
    assert standing() == "dropping"


def status(sonde) -> str:
    """What it says of its storage."""
    return sonde.cli("storage", "status").stdout


def test_services_are_listed_by_platform_and_namespace(tmp_path):
    dashboard = Dashboard(tmp_path)
    try:
        node = Node(dashboard, dashboard.join_token(), "node-1")
        shop = node.add("k8s:shop:web:main", "web", attributes={"k8s.namespace.name": "shop"})
        bank = node.add("k8s:bank:web:main", "web", attributes={"k8s.namespace.name": "bank"})
        unit = node.add("systemd:web.service", "web", platform="systemd")
        node.poll()

        def listed(*flags: str) -> set[str]:
            return {row["sonde.workload.key"] for row in dashboard.rows("services", *flags)}

        until("all are listed", lambda: listed() == {shop, bank, unit})
        assert listed("--namespace", "shop") == {shop}
        assert listed("--platform", "systemd") == {unit}
        assert listed("--platform", "kubernetes", "--namespace", "bank") == {bank}
        done = dashboard.cli("services", "--platform", "docker")
        assert done.returncode == 0 and "lists all" in done.stderr, done.stderr
    finally:
        dashboard.stop()


def test_a_recording_is_played_over_and_over(up):
    sonde = up("--ebpf", "false")
    command = [str(SONDE), "replay", str(ROOT / "fixtures" / "demo.transcript"), "--loop"]
    command += ["--speed", "1000", "--data-dir", str(sonde.data)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as replay:

        def times() -> int:
            ids = [row.get("gen_ai.response.id") for row in kept(sonde)]
            return max((ids.count(one) for one in set(ids) if one), default=0)

        until("a call was played three times", lambda: times() >= 3, 30, 0.3)
        assert replay.poll() is None
        replay.send_signal(signal.SIGINT)
        assert replay.wait(timeout=20) == 0


def test_a_program_is_run_with_a_name_a_header_and_its_content(sink, stand_in, tmp_path):
    command = [SONDE, "run", "--agent-endpoint", sink.endpoint, "--agent-content"]
    command += ["--agent-bundle", tmp_path / "agents", "--service-name", "my shop", "--"]
    command += [venv("requirements") / "python", FRAMEWORKS / "openai_call.py"]
    own = environment(None, stand_in) | {"SONDE_AGENT_HEADER": "x-team=blue,x-way=run"}
    own.pop("PYTHONPATH")
    done = subprocess.run(
        [str(part) for part in command], env=own, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (span,) = sink.spans
    assert span.resource["service.name"] == "my shop"
    sent = {name.lower(): value for name, value in sink.headers[0].items()}
    assert (sent["x-team"], sent["x-way"]) == ("blue", "run")
    assert CANARY in sink.bytes


class Asked(http.server.BaseHTTPRequestHandler):
    """Answers nothing that is good, and keeps what it was asked."""

    def do_GET(self):
        """Keeps one request."""
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = do_GET

    def address_string(self):
        """Of a socket there is none."""
        return "somebody"

    def log_message(self, *_arguments):
        """Says nothing."""


def test_a_socket_that_is_named_is_asked_about_containers(up, tmp_path):
    place = tmp_path / "engine.sock"

    class Engine(http.server.ThreadingHTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self):
            self.socket.bind(self.server_address)

    engine = Engine(str(place), Asked)
    engine.asked = []
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    up("--ebpf", "false", "--container-socket", str(place))
    until("the engine was asked", lambda: engine.asked, 20)
    assert any("containers" in path or "version" in path for path, _ in engine.asked), engine.asked
    engine.shutdown()


def test_clickhouse_is_asked_as_the_user_that_is_named(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "password").write_text("hush\n")
    command = [SONDE, "storage", "backup", tmp_path / "copy", "--clickhouse-user", "reader"]
    command += ["--clickhouse", f"http://127.0.0.1:{server.server_port}"]
    command += ["--clickhouse-password-file", tmp_path / "password"]
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, timeout=90)
    server.shutdown()
    assert done.returncode == 1 and "hush" not in done.stderr, done.stderr
    sent = {name.lower(): value for name, value in server.asked[0][1].items()}
    assert (sent["x-clickhouse-user"], sent["x-clickhouse-key"]) == ("reader", "hush")
