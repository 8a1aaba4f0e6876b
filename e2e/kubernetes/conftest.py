"""What the tests of the cluster are given."""

from collections.abc import Iterator

import pytest
from one_node import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster, stopped after the last test of the module."""
    one = Cluster(tmp_path_factory.mktemp("kubernetes") / "state")
    try:
        one.up()
        yield one
    finally:
        one.call("down")
