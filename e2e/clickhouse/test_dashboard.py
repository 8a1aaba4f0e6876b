"""The dashboard itself on ClickHouse: it takes calls, pages through them, and what it acknowledged
outlives kills of itself; a second one on the same database answers the same."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import types
import urllib.error
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from test_server import running

from fleet import Node
from harness import SONDE, ask_socket, free_port, until

NOW = time.time_ns()


class Dashboard:
    """`sonde dashboard` on a ClickHouse; its directory outlives it."""

    def __init__(self, directory: pathlib.Path, where: str, database: str = "sonde", more=()):
        self.directory, self.where, self.database, self.more = directory, where, database, more
        directory.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        self.port = free_port()
        command = [SONDE, "dashboard", "--data-dir", self.directory / "data"]
        command += ["--listen", f"127.0.0.1:{self.port}", "--clickhouse", f"http://{self.where}"]
        command += ["--otlp-grpc", "off", "--otlp-http", "off"]
        command += ["--clickhouse-database", self.database, *self.more]
        with open(self.directory / "log", "ab") as log:
            command = [str(part) for part in command]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.token = until("the dashboard answers", self.new_token, 60, 0.2)

    def new_token(self) -> str:
        made = [SONDE, "tokens", "create", "--kind", "ingest", "--output", "json"]
        made += ["--data-dir", self.directory / "data"]
        done = subprocess.run([str(part) for part in made], capture_output=True, text=True)
        return json.loads(done.stdout)["token"] if done.returncode == 0 else ""

    def cli(self, *arguments: str) -> list[dict]:
        """What a command prints."""
        command = [SONDE, *arguments, "--output", "json", "--data-dir", self.directory / "data"]
        done = subprocess.run([str(p) for p in command], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def send(self, numbers: range, make=lambda number: span(number)) -> bool:
        """Whether calls of these numbers were acknowledged."""
        spans = [make(number) for number in numbers]
        body = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "openlit"}, "spans": spans}]}]}
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {self.token}",
        }
        url = f"http://127.0.0.1:{self.port}/v1/traces"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, path: str) -> dict:
        return ask_socket(self.directory / "data" / "sonde.sock", "GET", path)

    def numbers(self) -> list[int]:
        """The numbers of all calls, page by page."""
        found, before = [], ""
        while True:
            page = self.ask(f"calls?limit=100{before}")
            found += [int(call["span_id"], 16) for call in page["calls"]]
            if "next" not in page:
                return found
            before = f"&before={page['next']}"

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


def span(number: int) -> dict:
    start = NOW - 1_800_000_000_000 + number * 1_000_000
    value = {"stringValue": "gpt-4o"}
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 1_000_000_000),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.request.model", "value": value},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}},
        ],
    }


def seen_by_kernel(number: int) -> dict:
    """The sighting that knows what was answered, and its place in no trace."""
    made = span(number)
    made["attributes"] += [
        {"key": "gen_ai.response.id", "value": {"stringValue": f"chatcmpl-{number}"}},
        {"key": "sonde.recognised_by", "value": {"stringValue": "host"}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "7"}},
    ]
    return made


def seen_by_sdk(number: int) -> dict:
    """The same call as an SDK tells of a stream: without counts, in a trace of the program."""
    made = span(number)
    made["traceId"] = f"{number + (1 << 64):032x}"
    made["spanId"] = f"{number + (1 << 32):016x}"
    made["attributes"] = [one for one in made["attributes"] if "usage" not in one["key"]]
    made["attributes"] += [
        {"key": "gen_ai.response.id", "value": {"stringValue": f"chatcmpl-{number}"}},
        {"key": "gen_ai.conversation.id", "value": {"stringValue": "talk"}},
    ]
    return made


@pytest.fixture
def start(tmp_path):
    """Starts dashboards on one ClickHouse; all end with the test."""
    assert SONDE.exists(), f"{SONDE} is missing; run ./dev build"
    started: list[Dashboard] = []
    with running(tmp_path / "clickhouse") as (where, _):

        def start(name: str, database: str = "sonde") -> Dashboard:
            started.append(Dashboard(tmp_path / name, where, database))
            return started[-1]

        yield start
        for one in started:
            if one.process.poll() is None:
                one.end(signal.SIGKILL)


def totals(dashboard: Dashboard) -> dict:
    return dashboard.ask("overview")["totals"]


def test_calls_are_paged_through_and_outlive_a_restart_and_are_the_same_elsewhere(start):
    first, second = start("a"), start("b")
    assert first.send(range(1, 251)) and second.send(range(251, 301))
    assert second.send(range(1, 11)), "sent again, to the other"
    expected = list(range(300, 0, -1))
    for dashboard in (first, second):
        assert dashboard.numbers() == expected
        assert (totals(dashboard)["calls"], totals(dashboard)["input_tokens"]) == (300, 900)
    assert first.ask("status")["storage_bytes"] > 10_000, "the directory has a few bytes"
    assert first.end(signal.SIGTERM) == 0
    first.start()
    assert first.numbers() == expected
    assert first.ask(f"traces/{7:032x}")["calls"][0]["span_id"] == f"{7:016x}"
    log = (first.directory / "log").read_text()
    assert not re.search(r"\b(ERROR|panicked)\b", log), log


def test_a_wish_at_one_dashboard_wakes_the_poll_that_waits_at_another(start):
    here, there = start("a"), start("b")
    join = here.cli("tokens", "create", "--kind", "join")[0]["token"]
    url = f"http://127.0.0.1:{there.port}"
    node = Node(types.SimpleNamespace(url=url), join, "bare-1")
    key = node.add("process:agent-1", "agent")
    node.poll()
    node.poll()
    until("here it is known, too", lambda: here.cli("services"), 30)
    answers: list[tuple[float, dict]] = []

    def wait() -> None:
        began = time.monotonic()
        answer = node.poll(wait=30)
        answers.append((time.monotonic() - began, answer))

    waiting = threading.Thread(target=wait)
    waiting.start()
    # It waits there: nothing tells of that, and an answer that comes at once would not be held.
    time.sleep(2)
    assert not answers, "there was nothing to tell"
    here.cli("services", "set", key, "--capture", "network", "--wait", "0")
    waiting.join(60)
    ((took, answer),) = answers
    assert took < 25, "it was held until its end"
    assert [(one["key"], one["level"]) for one in answer["desired"]] == [(key, "network")]


def test_two_sightings_by_way_of_two_dashboards_count_once_whatever_is_killed(start):
    """The kernel's go to one dashboard, the SDK's to another; each is killed now and then, and
    what it did not acknowledge is sent again, half of it to the other one."""
    one, other = start("a"), start("b")
    size, batches = 5, 30

    def sender(make, dashboards) -> None:
        for batch in range(batches):
            numbers = range(batch * size + 1, (batch + 1) * size + 1)
            for attempt in range(10_000):
                if dashboards[attempt % 2 if batch % 2 else 0].send(numbers, make):
                    break
                time.sleep(0.02)

    threads = [
        threading.Thread(target=sender, args=(seen_by_kernel, [one, other])),
        threading.Thread(target=sender, args=(seen_by_sdk, [other, one])),
    ]
    for thread in threads:
        thread.start()
    for kill in range(4):
        time.sleep(0.5 + kill * 0.2)
        victim = [one, other][kill % 2]
        victim.end(signal.SIGKILL)
        victim.start()
    for thread in threads:
        thread.join()
    wanted = size * batches
    # Whatever a kill left half done is finished by the next that writes.
    assert one.send(range(wanted + 1, wanted + 2), seen_by_kernel)
    assert other.send(range(wanted + 1, wanted + 2), seen_by_sdk)
    wanted += 1
    for dashboard in (one, other):
        found = dashboard.numbers()
        assert sorted(found) == [number + (1 << 32) for number in range(1, wanted + 1)]
        sums = totals(dashboard)
        counted = (sums["calls"], sums["input_tokens"], sums["output_tokens"])
        assert counted == (wanted, 3 * wanted, 7 * wanted)
        page = dashboard.ask("calls?limit=1000&filter=conversation:talk%20output:7")
        assert len(page["calls"]) == wanted


def test_on_a_cluster_tables_are_distributed_and_all_is_the_same(tmp_path):
    more = ["--clickhouse-cluster", "main"]
    with running(tmp_path / "clickhouse", "--cluster", "main") as (where, _):
        one, other = (Dashboard(tmp_path / name, where, more=more) for name in "ab")
        try:
            assert one.send(range(1, 151), seen_by_sdk)
            assert other.send(range(1, 151), seen_by_kernel)
            assert other.send(range(1, 11), seen_by_sdk), "sent again, to the other"
            for dashboard in (one, other):
                assert sorted(dashboard.numbers()) == [n + (1 << 32) for n in range(1, 151)]
                sums = totals(dashboard)
                assert (sums["calls"], sums["output_tokens"]) == (150, 1050)
            assert len(one.cli("tokens", "list")) == len(other.cli("tokens", "list"))
            kept = until("the disk was looked at", lambda: one.ask("status").get("storage"), 60)
            assert (kept["engine"], kept["ttl_days"]) == ("clickhouse", 33)
        finally:
            one.end(signal.SIGTERM)
            other.end(signal.SIGTERM)
        for name in "ab":
            log = (tmp_path / name / "log").read_text()
            assert not re.search(r"\b(ERROR|panicked)\b", log), log


def test_a_copy_of_control_state_becomes_the_same_in_another_database(start, tmp_path):
    dashboard = start("a")
    api = dashboard.cli("tokens", "create", "--kind", "api", "--name", "mine")[0]["token"]

    def storage(*arguments: str, database: str = "sonde") -> subprocess.CompletedProcess:
        place = ["--clickhouse", f"http://{dashboard.where}", "--clickhouse-database", database]
        command = [str(part) for part in (SONDE, "storage", *arguments, *place)]
        return subprocess.run(command, capture_output=True, text=True)

    copy = tmp_path / "copy"
    assert storage("backup", copy).returncode == 0
    assert storage("restore", copy).returncode != 0, "what is there is not overwritten"
    assert storage("backup", tmp_path / "none", database="nothing").returncode != 0
    done = storage("restore", copy, database="other")
    assert (done.returncode, "other" in done.stdout) == (0, True), done.stderr
    other = start("b", "other")
    request = urllib.request.Request(f"http://127.0.0.1:{other.port}/api/v1/status")
    request.add_header("authorization", f"Bearer {api}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200, "the token is good there"
    # A dashboard on ClickHouse has no control state in its directory, and says where it is.
    plain = [str(SONDE), "storage", "backup", str(tmp_path / "plain")]
    plain += ["--data-dir", str(dashboard.directory / "data")]
    done = subprocess.run(plain, capture_output=True, text=True)
    assert (done.returncode != 0, "--clickhouse" in done.stderr) == (True, True), done.stderr


def test_status_says_how_long_calls_are_kept_and_that_clickhouse_knows(start):
    dashboard = start("a")

    def look() -> str:
        command = [SONDE, "storage", "status", "--data-dir", dashboard.directory / "data"]
        said = subprocess.run([str(p) for p in command], capture_output=True, text=True).stdout
        return said if "standing" in said else ""

    said = until("the disk was looked at", look, 60)
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert lines["kept"].endswith(" in ClickHouse"), said
    assert "at most 30 before today" in lines["days"], said
    assert lines["ttl"].startswith("33 days"), said


def test_what_was_acknowledged_is_there_once_after_kills_under_full_ingest(start):
    dashboard = start("a")
    acknowledged: set[int] = set()
    sent = 1
    for kill in range(12):
        done = threading.Event()
        firsts = iter(range(sent, sent + 1_000_000, 10))
        lock = threading.Lock()

        def sender(firsts=firsts, lock=lock, done=done) -> None:
            while not done.is_set():
                with lock:
                    first = next(firsts)
                numbers = range(first, first + 10)
                if dashboard.send(numbers):
                    with lock:
                        acknowledged.update(numbers)

        before = len(acknowledged)
        threads = [threading.Thread(target=sender) for _ in range(4)]
        for thread in threads:
            thread.start()
        wanted = before + 40 * (kill % 4 + 1)
        until("calls are acknowledged", lambda n=wanted: len(acknowledged) >= n, 60, 0.005)
        dashboard.end(signal.SIGKILL)
        done.set()
        for thread in threads:
            thread.join()
        sent = next(firsts)
        dashboard.start()
    # Whatever the last kill left half done is finished by the next that writes.
    assert dashboard.send(range(sent, sent + 1))
    acknowledged.add(sent)
    found = dashboard.numbers()
    assert len(found) == len(set(found)), "each once"
    assert acknowledged <= set(found), f"{len(acknowledged - set(found))} were lost"
    assert totals(dashboard)["calls"] == len(found)
