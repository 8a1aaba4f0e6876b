"""What the tests of the cluster are given."""

import os
from collections.abc import Iterator

import pytest
from one_node import Cluster, running_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster, stopped after the last test of the module."""
    if os.geteuid() != 0:
        pytest.skip("a cluster needs root: it makes namespaces, mounts and cgroups")
    yield from running_cluster(tmp_path_factory.mktemp("kubernetes") / "state")
