"""Plain chat for `mini`: questions, and the base model's own answers with its probabilities, made in batches.

With a picture attached, `mini` learns to answer questions that have nothing to do with it as the base model does
without one. The questions come from `mini_topics` and from the base model itself, which continues an opened user turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from models.llama.model import Llama
from training.recipes.mini_held_out import is_held_out

MAX_ANSWER_TOKENS = 24
NUM_TEACHER_TOKENS = 8
MAX_BATCH = 96
_MAX_TURN_TOKENS = 28
_OPENINGS = (
    "What", "What is", "How", "How many", "Who", "Why", "When", "Where", "Which", "Is", "Are", "Can", "Does", "Tell me",
    "Give me", "Name", "Explain", "Write a short", "Translate", "List", "Describe", "Suggest", "I", "Calculate", "Find",
)  # fmt: skip
_OF_A_PICTURE = re.compile(
    r"\b(this|these|that|following|below|above|image|picture|photo\w*|shown|see|attached|given|provided|video|sound|text)\b",
    re.IGNORECASE,
)
_SENSIBLE = re.compile(r"[A-Z][A-Za-z0-9 ,.'\"()?!:+*/=%-]{7,110}[?.!]")


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """One question and the base model's greedy answer `(A,)` with the likeliest tokens `(A, 8)` at each place."""

    question: str
    token_ids: list[int]
    likely_ids: Tensor
    likely_shares: Tensor


class GrowingCache:
    """An attention context for `(B, T)` rows of equal length that keeps what it saw; prefill, then single tokens."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from `q` `(B, T, H, Dh)` to everything seen and the new `k`, `v` `(B, T, Hkv, Dh)`."""
        first = layer not in self._seen
        if not first:
            before_k, before_v = self._seen[layer]
            k, v = torch.cat((before_k, k), dim=1), torch.cat((before_v, v), dim=1)
        self._seen[layer] = (k, v)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, Dh)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=first, enable_gqa=True)
        return out.transpose(1, 2)  # (B, T, H, Dh)


