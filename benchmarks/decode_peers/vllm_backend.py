"""BindChat's vLLM backend, in whatever Python has vLLM. Arguments: condition (1 or 0), threads.

vLLM's worker processes import this module again, and their search for kernels trips over numba's libraries: what brings
numba is imported where it runs.
"""

from __future__ import annotations

import sys

from benchmarks.decode_peers.worker import serve_runs

MAX_CONTEXT = 2048


def main() -> None:
    import torch

    from benchmarks.decode_peers.ours import RunningBackend, any_condition
    from benchmarks.decode_peers.vllm_peer import CACHE_BYTES, MAX_CONCURRENCY
    from engine.backends import BACKENDS, DecodingConfig
    from engine.backends.vllm.options import VllmOptions
    from models.registry import load_model

    has_condition, num_threads = sys.argv[1:]
    torch.set_num_threads(int(num_threads))
    bundle = load_model("mini", torch.bfloat16)
    config = DecodingConfig(
        max_slots=MAX_CONCURRENCY,
        max_queue=MAX_CONCURRENCY,
        max_context=MAX_CONTEXT,
        vllm=VllmOptions(eager=True, kv_cache_bytes=CACHE_BYTES, prefix_caching=False),
    )
    condition = any_condition(bundle) if has_condition == "1" else None
    running = RunningBackend(BACKENDS.load("vllm")(bundle, config), condition)
    try:
        serve_runs(running.decode)
    finally:
        running.stop()


if __name__ == "__main__":
    main()
