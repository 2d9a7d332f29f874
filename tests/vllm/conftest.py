"""The vLLM suite runs in its own environment (`make test-vllm`); elsewhere it is left out whole and says so."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("vllm") is None:
        reason = pytest.mark.skip(reason="vLLM is not installed here; make test-vllm runs this in its own environment")
        for item in items:
            if "tests/vllm/" in str(item.path):
                item.add_marker(reason)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
