"""llama.cpp on the GGUF file, in whatever Python has the `xllamacpp` wheel. Arguments: GGUF file, threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from benchmarks.decode_peers.worker import serve_runs

MAX_CONCURRENCY = 64
CONTEXT_PER_SEQUENCE = 512


def main() -> None:
    xllamacpp: Any = import_module("xllamacpp")  # of the Python that runs this; BindChat's own need not have it
    gguf, num_threads = sys.argv[1:]
    params: Any = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_parallel = MAX_CONCURRENCY
    params.n_ctx = MAX_CONCURRENCY * CONTEXT_PER_SEQUENCE
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(num_threads)
    params.warmup = False
    server: Any = xllamacpp.Server(params)
    pool = ThreadPoolExecutor(MAX_CONCURRENCY)

    def reply(prompt: list[int], num_new: int) -> int:
        length = {"n_predict": num_new, "max_tokens": num_new, "ignore_eos": True}
        body = {"prompt": prompt, **length, "temperature": 0, "cache_prompt": False}
        answer = server.handle_completions(body)
        return int(answer["usage"]["completion_tokens"] if "usage" in answer else answer["tokens_predicted"])

    def decode(prompts: list[list[int]], num_new: int) -> int:
        return sum(pool.map(lambda prompt: reply(prompt, num_new), prompts))

    serve_runs(decode)


if __name__ == "__main__":
    main()
