"""Programs with the Python agent in them: how they are started, and what they send."""

import dataclasses
import glob
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

from harness import HERE, ROOT

FRAMEWORKS = HERE / "frameworks"
CACHE = pathlib.Path(os.environ.get("SONDE_CACHE", pathlib.Path.home() / ".cache" / "sonde"))
BUNDLE = ROOT / "agents" / "python" / "dist" / "bundle"
CANARY = b"CANARY"


def venv(name: str) -> pathlib.Path:
    """The environment that `./dev` made of a list of requirements."""
    version = subprocess.run(["python3", "-VV"], capture_output=True, check=True).stdout
    content = (FRAMEWORKS / f"{name}.txt").read_bytes() + version
    key = hashlib.sha256(content).hexdigest()[:12]
    return CACHE / f"agent-{name}-{key}" / "bin"


def pythons() -> dict[str, str]:
    """The Pythons of this machine that the agent is for, one of each version."""
    found = {}
    places = ["/usr/bin/python3.*", str(pathlib.Path.home() / ".pyenv/versions/*/bin/python3.*")]
    for path in sorted(path for place in places for path in glob.glob(place)):
        # With a `t`, one without its lock.
        version = re.fullmatch(r"python(3\.\d+)(t?)", os.path.basename(path))
        if version and tuple(map(int, version[1].split("."))) >= (3, 9):
            found.setdefault(version[1] + version[2], path)
    return found


def interpreters() -> dict[str, str]:
    """The same, and those that `e2e/pythons/make` made, by the names of their directories."""
    made = sorted(glob.glob(str(CACHE / "pythons/*/python3.*")))
    return pythons() | {pathlib.Path(path).parent.name: path for path in made}


def too_old() -> list[str]:
    """Pythons of this machine that the agent is not for: another implementation, older ones."""
    places = str(pathlib.Path.home() / ".pyenv/versions/{}.*/bin/python")
    found = [path for old in ("2", "3.6", "3.7", "3.8") for path in glob.glob(places.format(old))]
    return [*glob.glob("/usr/bin/pypy3"), *found]


@dataclasses.dataclass
class Span:
    """A span as it was sent."""

    name: str
    scope: str
    trace: str
    id: str
    parent: str | None
    attributes: dict
    resource: dict
    failed: bool


class Sink:
    """A receiver of OTLP in JSON that keeps what it gets."""

    def __init__(self):
        self.spans: list[Span] = []
        self.bytes = b""
        self.headers: list[dict] = []
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Takes everything."""

            def do_POST(self):
                """Keeps one request."""
                body = self.rfile.read(int(self.headers["content-length"]))
                sink.take(body, dict(self.headers))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_arguments):
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, body: bytes, headers: dict) -> None:
        """Reads one request."""
        self.bytes += body
        self.headers.append(headers)
        for one in json.loads(body)["resourceSpans"]:
            resource = values(one["resource"]["attributes"])
            for scope in one["scopeSpans"]:
                for span in scope["spans"]:
                    self.spans.append(
                        Span(
                            span["name"],
                            scope["scope"]["name"],
                            span["traceId"],
                            span["spanId"],
                            span.get("parentSpanId"),
                            values(span["attributes"]),
                            resource,
                            span["status"].get("code") == 2,
                        )
                    )

    def operations(self) -> list[str]:
        """What was done, in the order of its end."""
        return [span.attributes.get("gen_ai.operation.name") for span in self.spans]

    def close(self) -> None:
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()


def values(attributes: list[dict]) -> dict:
    """Attributes as plain values."""
    told = {}
    for one in attributes:
        ((kind, value),) = one["value"].items()
        told[one["key"]] = int(value) if kind == "intValue" else value
    return told


def environment(sink: Sink | None, stand_in=None, **more: str) -> dict[str, str]:
    """What a program with the agent is started with."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    told = kept | {"PYTHONPATH": str(BUNDLE / "bootstrap"), "PYTHONWARNINGS": "ignore"}
    if sink is not None:
        told["SONDE_AGENT_ENDPOINT"] = sink.endpoint
    if stand_in is not None:
        api = f"http://{stand_in.address}:{stand_in.plain_port}/v1"
        told |= {"OPENAI_API_KEY": "sk-stand-in", "OPENAI_BASE_URL": api}
    # Of the frameworks: no word to their makers, no question at the end.
    told |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}
    told |= {"CREWAI_TESTING": "true", "ANONYMIZED_TELEMETRY": "false"}
    return told | more


def run(python, *arguments, env: dict, seconds: float = 90, **more) -> subprocess.CompletedProcess:
    """Runs a program to its end."""
    command = [str(part) for part in (python, *arguments)]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=seconds, check=False, **more
    )


def marks(pid: int) -> list[str]:
    """What the agent says of itself in a process."""
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return re.findall(r"/memfd:sonde-agent/1 (.*) \(deleted\)", maps)


PYTHON = shutil.which("python3") or sys.executable
