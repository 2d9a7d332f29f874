"""The Ray suite runs in its own environment (`make test-scale`); elsewhere it is left out whole and says so."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.scale.cluster import Cluster, running_cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("ray") is None:
        reason = pytest.mark.skip(reason="ray is not installed here; make test-scale runs this in its own environment")
        for item in items:
            if "tests/scale/" in str(item.path):
                item.add_marker(reason)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two replicas of each part of the tiny model; decoders may become three."""
    folder: Path = tmp_path_factory.mktemp("scale")
    with running_cluster(folder) as running:
        yield running
