"""Parity of what surrounds the decoder: the sampling filter, the tokenizer and the prompt formats.

B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity_families import Output
from core.types import AnyArray, SamplingParams
from engine.backends.native.sampler import sample
from models.llama.chat_template import ALPACA_TEMPLATE, BAIR_TEMPLATE, HUMAN_STOP, HUMAN_TEMPLATE, ChatTemplate
from models.llama.tokenizer import SentencePieceTokenizer

PROBABILITY_TOLERANCE = 1e-5
_BISECTIONS = 40
_TOP_TOKEN_ONLY = 1e-9  # top_p must be above 0; the reference also takes 0
_EOS = "</s>"
_CHAT_FORMATS = {"v1": (HUMAN_TEMPLATE, HUMAN_STOP), "bair_v1": (BAIR_TEMPLATE, _EOS)}
_INPUT_PREAMBLE = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)


def drawn_distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """Return the probabilities `(B, V)` with which the sampler draws from `logits` `(B, V)`.

    Measured, not computed: bisection finds, for each rank, the uniform number at which the draw passes it. Tokens are
    ranked as the sampler lays them out: by falling probability when it filters, by id when it does not.
    """
    num_rows, vocab_size = logits.shape
    order = logits.argsort(dim=-1, descending=True, stable=True)
    if params.top_p == 1:
        order = torch.arange(vocab_size).expand_as(order)
    ranks = order.argsort(dim=-1)  # rank of each token
    repeated = logits.repeat_interleave(vocab_size, dim=0)  # (B V, V): one row per rank to find
    wanted = torch.arange(vocab_size).repeat(num_rows)
    low, high = torch.zeros(len(wanted), dtype=torch.float64), torch.ones(len(wanted), dtype=torch.float64)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        token_ids, _ = sample(repeated, [params] * len(wanted), middle.tolist())
        drawn = ranks.repeat_interleave(vocab_size, dim=0).gather(1, torch.tensor(token_ids)[:, None]).squeeze(1)
        low, high = torch.where(drawn <= wanted, middle, low), torch.where(drawn <= wanted, high, middle)
    edges = high.view(num_rows, vocab_size)
    widths = edges.diff(dim=-1, prepend=torch.zeros(num_rows, 1, dtype=torch.float64))
    return torch.zeros_like(widths).scatter(1, order, widths)


def sampling_outputs(folder: Path) -> Iterator[Output]:
    """Yield the filtered distribution and the number of surviving tokens of each temperature and top-p."""
    logits = load_file(folder / "inputs.safetensors")["logits"]
    expected = load_file(folder / "outputs.safetensors")
    for name, value in expected.items():
        if (match := re.fullmatch(r"t([\d.]+)_p([\d.]+)\.filtered_probs", name)) is None:
            continue
        temperature, top_p = float(match[1]), float(match[2])
        params = SamplingParams(max_tokens=1, temperature=temperature, top_p=top_p or _TOP_TOKEN_ONLY)
        drawn = drawn_distribution(logits, params)
        yield name, drawn.numpy(), value.numpy(), PROBABILITY_TOLERANCE
        kept = f"{name.removesuffix('filtered_probs')}kept"
        survivors = (drawn > 2.0 ** (2 - _BISECTIONS)).sum(dim=-1)
        yield kept, survivors.numpy(), expected[kept].numpy(), 0.0


def _characters(text: str) -> AnyArray:
    """Return a text as code points, so that it compares like any other array."""
    return np.array([ord(character) for character in text], dtype=np.int64)


def tokenizer_outputs(folder: Path) -> Iterator[Output]:
    """Yield ids and decoded texts of a SentencePiece model, then the instruction prompts."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = SentencePieceTokenizer((folder / "tokenizer.model").read_bytes())
    for number, row in enumerate(config["rows"]):
        ids = tokenizer.encode(row["text"])
        yield f"ids_bos.{number}", np.array(ids), np.array(row["ids_bos"]), 0.0
        with_eos = [*ids, *tokenizer.eos_token_ids]
        yield f"ids_bos_eos.{number}", np.array(with_eos), np.array(row["ids_bos_eos"]), 0.0
        yield f"decoded.{number}", _characters(tokenizer.decode(ids)), _characters(row["decoded"]), 0.0
    for number, row in enumerate(config["prompts"]):
        instruction, input_text = row["instruction"], row["input"]
        for family, given in (("imagebind_llm", input_text or None), ("multimodal7b", input_text)):
            produced = _instruction_prompt(instruction, given)
            yield f"prompt.{family}.{number}", _characters(produced), _characters(row[family]["text"]), 0.0


def _instruction_prompt(instruction: str, input_text: str | None) -> str:
    """Render an instruction through the chat template; an input is a preamble of its own and part of the turn."""
    user = {"role": "user", "content": instruction}
    if input_text is None:
        return _rendered(ALPACA_TEMPLATE, [user])
    user["content"] += f"\n\n### Input:\n{input_text}"
    return _rendered(ALPACA_TEMPLATE, [{"role": "system", "content": _INPUT_PREAMBLE}, user])


def _rendered(source: str, messages: list[dict[str, str]]) -> str:
    return ChatTemplate(source, {"bos_token": "", "eos_token": _EOS}).render(messages)


def chat_prompt_outputs(folder: Path) -> Iterator[Output]:
    """Yield the chat prompts; where a format has preset turns, which are not in the fixture, what follows them."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for number, row in enumerate(config["rows"]):
        source, stop = _CHAT_FORMATS[row["template"]]
        name = f"{row['template']}.{number}"
        yield f"{name}.stop", _characters(stop), _characters(row["stop"]), 0.0
        roles = ("user", "assistant")
        prompt = _rendered(source, [{"role": roles[i % 2], "content": text} for i, text in enumerate(row["turns"])])
        if "tail_after_preset" in row:
            yield f"{name}.tail", _characters(prompt), _characters(row["tail_after_preset"]), 0.0
            continue
        digest = hashlib.sha256(prompt.encode()).hexdigest()
        yield f"{name}.sha256", _characters(digest), _characters(row["sha256"]), 0.0
