"""vLLM in bfloat16, text only, in whatever Python has it. Arguments: model folder, threads."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from benchmarks.decode_peers.worker import serve_runs

MAX_CONCURRENCY = 64
CACHE_BYTES = 600 << 20


def main() -> None:
    torch: Any = import_module("torch")
    vllm: Any = import_module("vllm")  # of the Python that runs this; BindChat's own need not have it
    folder, num_threads = sys.argv[1:]
    torch.set_num_threads(int(num_threads))
    engine: Any = vllm.LLM(
        folder,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=2048,
        max_num_seqs=MAX_CONCURRENCY,
        enable_prefix_caching=False,
        enforce_eager=True,
        kv_cache_memory_bytes=CACHE_BYTES,
    )

    def decode(prompts: list[list[int]], num_new: int) -> int:
        sampling = vllm.SamplingParams(temperature=0, max_tokens=num_new, ignore_eos=True, detokenize=False)
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        return sum(len(out.outputs[0].token_ids) for out in engine.generate(inputs, sampling, use_tqdm=False))

    serve_runs(decode)


if __name__ == "__main__":
    main()
