"""A dashboard of its own, and nodes that speak the poll protocol to it.

They show what one machine does not have: clusters, ceilings, losses, silence."""

import json
import pathlib
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.request

from harness import SONDE, free_port, until


class Dashboard:
    """A running `sonde dashboard`."""

    def __init__(self, directory: pathlib.Path):
        self.data = directory / "data"
        self.url = f"http://127.0.0.1:{free_port()}"
        log = open(directory / "dashboard.log", "wb")
        command = [SONDE, "dashboard", "--data-dir", self.data]
        command += ["--listen", self.url.removeprefix("http://")]
        command += ["--otlp-grpc", "off", "--otlp-http", "off"]
        self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
        until("the dashboard answers", lambda: self.cli("services").returncode == 0, 20)

    def cli(self, *arguments: str) -> subprocess.CompletedProcess:
        """Runs a command of the command line against it."""
        command = [str(SONDE), *arguments, "--data-dir", str(self.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def rows(self, *arguments: str) -> list[dict]:
        """What a reading command prints, as JSON."""
        done = self.cli(*arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def join_token(self, *more: str) -> str:
        """A new join token."""
        return self.rows("tokens", "create", "--kind", "join", *more)[0]["token"]

    def login_link(self) -> str:
        """A new one-time link to the page."""
        return self.cli("login").stdout.strip()

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(timeout=15)


class Node:
    """A controller that reports what it is given, and does what is wished when it is told to."""

    def __init__(self, dashboard: Dashboard, token: str, host: str, **instance):
        self.url = dashboard.url
        self.credential = f"sonde_node_{secrets.token_hex(32)}"
        self.instance = {
            "id": f"host-{secrets.token_hex(8)}",
            "host_name": host,
            "version": "0.1.0",
            "kernel": "6.12.0",
            "started_unix_nanos": time.time_ns(),
            "platforms": ["kubernetes"],
            "capabilities": ["network", "steps", "configure"],
        } | instance
        self.workloads: dict[str, dict] = {}
        self.more: dict = {}
        self.generation = 0
        self.wish: dict = {}
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        body = {"protocol": 2, "instance": self.instance, "credential": self.credential}
        self.post("enrol", token, body)

    def post(self, what: str, token: str, body: dict) -> dict:
        """Sends a message, and gives the answer."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
        request = urllib.request.Request(
            f"{self.url}/api/v1/{what}", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=40) as response:
            return json.load(response)

    def add(self, key: str, name: str, **more) -> str:
        """A workload that runs on it; gives its key."""
        now = time.time_ns()
        scope = self.instance.get("cluster", {}).get("id", self.instance["id"])
        key = f"{scope}/{key}"
        instance = {
            "pid": 4000 + len(self.workloads),
            "started_unix_nanos": now - 3_600_000_000_000,
            "executable": "/usr/bin/python3.11",
            "arguments": ["python3", "-m", name],
            "user": "app",
            "runtime": {"name": "cpython", "version": "3.11"},
            "tls": "libssl 3.0.17",
            "coverage": {"extent": "covered"},
        }
        self.workloads[key] = {
            "key": key,
            "name": name,
            "platform": "kubernetes",
            "instances": [instance],
            "evidence": [
                {
                    "provider": "openai",
                    "by": "sni",
                    "seen": "api.openai.com",
                    "last_seen_unix_nanos": now,
                },
                {
                    "provider": "openai",
                    "by": "dns",
                    "seen": "api.openai.com",
                    "last_seen_unix_nanos": now,
                },
            ],
            "level": "off",
            "state": "discovered",
            "reason": "",
            "first_seen_unix_nanos": now,
            "last_seen_unix_nanos": now,
            "attributes": {},
        } | more
        return key

    def poll(self, wait: int = 0) -> dict:
        """One poll, with all that it knows."""
        report = {
            "protocol": 2,
            "oldest_protocol": 1,
            "instance": self.instance,
            "generation": self.generation,
            "wait_seconds": wait,
            "workloads": list(self.workloads.values()),
        } | self.more
        answer = self.post("poll", self.credential, report)
        if not answer.get("unchanged"):
            self.generation = answer["generation"]
            self.wish = answer
        return answer

    def obey(self) -> None:
        """Puts in effect what is wished, and says so."""
        for desired in self.wish.get("desired", []):
            known = self.workloads.get(desired["key"])
            if known is not None and known["instances"] and known["state"] != "blocked":
                state = "capturing" if desired["level"] == "network" else "discovered"
                known |= {"level": desired["level"], "state": state}
        configuration = self.wish.get("configuration")
        tried = self.more.get("configuration", {}).get("hash")
        if configuration is not None and configuration["hash"] != tried:
            self.more["configuration"] = {"hash": configuration["hash"]}

    def run(self) -> "Node":
        """Goes on polling and obeying, until it is stopped."""

        def work():
            while not self.stopping.is_set():
                try:
                    self.poll(wait=1)
                except (urllib.error.URLError, OSError):
                    time.sleep(0.2)
                else:
                    self.obey()

        self.stopping.clear()
        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        return self

    def stop(self) -> None:
        """Falls silent."""
        self.stopping.set()
        if self.thread is not None:
            self.thread.join(timeout=15)
