"""A Sonde that puts SDKs into containers, and what a container was made from."""

import json
import pathlib
import subprocess

from docker_host import GATEWAY
from harness import Sonde, until
from test_docker import Containers

WINDOW = 4

LABEL = "dev.sonde.replaces"

# One of nearly everything that `docker run` knows.
FLAGS = [
    *("--network", "front", "--network-alias", "webby", "--ip", "10.77.0.9"),
    *("--mac-address", "02:42:aa:bb:cc:dd", "--hostname", "shop-1"),
    *("--volume", "/data", "--volume", "named:/named:ro", "--tmpfs", "/scratch:size=1m"),
    *("--mount", "type=bind,src=/etc,dst=/hostetc,readonly"),
    *("--ulimit", "nofile=512:1024", "--memory", "256m", "--shm-size", "32m"),
    *("--health-cmd", "true", "--health-interval", "1s", "--stop-timeout", "3"),
    *("--label", "team=search", "--restart", "on-failure:3", "--log-opt", "max-size=1m"),
    *("--init", "--stop-signal", "SIGINT", "--workdir", "/srv/work"),
    *("--add-host", "shop.test:192.0.2.7", "--cap-add", "NET_ADMIN", "--user", "1000:1000"),
    *("--security-opt", "no-new-privileges", "--device", "/dev/null:/dev/xnull"),
    *("--sysctl", "net.core.somaxconn=512", "--publish", "127.0.0.1:7777:80"),
    *("--env", 'ODD=a "b" $c=%d\\', "--env", "EMPTY=", "--env", "PYTHONPATH=/srv/lib"),
]


class Reachable(Sonde):
    """A Sonde that containers reach, with its SDK where this host can be written."""

    def __init__(self, directory: pathlib.Path, prefix=()):
        super().__init__(directory, prefix=prefix)
        self.url = f"http://{GATEWAY}:{self.port}"
        self.bundle = pathlib.Path("/var/lib/sonde/agents/python")

    def start(self, *flags: str) -> "Reachable":
        command = [*self.prefix, self.binary, "up", "--data-dir", self.data, *flags]
        command += ["--listen", f"{GATEWAY}:{self.port}", "--agent-window", str(WINDOW)]
        command += ["--agent-endpoint", self.url, "--agent-bundle", self.bundle]
        with open(self.out, "wb") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        until("sonde up answers", self.answers, 20)
        return self


class Injecting(Containers):
    """A host for containers whose Sonde may put SDKs into them."""

    def __init__(self, directory: pathlib.Path):
        super().__init__(directory, "machine")
        self.sonde = Reachable(directory / "sonde", prefix=self.host.enter)

    def known(self, name: str, *more: str, **environment: str) -> str:
        """Starts a container that calls, and gives its key once it is known."""
        return self.key(self.run(name, *more, **environment))

    def key(self, pid: int, seconds: float = 30) -> str:
        """The key of the workload that a process is an instance of."""
        return self.sonde.service(pid, seconds)["sonde.workload.key"]

    def wish(self, key: str, level: str) -> None:
        """Sets the dial, and waits for nothing."""
        self.sonde.rows("services", "set", key, "--capture", level, "--wait", "0")

    def reached(self, key: str, level: str, state: str, word: str = "", seconds: float = 25):
        """The row, once it is in a state at a wished level that is said with a word."""

        def there():
            now = self.row(key)
            wanted = now["sonde.capture.desired"] == level
            done = wanted and now["sonde.capture.state"] == state
            return now if done and word in now["sonde.capture.reason"] else None

        try:
            return until(f"{key} is {state} at {level}", there, seconds, 0.5)
        except AssertionError:
            said = self.sonde.err.read_text()[-3000:]
            raise AssertionError(f"{self.row(key)}\n{said}\n{self.names()}") from None

    def set_level(self, key: str, level: str, state: str, word: str = "") -> dict:
        """Sets the dial, and waits for a state that is said with a word."""
        self.wish(key, level)
        return self.reached(key, level, state, word)

    def names(self) -> set[str]:
        """Names of all containers, running or not."""
        return set(self.host.docker("ps", "--all", "--format", "{{.Names}}").split())

    def environment(self, name: str) -> dict[str, str]:
        """The variables that a container is made with."""
        pairs = self.host.inspect(name)["Config"]["Env"]
        return dict(pair.split("=", 1) for pair in pairs)


def specification(inspect: dict) -> dict:
    """All that a container was made from: what the engine says of it, without what each container
    has for itself. Written without a look at how Sonde does it."""
    own = {"Id", "Created", "State", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"}
    own |= {"GraphDriver", "ExecIDs"}
    said = {name: value for name, value in inspect.items() if name not in own}
    said = json.loads(json.dumps(said))
    short = inspect["Id"][:12]
    if said["Config"]["Hostname"] == short:
        del said["Config"]["Hostname"]
    # A volume without a name is mounted by the name that the engine gave it.
    unnamed = {
        f"{one['Name']}:{one['Destination']}"
        for one in said["Mounts"]
        if one["Type"] == "volume" and len(one["Name"]) == 64
    }
    binds = said["HostConfig"]["Binds"] or []
    binds = [bind for bind in binds if bind.removesuffix(":ro") not in unnamed]
    said["HostConfig"]["Binds"] = binds
    for one in said["Mounts"]:
        if f"{one.get('Name')}:{one['Destination']}" in unnamed:
            del one["Mode"]
    said["Mounts"].sort(key=lambda one: one["Destination"])
    networks = said.pop("NetworkSettings")["Networks"]
    passing = {"EndpointID"}
    said["Networks"] = {
        name: {
            field: [alias for alias in value or [] if alias != short]
            if field == "Aliases"
            else value or None
            for field, value in network.items()
            if field not in passing
        }
        for name, network in networks.items()
    }
    return said


def program(host: Injecting, name: str) -> int:
    """The machine's pid of the program of a container with an init of the engine's."""
    first = host.host.pid(name)
    children = pathlib.Path(f"/proc/{first}/task/{first}/children")
    return int(until("the program runs", lambda: children.read_text().split(), 10)[0])
