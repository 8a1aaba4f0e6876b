"""Which tests run, and what they are given.

These tests are left out of a run of the whole of `e2e`, for the first one builds Kubernetes: name
this directory, or a file in it, to run them.
"""

import pathlib
from collections.abc import Iterator

import pytest
from one_node import HERE, Cluster


def pytest_ignore_collect(collection_path: pathlib.Path, config: pytest.Config) -> bool | None:
    """Ignores this directory unless an argument names it."""
    named = [(config.invocation_params.dir / one.split("::")[0]).resolve() for one in config.args]
    return None if any(HERE == one or HERE in one.parents for one in named) else True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster, stopped after the last test of the module."""
    one = Cluster(tmp_path_factory.mktemp("kubernetes") / "state")
    try:
        one.up()
        yield one
    finally:
        one.call("down")
