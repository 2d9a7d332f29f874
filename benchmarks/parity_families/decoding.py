"""What every LLaMA family shares in parity runs: build the merged decoder, score, decode greedily, take the loss.

T tokens, V vocabulary, L adapted layers, P adapter tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.parity_families import Output
from core.types import AnyArray
from models.llama.condition import ConditionTable, ConditionView
from models.llama.model import Llama

LOGITS_TOLERANCE = 1e-4
EOS_ID, PAD_ID = 2, -1


class GrowingAttention:
    """Causal attention of one row that keeps every key and value it has seen."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if layer in self._kept:
            k, v = (torch.cat((old, new)) for old, new in zip(self._kept[layer], (k, v), strict=True))
        self._kept[layer] = (k, v)
        seen = torch.arange(k.shape[0]) <= torch.arange(k.shape[0] - q.shape[0], k.shape[0])[:, None]
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, T, Dh)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
        return out[0].transpose(0, 1)  # (T, H, Dh)


@dataclass(frozen=True, slots=True)
class Reader:
    """One decoder under one table of conditions; `row` picks the request's condition."""

    decoder: Llama
    table: ConditionTable | None = None

    def hidden(self, ids: Tensor, row: int, start: int = 0, context: GrowingAttention | None = None) -> Tensor:
        """Return `(T, D)` for `ids` `(T,)` at positions from `start`."""
        view = None if self.table is None else ConditionView(self.table, torch.full(ids.shape, row))
        positions = torch.arange(start, start + len(ids))
        result: Tensor = self.decoder(ids, positions, context or GrowingAttention(), view)
        return result

    def full_logits(self, ids: Tensor, row: int = 0) -> Tensor:
        """Return `(T, V)` of one prompt in one pass."""
        return self.decoder.logits(self.hidden(ids, row))

    def stepwise_logits(self, ids: Tensor, row: int = 0) -> Tensor:
        """Return `(T, V)` of one prompt, one token at a time against the kept keys and values."""
        context = GrowingAttention()
        steps = [self.hidden(ids[i : i + 1], row, i, context) for i in range(len(ids))]
        return self.decoder.logits(torch.cat(steps))

    def layer_outputs(self, ids: Tensor, row: int = 0) -> list[Tensor]:
        """Return the residual stream `(T, D)` after each layer."""
        seen: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda _m, _i, out: seen.append(out)) for layer in self.decoder.layers]
        self.hidden(ids, row)
        for hook in hooks:
            hook.remove()
        return seen

    def greedy(self, ids: Tensor, num_steps: int, row: int = 0) -> tuple[list[int], Tensor]:
        """Return the argmax ids of `num_steps` steps, past any end of text, and their logits `(num_steps, V)`."""
        context, start, chosen, logits = GrowingAttention(), 0, [], []
        for _ in range(num_steps):
            last = self.hidden(ids, row, start, context)[-1:]
            logits.append(self.decoder.logits(last))
            start += len(ids)
            ids = logits[-1].argmax(dim=-1)
            chosen.append(int(ids))
        return chosen, torch.cat(logits)


def cut_at_eos(ids: list[int]) -> list[int]:
    """Return the ids before the first end of text."""
    return ids[: ids.index(EOS_ID)] if EOS_ID in ids else ids


def teacher_forced_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of `(B, T, V)` against the next label `(B, T)`; label 0 does not count."""
    targets = labels[:, 1:].flatten()
    if not bool((targets != 0).any()):
        return logits.new_zeros(())
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets, ignore_index=0)


Prompts = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How one fixture's decoder outputs are made: `reader_of(condition name)` and the named prompts.

    `batch_of` returns the reader of a batched output, for example `batch2`, with one condition per prompt.
    """

    reader_of: Callable[[str], Reader]
    prompts: Prompts
    batch_of: Callable[[str], Reader]
    max_steps: int

    def produce(self, kind: str, rest: str, expected: AnyArray) -> AnyArray | None:
        """Return the output `kind.rest`, for example `full_logits` and `mix.prompt1`; None when the name is unknown."""
        if kind == "greedy_ids" and rest.startswith("batch"):
            return self._batch_ids(self.batch_of(rest), *expected.shape)
        *condition, prompt = rest.split(".")
        layer = None
        if kind == "layer_out":
            layer, prompt = int(prompt), condition.pop()
        reader, ids = self.reader_of(".".join(condition)), self.prompts.get(prompt)
        if ids is None:
            return None
        if layer is not None:
            return reader.layer_outputs(ids)[layer].numpy()
        if kind in ("full_logits", "stepwise_logits"):
            return getattr(reader, kind)(ids).numpy()  # type: ignore[no-any-return]
        if kind == "greedy_step_logits":
            return reader.greedy(ids, len(expected))[1].numpy()
        if kind == "greedy_ids":
            return np.array(cut_at_eos(reader.greedy(ids, self.max_steps)[0]))
        return None

    def _batch_ids(self, reader: Reader, num_rows: int, width: int) -> AnyArray:
        """Return one row per prompt, the i-th prompt under the i-th condition, padded with -1."""
        names = [name for name in sorted(self.prompts) if re.fullmatch(r"prompt\d+", name)][:num_rows]
        rows = [cut_at_eos(reader.greedy(self.prompts[n], self.max_steps, i)[0]) for i, n in enumerate(names)]
        width = max(width, *(len(row) for row in rows))
        return np.array([row + [PAD_ID] * (width - len(row)) for row in rows])


def decoder_outputs(decoding: Decoding, expected: Mapping[str, Tensor], *, prefix: str = "") -> Iterator[Output]:
    """Yield every expected output whose name starts with `prefix` and a kind of decoder output."""
    for name, value in expected.items():
        kind, _, rest = name.removeprefix(prefix).partition(".")
        if not name.startswith(prefix) or not rest:
            continue
        array = value.numpy()
        produced = decoding.produce(kind, rest, array)
        if produced is not None:
            yield name, produced, array, 0.0 if kind == "greedy_ids" else LOGITS_TOLERANCE


def training_outputs(reader: Reader, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[Output]:
    """Yield `train_loss` and the `train_logits...` of rows scored each under its own condition."""
    logits = torch.stack([reader.full_logits(ids, row) for row, ids in enumerate(inputs["train_tokens"])])
    loss = teacher_forced_loss(logits, inputs["train_labels"])
    for name, value in expected.items():
        produced: AnyArray | None = None
        if name == "train_loss":
            produced = loss.reshape(value.shape).numpy()
        elif name == "train_logits":
            produced = logits.numpy()
        elif match := re.fullmatch(r"train_logits_sample(\d+)", name):
            produced = logits[int(match[1])].numpy()
        if produced is not None:
            yield name, produced, value.numpy(), LOGITS_TOLERANCE


def uncovered(expected: Mapping[str, Tensor], covered: set[str]) -> Iterator[Output]:
    """Yield a failure for every expected output that no code of ours produced."""
    for name in sorted(set(expected) - covered):
        yield name, np.empty(0), expected[name].numpy()[None], 0.0


def max_steps_of(config: Mapping[str, Any], expected: Mapping[str, Tensor]) -> int:
    """Return the number of greedy steps: as the fixture says, else the longest one it holds."""
    if found := re.search(r"max_gen_len[ =](\d+)", json_text(config)):
        return int(found.group(1))
    return max((value.shape[-1] for name, value in expected.items() if "greedy_ids" in name), default=0)


def json_text(config: Mapping[str, Any]) -> str:
    """Return the prose fields of a config as one text."""
    parts = [config.get("greedy"), config.get("semantics")]
    return " ".join(str(part) for part in parts if part)
