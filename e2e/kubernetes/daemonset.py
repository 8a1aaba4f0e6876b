"""Sonde on a cluster: its controller as a DaemonSet, and beside the cluster the dashboard and the
stand-in."""

import json
import pathlib
import subprocess

from one_node import Cluster
from test_cluster import PYTHON

from callers import CALLER, caller_environment
from harness import ROOT, SONDE, Sonde, StandIn, until

# The machine, as the node and its pods reach it.
MACHINE = "198.19.77.1"
# Until a workload that calls twice a second is known with all that the API server says of it.
KNOWN_WITHIN = 60


class Dashboard(Sonde):
    """`sonde dashboard` on the machine, where controllers of the cluster reach it."""

    def __init__(self, directory: pathlib.Path):
        super().__init__(directory)
        self.url = f"http://{MACHINE}:{self.port}"

    def start(self, *flags: str) -> "Dashboard":
        command = [SONDE, "dashboard", "--data-dir", self.data]
        command += ["--listen", f"{MACHINE}:{self.port}", *flags]
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        until("the dashboard answers", self.answers, 20)
        return self

    def answers(self) -> bool:
        assert self.process.poll() is None, self.err.read_text()
        return self.cli("services", "--output", "json", check=False).returncode == 0


class Fleet:
    """The cluster with Sonde on its node, and the stand-in and the dashboard beside it."""

    def __init__(self, cluster: Cluster, directory: pathlib.Path):
        self.cluster = cluster
        self.directory = directory
        (directory / "stand-in").mkdir()
        self.stand_in = StandIn(directory / "stand-in", f"{MACHINE}:443")
        self.sonde = Dashboard(directory).start()

    def install(self) -> None:
        """Makes the image, and applies the manifests with what is particular here."""
        archive = self.directory / "sonde.tar"
        command = [ROOT / "deploy" / "image", "sonde.test/sonde:1", archive, SONDE]
        subprocess.run([str(part) for part in command], check=True)
        self.load(archive)
        archive.unlink()
        made = self.sonde.cli("tokens", "create", "--kind", "join", "--output", "json").stdout
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sonde"}},
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "sonde-token", "namespace": "sonde"},
                "stringData": {"token": json.loads(made)["token"]},
            },
        )
        self.apply_controller()

    def load(self, archive: pathlib.Path) -> None:
        """Gives the node an image."""
        self.cluster.call("load", str(archive))

    def apply_controller(self, *patches: dict) -> None:
        """Applies the controller's manifests as an overlay would, and waits until it runs."""
        place = self.directory / "overlay"
        place.mkdir(exist_ok=True)
        for name in ("namespace.yaml", "controller.yaml", "injection.yaml"):
            (place / name).write_text((ROOT / "deploy" / "kubernetes" / name).read_text())
        here = [
            {
                "op": "replace",
                "path": "/spec/template/spec/containers/0/args/0",
                "value": f"--dashboard={self.sonde.url}",
            },
            {
                "op": "add",
                "path": "/spec/template/spec/containers/0/imagePullPolicy",
                "value": "Never",
            },
        ]
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "sonde",
            "resources": ["namespace.yaml", "controller.yaml", "injection.yaml"],
            "images": [{"name": "sonde", "newName": "sonde.test/sonde", "newTag": "1"}],
            "patches": [{"target": {"kind": "DaemonSet"}, "patch": json.dumps([*here, *patches])}],
        }
        (place / "kustomization.yaml").write_text(json.dumps(overlay))
        self.cluster.kubectl("apply", "-k", str(place))
        rollout = ["rollout", "status", "daemonset/sonde-controller", "-n", "sonde"]
        try:
            self.cluster.kubectl(*rollout, "--timeout=90s", seconds=120)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from error

    def said(self) -> str:
        """What the controller's pod logged, and what became of it."""
        pods = ["-n", "sonde", "-l", "app.kubernetes.io/name=sonde-controller"]
        ended = self.cluster.kubectl("describe", "pods", *pods)[-2000:]
        return self.cluster.kubectl("logs", *pods, "--tail=40") + ended

    def container(self, name: str = "main", **environment: str) -> dict:
        """A container that calls the stand-in."""
        pairs = caller_environment(self.stand_in, MACHINE, **environment)
        return {
            "name": name,
            "image": PYTHON,
            "imagePullPolicy": "Never",
            "command": ["python3", "/srv/app/caller.py"],
            "env": [{"name": key, "value": value} for key, value in pairs.items()],
            "volumeMounts": [{"name": "app", "mountPath": "/srv/app"}],
        }

    def pod(self, *containers: dict, **more) -> dict:
        """The specification of a pod that calls."""
        return {
            "containers": list(containers) or [self.container()],
            "volumes": [{"name": "app", "hostPath": {"path": str(CALLER.parent)}}],
            "terminationGracePeriodSeconds": 1,
            **more,
        }

    def rows(self, app: str) -> list[dict]:
        """The rows of what carries this label, as the API server gave it."""
        return [
            row
            for row in self.sonde.services()
            if app in {about(row).get("k8s.pod.label.app"), row.get("sonde.workload.name")}
        ]

    def known(
        self, app: str, kind: str, name: str, container: str = "main", within: float = KNOWN_WITHIN
    ) -> dict:
        """The one row of a workload, once all is known."""

        def look():
            for row in self.sonde.services():
                facts = about(row)
                wanted = {
                    "sonde.workload.kind": kind,
                    "sonde.workload.name": name,
                    "k8s.container.name": container,
                }
                if all(facts.get(key) == value for key, value in wanted.items()):
                    return row
            return None

        try:
            return until(f"{kind} {name} is known", look, within, 0.5)
        except AssertionError as error:
            rows = json.dumps(self.sonde.services(), indent=1)[-6000:]
            raise AssertionError(f"{error}\n{rows}\n{self.said()}") from error

    def requests(self) -> list[dict]:
        """What the controllers have asked the API server, as it wrote it down."""
        user = "system:serviceaccount:sonde:sonde-controller"
        log = self.cluster.state / "log" / "audit.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [line for line in lines if line["user"]["username"] == user]


def about(row: dict) -> dict:
    """All attributes of a row and of its first instance."""
    return row | (row["sonde.instances"] or [{}])[0]
