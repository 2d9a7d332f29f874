"""Hugging Face transformers in bfloat16, text only. Arguments: model folder, threads, `static` or `continuous`."""

from __future__ import annotations

import sys
from typing import Any

import torch
import transformers

from benchmarks.decode_peers.worker import serve_runs

library: Any = transformers  # its functions carry no types


def options(num_new: int) -> dict[str, Any]:
    """Return greedy decoding of exactly `num_new` tokens; id 0 stands for padding, an end is never looked for."""
    length = {"max_new_tokens": num_new, "min_new_tokens": num_new}
    return {**length, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


@torch.inference_mode()
def decode_static(model: Any, prompts: list[list[int]], num_new: int) -> int:
    """Pad on the left and generate in one batch."""
    longest = max(map(len, prompts))
    token_ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    out = model.generate(token_ids, attention_mask=mask, generation_config=library.GenerationConfig(**options(num_new)))
    return int(out.shape[0] * (out.shape[1] - longest))


@torch.no_grad()  # the library's own thread writes to what is made here, which inference mode forbids
def decode_continuous(model: Any, prompts: list[list[int]], num_new: int) -> int:
    """Let the library batch continuously over its paged cache."""
    config = library.GenerationConfig(**{**options(num_new), "min_new_tokens": None, "eos_token_id": -1})
    outputs = model.generate_batch(inputs=prompts, generation_config=config)
    return sum(len(output.generated_tokens) for output in outputs.values())


def main() -> None:
    folder, num_threads, way = sys.argv[1:]
    torch.set_num_threads(int(num_threads))
    model = library.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    decode = {"static": decode_static, "continuous": decode_continuous}[way]
    serve_runs(lambda prompts, num_new: decode(model, prompts, num_new))


if __name__ == "__main__":
    main()
