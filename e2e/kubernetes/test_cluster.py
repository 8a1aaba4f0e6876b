"""The cluster itself: runs what a real one runs, dies as a real one dies, and leaves nothing.

The tests build on each other, in the order they stand in.
"""

import ipaddress
import json
import os
import pathlib
import subprocess

import pytest
from one_node import Cluster, eventually

# `./dev` has built it by then: that takes longer.
pytestmark = pytest.mark.timeout(600)

PYTHON = "sonde.test/python:1"
PODS = ipaddress.ip_network("10.244.0.0/24")
# What the kubelet would set for the whole machine, and where things of a node usually are.
SYSCTLS = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"]
USUAL_PLACES = [
    "/etc/cni",
    "/etc/containerd",
    "/etc/kubernetes",
    "/run/cni-bin",
    "/run/containerd",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
]

SERVE = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["HOSTNAME"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
print("serving", flush=True)
http.server.ThreadingHTTPServer(("", 8000), Answer).serve_forever()
"""
WAIT = "import signal; signal.sigwait([signal.SIGTERM])"


def container(program: str, **more) -> dict:
    """A container that runs a Python program."""
    return {
        "name": "main",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", program],
        **more,
    }


def workload(kind: str, label: str, pod: dict, **spec) -> dict:
    """A workload whose pods carry the label `app`."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": label},
        "spec": {
            "selector": {"matchLabels": {"app": label}},
            "template": {
                "metadata": {"labels": {"app": label}},
                "spec": {"terminationGracePeriodSeconds": 1, **pod},
            },
            **spec,
        },
    }


def fetch(url: str) -> str:
    """A program that prints what it gets from there."""
    return f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).read().decode())"


def fetch_if_there(url: str) -> str:
    """The same, but prints nothing where nothing answers yet."""
    return f"try:\n {fetch(url)}\nexcept OSError: pass".replace("; print", "\n print")


def links() -> set[str]:
    """The machine's network interfaces."""
    return set(os.listdir("/sys/class/net"))


def sysctls() -> dict[str, str]:
    """Settings of the whole machine."""
    return {name: pathlib.Path("/proc/sys", name).read_text() for name in SYSCTLS}


def places() -> set[str]:
    """Those of the usual places that are on the machine."""
    return {place for place in USUAL_PLACES if os.path.lexists(place)}


def processes_with(file: str, text: str) -> list[int]:
    """Living processes whose file in /proc holds the text."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and text in (process / file).read_text(errors="replace"):
                found.append(int(process.name))
        except OSError:
            continue  # It ended meanwhile.
    return found


def processes_in_namespace(kind: str, identity: str) -> list[str]:
    """Processes that are in the namespace."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns" / kind) == identity:
                found.append(process.name)
        except OSError:
            continue
    return found


def containers_of(pod: dict) -> list[int]:
    """The pod's processes, found by its cgroup."""
    return processes_with("cgroup", pod["metadata"]["uid"])


def all_ready(cluster: Cluster, kind: str, label: str) -> bool:
    """The controller has seen the latest wish, and every pod of it runs to Ready."""
    found = cluster.get(kind, label)
    status = found["status"]
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return False
    if kind == "daemonset":
        wanted = status["desiredNumberScheduled"]
        return wanted > 0 and status.get("numberReady") == wanted
    wanted = found["spec"]["replicas"]
    keys = ["replicas", "readyReplicas", "updatedReplicas", "availableReplicas"]
    return all(status.get(key) == wanted for key in keys)


@pytest.fixture(scope="module")
def before() -> dict:
    """What the machine is like without the cluster."""
    return {"links": links(), "sysctls": sysctls(), "places": places()}


def test_the_node_becomes_ready(before: dict, cluster: Cluster) -> None:
    (node,) = cluster.get("nodes")["items"]
    conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["nodeInfo"]["kubeletVersion"] in cluster.kubectl("version")
    status = cluster.call("status")
    assert "dead" not in status
    assert status.count("running") == 7


def test_the_machine_stays_as_it_was(
    before: dict, cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    # Its network got the one interface that leads to the node; addresses of services are
    # translated in the node alone.
    assert links() - before["links"] == {"sonde-k8s"}
    eventually(20, lambda: "KUBE-SERVICES" in cluster.call("enter", "iptables-save"))
    here = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True)
    assert "KUBE-" not in here.stdout
    assert sysctls() == before["sysctls"]
    assert places() == before["places"]
    # A second cluster would take the first one's addresses.
    second = Cluster(tmp_path / "second")
    ended = second.run("up")
    assert ended.returncode == 1
    assert "sonde-k8s exists" in ended.stderr
    assert not second.state.exists()
    assert cluster.run("status").returncode == 0


