"""What SDKs in containers tell: agents and tools around calls, with exact tokens."""

import pytest

from docker_host import GATEWAY, PYTHON
from docker_injection.injecting import specification
from framework_runs import PORT, SERVICES, assert_whole, command, places, variables
from harness import StandIn

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]


@pytest.fixture
def api(host, tmp_path):
    """A stand-in that has each tool that is offered called once."""
    one = StandIn(tmp_path, f"0.0.0.0:{PORT}", prefix=host.host.enter, more=["--calls-tools"])
    yield one
    one.stop()


def test_runs_in_containers_are_trees_with_exact_tokens(host, api):
    """Unmodified programs of real frameworks, on a network of their own, side by side."""
    flags = [part for pair in variables().items() for part in ("--env", "=".join(pair))]
    flags += [part for at, to in places(api).values() for part in ("--volume", f"{at}:{to}:ro")]
    flags += ["--network", "front", "--add-host", f"api.openai.com:{GATEWAY}"]
    flags += ["--stop-timeout", "1"]
    for name, service in SERVICES.items():
        host.host.docker("run", "--detach", "--name", service, *flags, PYTHON, *command(name))
    keys = {
        name: host.key(host.host.pid(service), seconds=120) for name, service in SERVICES.items()
    }
    before = {service: host.host.inspect(service) for service in SERVICES.values()}
    for key in keys.values():
        host.wish(key, "full")
    for key in keys.values():
        host.reached(key, "full", "capturing", seconds=120)
    assert_whole(host.sonde, keys)
    for key in keys.values():
        host.reached(key, "full", "capturing", "spans arrive")
        host.wish(key, "off")
    for name, service in SERVICES.items():
        host.reached(keys[name], "off", "discovered", seconds=60)
        assert specification(host.host.inspect(service)) == specification(before[service])
    assert host.names() == set(SERVICES.values())
