"""Which cores each rank of vLLM computes on, where it runs on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigError

VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"
_NODES = Path("/sys/devices/system/node")


@contextmanager
def cores_shared(num_ranks: int) -> Iterator[None]:
    """Give each rank that starts in this block its part of this process's cores, unless the operator or vLLM does.

    vLLM gives each rank a memory node of the machine and refuses to start where there are fewer; its environment
    variable is the only way to say otherwise. Raises `ConfigError` when there are fewer cores than ranks.
    """
    if num_ranks == 1 or VARIABLE in os.environ or len(list(_NODES.glob("node[0-9]*"))) >= num_ranks:
        yield
        return
    os.environ[VARIABLE] = bind_mask(sorted(os.sched_getaffinity(0)), num_ranks)
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def bind_mask(cores: list[int], num_ranks: int) -> str:
    """Return vLLM's mask of equal, neighbouring parts, "0,1|2,3" for four cores and two ranks; odd cores stay free.

    Raises `ConfigError` when a rank would have none.
    """
    share = len(cores) // num_ranks
    if share == 0:
        raise ConfigError(
            f"vLLM splits the model over {num_ranks} ranks and {len(cores)} cores may be used; lower "
            "vllm_tensor_parallel_size or vllm_pipeline_parallel_size, or allow more cores",
            param="vllm_tensor_parallel_size",
        )
    parts = (cores[rank * share : (rank + 1) * share] for rank in range(num_ranks))
    return "|".join(",".join(map(str, part)) for part in parts)