def test_a_deployment_runs_two_replicas_that_reach_each_other(cluster: Cluster) -> None:
    ready = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    pod = {"containers": [container(SERVE, readinessProbe=ready)]}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    cluster.apply(workload("Deployment", "web", pod, replicas=2), service)
    eventually(60, lambda: all_ready(cluster, "deployment", "web"))

    one, other = cluster.pods("web")
    address = other["status"]["podIP"]
    assert ipaddress.ip_address(address) in PODS
    assert address != one["status"]["podIP"]
    answer = cluster.python(one, fetch(f"http://{address}:8000/"))
    assert answer.strip() == other["metadata"]["name"]
    # Through the service, which kube-proxy translates, both replicas answer in time.
    address = cluster.get("service", "web")["spec"]["clusterIP"]
    names = {pod["metadata"]["name"] for pod in (one, other)}
    seen: set[str] = set()

    def both_answered() -> bool:
        seen.update(cluster.python(one, fetch_if_there(f"http://{address}/")).split())
        return seen == names

    eventually(60, both_answered)


def test_logs_come_through_the_api(cluster: Cluster) -> None:
    for pod in cluster.pods("web"):
        assert cluster.kubectl("logs", pod["metadata"]["name"]).splitlines()[0] == "serving"


def test_a_patch_with_an_init_container_and_a_volume_rolls(cluster: Cluster) -> None:
    old = cluster.pods("web")
    mount = [{"name": "agent", "mountPath": "/agent"}]
    write = "open('/agent/marker', 'w').write('from the init container')"
    patch = {
        "spec": {
            "template": {
                "spec": {
                    "volumes": [{"name": "agent", "emptyDir": {}}],
                    "initContainers": [container(write, volumeMounts=mount) | {"name": "put"}],
                    "containers": [{"name": "main", "volumeMounts": mount}],
                }
            }
        }
    }
    cluster.kubectl("patch", "deployment", "web", "-p", json.dumps(patch))
    eventually(90, lambda: all_ready(cluster, "deployment", "web"))

    new = eventually(30, lambda: len(found := cluster.pods("web")) == 2 and found)
    assert not {pod["metadata"]["uid"] for pod in new} & {pod["metadata"]["uid"] for pod in old}
    for pod in new:
        read = cluster.python(pod, "print(open('/agent/marker').read())")
        assert read.strip() == "from the init container"
    eventually(30, lambda: not any(containers_of(pod) for pod in old))
    assert len(cluster.get("replicasets", "-l", "app=web")["items"]) == 2


def test_a_privileged_daemon_set_sees_every_process_of_the_machine(cluster: Cluster) -> None:
    pod = {
        "hostPID": True,
        "hostNetwork": True,
        "containers": [container(WAIT, securityContext={"privileged": True})],
    }
    cluster.apply(workload("DaemonSet", "watcher", pod))
    eventually(60, lambda: all_ready(cluster, "daemonset", "watcher"))

    (watcher,) = cluster.pods("watcher")
    assert watcher["status"]["podIP"] == watcher["status"]["hostIP"]
    web = cluster.pods("web")[0]
    program = (
        "import glob, json, os\n"
        "pids = [int(p.split('/')[2]) for p in glob.glob('/proc/[0-9]*')]\n"
        "own = open('/proc/self/status').read()\n"
        "caps = [l.split()[1] for l in own.splitlines() if l.startswith('CapEff')][0]\n"
        "print(json.dumps({'pids': pids, 'caps': caps, 'first': open('/proc/1/stat').read()}))"
    )
    seen = json.loads(cluster.python(watcher, program))
    # The pids are the machine's own: this test's, its pods' and those of the kubelet.
    assert os.getpid() in seen["pids"]
    assert set(containers_of(web)) <= set(seen["pids"])
    own = pathlib.Path("/proc/self/status").read_text()
    ours = next(line.split()[1] for line in own.splitlines() if line.startswith("CapBnd"))
    assert int(seen["caps"], 16) == int(ours, 16)
    assert seen["first"].split()[0] == "1"


def test_a_daemon_set_gets_just_the_capabilities_it_names(cluster: Cluster) -> None:
    wanted = {"DAC_READ_SEARCH": 2, "SYS_PTRACE": 19, "PERFMON": 38, "BPF": 39}
    security = {"capabilities": {"drop": ["ALL"], "add": list(wanted)}}
    pod = {"hostPID": True, "containers": [container(WAIT, securityContext=security)]}
    cluster.apply(workload("DaemonSet", "observer", pod))
    eventually(60, lambda: all_ready(cluster, "daemonset", "observer"))

    (observer,) = cluster.pods("observer")
    own = cluster.python(observer, "print(open('/proc/self/status').read())")
    effective = next(line.split()[1] for line in own.splitlines() if line.startswith("CapEff"))
    assert int(effective, 16) == sum(1 << number for number in wanted.values())


