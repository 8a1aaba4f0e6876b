"""Who speaks to whom: what is forged, replayed, expired, revoked, oversized or hostile is refused,
and the log says so; and a dashboard that was stolen runs nothing on a node."""

import copy
import http.server
import json
import pathlib
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from fleet import Dashboard, Node
from harness import KINDS, SONDE, ask_socket, until


class Watched:
    """A dashboard whose log is read."""

    def __init__(self, directory: pathlib.Path):
        self.dashboard = Dashboard(directory)
        self.log = directory / "dashboard.log"

    def refusals(self) -> list[dict]:
        """What it said that it refused: what, and whom."""
        lines = self.log.read_text().splitlines()
        lines = [json.loads(line) for line in lines if line.startswith("{")]
        fields = [line["fields"] for line in lines]
        return [one for one in fields if one.get("message") == "refused"]

    def refuses(self, status: int, what: str, ask) -> None:
        """`ask` is answered with the status, and the log names what was refused."""
        # The log takes one line a second, so that nobody can fill it.
        time.sleep(1.1)
        before = len(self.refusals())
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask()
        assert caught.value.code == status, caught.value.read()
        said = until("the log says it", lambda: self.refusals()[before:], 5)
        assert what in said[0]["what"], said


@pytest.fixture(scope="module")
def watched(binary, tmp_path_factory):
    """One for this file."""
    one = Watched(tmp_path_factory.mktemp("security"))
    yield one
    one.dashboard.stop()


def report(node: Node, **more) -> dict:
    """A report of a node, as its controller would send it."""
    body = {"protocol": 2, "instance": node.instance, "generation": 0, "lost": {}}
    return body | {"workloads": list(node.workloads.values()), "sequence": 1} | more


def raw(url: str, path: str, body: bytes, **headers: str) -> None:
    """Sends bytes as they are."""
    sent = {"content-type": "application/json"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    request = urllib.request.Request(f"{url}/api/v1/{path}", body, sent)
    urllib.request.urlopen(request, timeout=20).read()


def test_nobody_speaks_for_another(watched):
    token = watched.dashboard.join_token()
    mine, other = (Node(watched.dashboard, token, name) for name in ("mine", "other"))
    key = other.add("systemd:pay.service", "pay")
    other.post("poll", other.credential, report(other))

    forged = report(mine) | {"instance": other.instance}
    watched.refuses(403, "another node", lambda: mine.post("poll", mine.credential, forged))
    # A header is no identity, whatever its name.
    for name in ("x_instance_id", "x_forwarded_user", "x_openlit_key", "cookie"):
        ask = lambda name=name: raw(  # noqa: E731
            mine.url, "poll", json.dumps(report(other)).encode(), **{name: other.instance["id"]}
        )
        watched.refuses(401, "without a token", ask)
    # An enrolment under the name of a node that is there takes nothing from it.
    thief = {"protocol": 2, "instance": other.instance, "credential": "sonde_node_" + "a" * 64}
    watched.refuses(403, "an enrolment", lambda: mine.post("enrol", token, thief))
    other.post("poll", other.credential, report(other))

    # Another node's workload in an own report is left out, and said to be.
    stolen = copy.deepcopy(other.workloads[key]) | {"name": "stolen"}
    time.sleep(1.1)
    before = len(watched.refusals())
    said = mine.post("poll", mine.credential, report(mine) | {"workloads": [stolen]})
    assert [one["key"] for one in said["refused"]] == [key]
    assert "workloads of another node" in watched.refusals()[before]["what"]
    names = {row["service.name"] for row in watched.dashboard.rows("services")}
    assert "pay" in names and "stolen" not in names
    # Nor does it hear what is wanted of it.
    watched.dashboard.rows("services", "set", key, "--capture", "network", "--wait", "0")
    assert mine.post("poll", mine.credential, report(mine))["desired"] == []


def test_a_replayed_poll_brings_nothing_back(watched):
    node = Node(watched.dashboard, watched.dashboard.join_token(), "replayed")
    key = node.add("systemd:one.service", "one")
    first = report(node)
    node.post("poll", node.credential, first)
    second = copy.deepcopy(first)
    del second["workloads"], second["sequence"]
    changed = copy.deepcopy(node.workloads[key]) | {"name": "renamed"}
    second["delta"] = {"base": 1, "sequence": 2, "changed": [changed], "gone": []}
    node.post("poll", node.credential, second)
    third = copy.deepcopy(second)
    third["delta"] = {"base": 2, "sequence": 3, "changed": [], "gone": [key]}
    node.post("poll", node.credential, third)
    # An old delta is not taken again: the whole list is asked for.
    assert node.post("poll", node.credential, second).get("full") is True
    row = next(r for r in watched.dashboard.rows("services") if r["sonde.workload.key"] == key)
    assert row["sonde.instances"] == []

    # Once the next credential was used, whoever kept the one before is nobody.
    following = "sonde_node_" + "b" * 64
    answer = node.post("poll", node.credential, first | {"next_credential": following})
    assert answer["credential_kept"] is True
    node.post("poll", following, first)
    watched.refuses(401, "a token", lambda: node.post("poll", node.credential, first))


def test_what_expired_or_was_revoked_is_refused(watched):
    dashboard = watched.dashboard
    short = dashboard.join_token("--expires", "1s")
    time.sleep(1.2)
    watched.refuses(401, "a token", lambda: Node(dashboard, short, "late"))

    once = dashboard.join_token("--uses", "1")
    node = Node(dashboard, once, "revoked")
    with pytest.raises(urllib.error.HTTPError):
        Node(dashboard, once, "second")
    node.post("poll", node.credential, report(node))
    ask_socket(
        dashboard.data / "sonde.sock", "POST", "instances/revoke", {"id": node.instance["id"]}
    )
    watched.refuses(401, "a token", lambda: node.post("poll", node.credential, report(node)))

    row = dashboard.rows("tokens", "create", "--kind", "ingest")[0]
    wrong = Node.__new__(Node)
    wrong.url = dashboard.url
    watched.refuses(403, "another kind", lambda: wrong.post("poll", row["token"], report(node)))


def test_oversized_and_hostile_reports_are_refused_or_cleaned(watched):
    node = Node(watched.dashboard, watched.dashboard.join_token(), "hostile")
    bearer = {"authorization": f"Bearer {node.credential}"}
    big = json.dumps(report(node) | {"padding": "x" * (9 << 20)}).encode()
    watched.refuses(413, "size", lambda: raw(node.url, "poll", big, **bearer))
    for garbage in (b"{", b"[]", b'{"protocol":"two"}', b"\xff" * 64, b'{"a":' * 5000):
        watched.refuses(400, "what it sent", lambda g=garbage: raw(node.url, "poll", g, **bearer))

    escape = "\x1b]0;owned\x07\x1b[31m<script>alert(1)</script>'; DROP TABLE workload;--\u202e"
    key = node.add("systemd:evil.service", escape * 100)
    node.workloads[key]["reason"] = escape
    node.workloads[key]["attributes"] = {"a": escape, escape: "b"}
    node.instance["host_name"] = escape
    node.post("poll", node.credential, report(node))
    table = watched.dashboard.cli("services").stdout
    assert "\x1b" not in table and "\x07" not in table and "\u202e" not in table
    shown = watched.log.read_text()
    assert "\x1b" not in shown
    assert node.credential not in shown


class Stolen(http.server.BaseHTTPRequestHandler):
    """A dashboard in the hands of somebody else: it lets every node in, and asks for anything."""

    protocol_version = "HTTP/1.1"
    wish: dict = {}
    reports: list[dict] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/poll"):
            said = json.loads(body)
            self.reports.append(said)
            time.sleep(0.2)
            answer = self.wish
        else:
            answer = {"id": json.loads(body).get("instance", {}).get("id", ""), "protocol": 2}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_) -> None:
        pass


