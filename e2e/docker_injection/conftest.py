"""The engine that the tests here share, each with it for itself."""

import pytest

from docker_injection.injecting import Injecting


@pytest.fixture(scope="package")
def host(kernel, tmp_path_factory):
    """A running engine, with Sonde beside it."""
    one = None
    try:
        one = Injecting(tmp_path_factory.mktemp("docker"))
        one.sonde.start()
        one.host.docker("network", "create", "--subnet", "10.77.0.0/24", "front")
        one.host.docker("network", "create", "back")
        yield one
        one.down()
    finally:
        if one is not None:
            one.host.down()


@pytest.fixture(autouse=True)
def alone(host):
    """Each test has the engine for itself."""
    yield
    left = host.host.docker("ps", "--all", "--quiet").split()
    if left:
        host.host.docker("rm", "--force", "--volumes", *left)
