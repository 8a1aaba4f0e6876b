"""The cluster as tests use it. Standard library only."""

import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
# From nothing, on a busy machine of two cores.
BUILD_SECONDS = 1800


class Cluster:
    """A cluster with a state directory of its own."""

    def __init__(self, state: pathlib.Path):
        self.state = state
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.lower().endswith("_proxy") and name != "KUBECONFIG"
        } | {"SONDE_CLUSTER_STATE": str(state)}

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess:
        """Calls the script and returns how it ended."""
        return subprocess.run(
            [HERE / "cluster", *arguments],
            env=self.environment,
            timeout=seconds,
            capture_output=True,
            text=True,
        )

    def call(self, *arguments: str, seconds: float = 120) -> str:
        """Calls the script, which must succeed, and returns what it printed."""
        ended = self.run(*arguments, seconds=seconds)
        assert ended.returncode == 0, f"cluster {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def up(self) -> None:
        """Builds what is missing, starts the cluster, and learns what `env` says."""
        self.call("up", seconds=BUILD_SECONDS)
        shell = f"{self.call('env')}\nexec env -0"
        lines = subprocess.run(
            ["bash", "-c", shell], env=self.environment, check=True, capture_output=True, text=True
        )
        self.environment |= dict(one.split("=", 1) for one in lines.stdout.split("\0") if one)

    def kubectl(self, *arguments: str, given: str | None = None, seconds: float = 60) -> str:
        """Calls kubectl, which must succeed, and returns what it printed."""
        ended = subprocess.run(
            ["kubectl", *arguments],
            env=self.environment,
            input=given,
            timeout=seconds,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, f"kubectl {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout

    def get(self, *arguments: str) -> dict:
        """An object or a list of them."""
        return json.loads(self.kubectl("get", "-o", "json", *arguments))

    def apply(self, *objects: dict) -> None:
        """Creates the objects, or makes them so."""
        self.kubectl("apply", "-f", "-", given="\n---\n".join(json.dumps(one) for one in objects))

    def pods(self, label: str) -> list[dict]:
        """The pods `app=label` that are not on their way out."""
        found = self.get("pods", "-l", f"app={label}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def python(self, pod: dict, program: str) -> str:
        """Runs a program in the pod's container, through the API, and returns what it printed."""
        return self.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", program)


def running_cluster(state: pathlib.Path, **environment: str) -> Iterator[Cluster]:
    """A cluster that is made with more in the environment, until it is not needed any more."""
    one = Cluster(state)
    one.environment |= environment
    try:
        one.up()
        yield one
    finally:
        one.call("down")


def eventually(seconds: float, check: Callable[[], object]) -> object:
    """What `check` answers once that is true; fails when it never is."""
    end = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.3)
    return answer