@pytest.mark.kernel
def test_a_stolen_dashboard_runs_nothing(kernel, client, tmp_path):
    """Steps with commands, paths and images in them; wishes above the ceiling of the node; and a
    configuration that would send calls elsewhere."""
    marker = tmp_path / "owned"
    command = f"touch {marker}"
    stolen = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stolen)
    threading.Thread(target=stolen.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{stolen.server_address[1]}"
    data = tmp_path / "controller"
    started = [SONDE, "controller", "--data-dir", data, "--dashboard", url, "--token", "t"]
    log = tmp_path / "controller.log"
    program = client(KINDS[0])

    def step(number: int, change, **more) -> dict:
        given = {"id": f"step-{number}", "change": change, "reason": "r", "actor": "a"}
        return given | {"generation": number, "lease_seconds": 75, "deadline_seconds": 60} | more

    changes = ["exec", "shell", "run", "install", "restart", "enable_sdk", command, "../../bin/sh"]
    steps = [
        step(
            number,
            change,
            key=f"$({command})",
            command=command,
            args=["sh", "-c", command],
            image="evil.example/owned:1",
            path="/etc/ld.so.preload",
        )
        for number, change in enumerate(changes, 1)
    ]
    Stolen.reports.clear()
    Stolen.wish = {
        "protocol": 2,
        "generation": 7,
        "desired": [{"key": f"x/systemd:{command}", "level": command}],
        "steps": steps,
        "rules": {"include": [], "exclude": [], "providers": []},
        "configuration": {
            "hash": "h",
            "settings": {"otlp_endpoint": url, "observe_only": False, "log": "debug"},
            "origin": {},
        },
    }
    with open(log, "wb") as out:
        running = subprocess.Popen(
            [str(part) for part in [*started, "--observe-only"]], stdout=out, stderr=out
        )
    try:

        def told() -> dict:
            steps = [one for said in Stolen.reports for one in said.get("steps", [])]
            return {one["id"]: one for one in steps if one["phase"] not in ("running", "accepted")}

        ended = until("all steps have ended", lambda: len(told()) == len(steps) and told(), 30)
        assert {one["phase"] for one in ended.values()} == {"refused"}, ended
        assert all(one["reason"] for one in ended.values())
        program.call(stream=False)
        time.sleep(1)
        assert not marker.exists()
        assert running.poll() is None, log.read_text()
        children = pathlib.Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()
        assert children == "", "it started a program"
        lines = [json.loads(line)["fields"] for line in log.read_text().splitlines()]
        refused = [one for one in lines if one.get("message") == "refused a step"]
        assert {one["step"] for one in refused} == set(ended), "each is in the log"
    finally:
        running.terminate()
        running.wait(timeout=20)
        stolen.shutdown()
