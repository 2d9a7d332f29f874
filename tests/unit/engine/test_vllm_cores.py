"""The cores of vLLM's ranks on a CPU; `tests/vllm` starts two ranks for real."""

from __future__ import annotations

import pytest

from core.errors import ConfigError
from engine.backends.vllm.cores import bind_mask


def test_ranks_get_equal_parts_of_the_cores_that_may_be_used() -> None:
    assert bind_mask([0, 1], 2) == "0|1"
    assert bind_mask([2, 3, 6, 7, 9], 2) == "2,3|6,7"


def test_more_ranks_than_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match="over 3 ranks and 2 cores may be used; lower vllm_tensor_parallel_size"):
        bind_mask([0, 1], 3)