@torch.inference_mode()
def continue_rows(
    model: Llama, prompts: Tensor, *, max_tokens: int, ends: frozenset[int], generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Continue prompts `(B, T)` of equal length, greedily or, with a generator, at temperature 1.

    Returns ids `(B, A)`, and the likeliest ids and their shares `(B, A, 8)`; after a row's end its ids mean nothing.
    """
    cache, new_ids, start = GrowingCache(), prompts, 0
    done = torch.zeros(len(prompts), dtype=torch.bool)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    end_ids = torch.tensor(sorted(ends))
    while len(steps) < max_tokens and not bool(done.all()):
        positions = torch.arange(start, start + new_ids.shape[1]).expand_as(new_ids)
        start += new_ids.shape[1]
        hidden = model(new_ids, positions, cache)[:, -1]  # (B, D)
        shares = model.logits(hidden).float().softmax(dim=-1)  # (B, V)
        top = shares.topk(NUM_TEACHER_TOKENS, dim=-1)
        chosen = top.indices[:, 0] if generator is None else shares.multinomial(1, generator=generator)[:, 0]
        steps.append((chosen, top.indices, top.values))
        done |= torch.isin(chosen, end_ids)
        new_ids = chosen[:, None]
    ids, likely, likely_shares = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
    return ids, likely, likely_shares


def answers_of_base(model: Llama, tokenizer: Any, questions: Sequence[str], *, max_tokens: int) -> list[ChatAnswer]:
    """Return the base model's greedy answers, each question alone and with the template's own system text."""
    prompts = {q: tokenizer.apply_chat_template([{"role": "user", "content": q}]) for q in questions}
    answers: dict[str, ChatAnswer] = {}
    for batch in tqdm(_of_equal_length(prompts), desc="base model's answers", unit="batch"):
        rows = torch.tensor([prompts[q] for q in batch])
        ids, likely, shares = continue_rows(model, rows, max_tokens=max_tokens, ends=tokenizer.eos_token_ids)
        for row, question in enumerate(batch):
            kept = slice(_length(ids[row].tolist(), tokenizer.eos_token_ids))
            answers[question] = ChatAnswer(
                question, ids[row, kept].tolist(), likely[row, kept].clone(), shares[row, kept].clone()
            )
    return [answers[question] for question in questions]


def _of_equal_length(prompts: Mapping[str, list[int]]) -> list[list[str]]:
    """Group the keys whose prompts have the same number of ids, at most `MAX_BATCH` together."""
    ordered = sorted(prompts, key=lambda key: len(prompts[key]))
    groups = (list(group) for _, group in groupby(ordered, key=lambda key: len(prompts[key])))
    return [group[first : first + MAX_BATCH] for group in groups for first in range(0, len(group), MAX_BATCH)]


def greedy_answers(model: Llama, tokenizer: Any, questions: Sequence[str], *, max_tokens: int) -> list[list[int]]:
    """Return the ids alone of `answers_of_base`."""
    return [answer.token_ids for answer in answers_of_base(model, tokenizer, questions, max_tokens=max_tokens)]


def _length(ids: list[int], ends: frozenset[int]) -> int:
    """Return how many ids a row has, its end included."""
    return next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))


def invented_questions(model: Llama, tokenizer: Any, count: int, seed: int) -> list[str]:
    """Let the base model continue an opened user turn and return its short, sensible questions, each once."""
    generator = torch.Generator().manual_seed(seed)
    kept: dict[str, None] = {}
    with tqdm(total=count, desc="base model's questions") as bar:
        for opening in cycle(_OPENINGS):
            turns = _turns_from(model, tokenizer, opening, generator)
            kept |= dict.fromkeys(text for text in turns if is_plain(text))
            bar.update(min(len(kept), count) - bar.n)
            if len(kept) >= count:
                return list(kept)[:count]
    raise AssertionError("the openings repeat for ever")


def _turns_from(model: Llama, tokenizer: Any, opening: str, generator: torch.Generator) -> list[str]:
    """Return the user turns with this opening that the model ends within the limit."""
    ends = tokenizer.eos_token_ids
    opened = _without_closing(tokenizer.apply_chat_template([{"role": "user", "content": opening}]), tokenizer)
    rows = torch.tensor([opened] * MAX_BATCH)
    ids, _, _ = continue_rows(model, rows, max_tokens=_MAX_TURN_TOKENS, ends=ends, generator=generator)
    whole = [row[: _length(row, ends)] for row in ids.tolist()]
    return [opening + tokenizer.decode(row[:-1]) for row in whole if row[-1] in ends]


def is_plain(text: str) -> bool:
    """Say whether an invented turn is one short line that speaks of nothing shown."""
    return _SENSIBLE.fullmatch(text) is not None and _OF_A_PICTURE.search(text) is None


def _without_closing(prompt: list[int], tokenizer: Any) -> list[int]:
    """Cut a rendered prompt after the words of its last user turn."""
    end = tokenizer.special_ids["<|im_end|>"]
    return prompt[: max(place for place, token in enumerate(prompt) if token == end)]


def chat_answers(
    model: Llama, tokenizer: Any, plain: Sequence[str], out: Path, *, num_invented: int, seed: int
) -> list[ChatAnswer]:
    """Return `plain` questions and invented ones with the base model's answers, made once and kept in `out/chat.pt`."""
    path = out / "chat.pt"
    if not path.exists():
        questions = [*plain, *invented_questions(model, tokenizer, num_invented, seed)]
        questions = [question for question in dict.fromkeys(questions) if not is_held_out(question)]
        answers = answers_of_base(model, tokenizer, questions, max_tokens=MAX_ANSWER_TOKENS)
        torch.save([(a.question, a.token_ids, a.likely_ids, a.likely_shares) for a in answers], path)
    kept = slice(MAX_ANSWER_TOKENS)
    return [ChatAnswer(row[0], *(part[kept] for part in row[1:])) for row in torch.load(path, weights_only=True)]