def test_a_job_reaches_the_api_from_inside_and_completes(cluster: Cluster) -> None:
    program = (
        "import os, ssl, urllib.request as u\n"
        "d = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "t = open(d + 'token').read()\n"
        "h = os.environ['KUBERNETES_SERVICE_HOST']\n"
        "r = u.Request(f'https://{h}/version', headers={'authorization': 'Bearer ' + t})\n"
        "c = ssl.create_default_context(cafile=d + 'ca.crt')\n"
        "print(u.urlopen(r, context=c, timeout=5).read().decode())"
    )
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once"},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {"app": "once"}},
                "spec": {"restartPolicy": "Never", "containers": [container(program)]},
            },
        },
    }
    cluster.apply(job)

    def ended() -> str | None:
        conditions = cluster.get("job", "once")["status"].get("conditions", [])
        types = {one["type"] for one in conditions if one["status"] == "True"}
        return next(iter(types & {"Complete", "Failed"}), None)

    how = eventually(60, ended)
    said = cluster.kubectl("logs", "job/once")
    assert how == "Complete", said
    version = json.loads(said)["gitVersion"]
    assert version == cluster.get("nodes")["items"][0]["status"]["nodeInfo"]["kubeletVersion"]


def test_an_image_can_be_made_from_a_directory(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    directory = pathlib.Path(cluster.environment["PATH"].split(":")[0])
    (tmp_path / "hold").write_bytes((directory / "pause").read_bytes())
    (tmp_path / "hold").chmod(0o755)
    cluster.call("image", "sonde.test/hold:1", str(tmp_path), "/hold")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "hold"},
        "spec": {
            "containers": [
                {"name": "main", "image": "sonde.test/hold:1", "imagePullPolicy": "Never"}
            ]
        },
    }
    cluster.apply(pod)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/hold", "--timeout=30s")
    assert processes_with("cmdline", "/hold\0")
    cluster.kubectl("delete", "pod", "hold", "--now")


def test_a_node_that_dies_is_noticed_and_recovers(cluster: Cluster) -> None:
    pods = cluster.pods("web") + cluster.pods("watcher") + cluster.pods("observer")
    assert len(pods) == 4
    assert all(containers_of(pod) for pod in pods)

    cluster.call("fail")
    assert not [pid for pod in pods for pid in containers_of(pod)]
    ended = cluster.run("status")
    dead = {line.split()[0] for line in ended.stdout.splitlines() if line.endswith("dead")}
    assert dead == {"containerd", "kubelet", "kube-proxy"}
    assert ended.returncode == 1

    def standing() -> str:
        conditions = cluster.get("nodes")["items"][0]["status"]["conditions"]
        return next(one["status"] for one in conditions if one["type"] == "Ready")

    eventually(40, lambda: standing() == "Unknown")
    assert "not ready" in cluster.run("status").stdout

    cluster.call("recover")
    assert standing() == "True"
    eventually(60, lambda: all(containers_of(pod) for pod in pods))
    for kind, label in [("deployment", "web"), ("daemonset", "watcher"), ("daemonset", "observer")]:
        eventually(60, lambda kind=kind, label=label: all_ready(cluster, kind, label))
    # They are the same pods, started again.
    after = cluster.pods("web") + cluster.pods("watcher") + cluster.pods("observer")
    assert {p["metadata"]["uid"] for p in after} == {p["metadata"]["uid"] for p in pods}
    assert all(p["status"]["containerStatuses"][0]["restartCount"] == 1 for p in after)
    names = {pod["metadata"]["name"] for pod in cluster.pods("web")}
    url = f"http://{cluster.get('service', 'web')['spec']['clusterIP']}/"
    web = cluster.pods("web")[0]
    answer = eventually(30, lambda: cluster.python(web, fetch_if_there(url)).strip())
    assert answer in names


def test_down_leaves_nothing(before: dict, cluster: Cluster) -> None:
    holder = (cluster.state / "pid" / "namespaces").read_text().strip()
    spaces = {kind: os.readlink(f"/proc/{holder}/ns/{kind}") for kind in ("net", "mnt", "uts")}
    pods = [pod["metadata"]["uid"] for pod in cluster.get("pods", "-A")["items"]]
    assert len(pods) >= 4
    assert spaces["net"] != os.readlink("/proc/self/ns/net")

    cluster.call("down")

    assert cluster.run("status").stdout == "down\n"
    for kind, identity in spaces.items():
        eventually(
            5, lambda kind=kind, identity=identity: not processes_in_namespace(kind, identity)
        )
    assert not processes_with("mountinfo", "sonde-kubernetes")
    assert not processes_with("mountinfo", str(cluster.state))
    assert not processes_with("cgroup", "sonde-kubernetes")
    assert not [uid for uid in pods if processes_with("cgroup", uid)]
    assert not list(pathlib.Path("/sys/fs/cgroup").rglob("sonde-kubernetes"))
    assert not cluster.state.exists()
    assert links() == before["links"]
    assert sysctls() == before["sysctls"]
    assert places() == before["places"]
    cluster.call("down")
