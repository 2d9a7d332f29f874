"""The conditions of the running sequences, projected once, before their first step, and kept by slot."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from core.errors import EngineFault
from core.types import AdapterPrompt, AnyArray, Condition
from engine.backends.native.scheduler import StepPlan
from models.llama.condition import ConditionTable, ConditionView
from models.llama.model import Llama


class ConditionSlots:
    """A `ConditionTable` with one row per slot; the row of a text-only sequence is zero."""

    def __init__(self, decoder: Llama, *, num_slots: int) -> None:
        config = decoder.config
        self._decoder = decoder
        self._weight = decoder.tok_embeddings.weight
        self._num_tokens = config.num_adapter_tokens
        self._conditioned = [False] * num_slots
        self._pending: dict[int, tuple[Tensor, Tensor]] = {}
        self._table: ConditionTable | None = None
        if config.adapted_layers and self._num_tokens:
            prompts = self._weight.new_zeros(num_slots, len(config.adapted_layers), self._num_tokens, config.width)
            with torch.no_grad():
                self._table = _zeroed(decoder.project_condition(prompts))

    def fill(self, slot: int, condition: Condition) -> None:
        """Take the condition of a new sequence. Raises when its shape is not the decoder's."""
        self.clear(slot)
        if condition is None:
            return
        if self._table is None:
            raise EngineFault("a condition came for a decoder that has no adapted layers")
        self._pending[slot] = self._pad(condition)
        self._conditioned[slot] = True

    def project_pending(self, slots: Iterable[int]) -> None:
        """Store what was taken for some slots and is not yet projected, in one pass over the decoder's matrices."""
        slots = [slot for slot in slots if slot in self._pending]
        if not slots or self._table is None:
            return
        prompts = torch.cat([self._pending[slot][0] for slot in slots])  # (R, L, P, D)
        mask = torch.cat([self._pending[slot][1] for slot in slots], dim=1)  # (L, R, P)
        rows = self._decoder.project_condition(prompts, mask=mask)
        self._table.values[:, slots] = rows.values
        if self._table.keys is not None and self._table.mask is not None:
            assert rows.keys is not None
            self._table.keys[:, slots] = rows.keys
            self._table.mask[:, slots] = mask
        for slot in slots:
            del self._pending[slot]

    def constants(self, layer: int) -> Tensor | None:
        """Return what each slot adds at a decoder layer, `(slots, H, Dh)`; None where that is no constant (P > 1)."""
        if self._table is None or self._table.keys is not None or (index := self._table.at(layer)) is None:
            return None
        return self._table.values[index]

    def all_constants(self) -> tuple[Tensor, list[int]]:
        """Return `(A, slots, H, Dh)`, the constants of all layers that have some, and each decoder layer's row, or -1.

        One row of nothing stands for all where what is added is no constant.
        """
        config = self._decoder.config
        if self._table is None or self._table.keys is not None:
            return self._weight.new_zeros(1, 1, config.num_heads, config.head_width), [-1] * config.num_layers
        rows = (self._table.at(layer) for layer in range(config.num_layers))
        return self._table.values, [-1 if row is None else row for row in rows]

    @property
    def add_constants(self) -> bool:
        """Say whether constants are all that any condition adds."""
        return self._table is None or self._table.keys is None

    def are_constants(self, slots: Iterable[int]) -> bool:
        """Say whether constants are all that the conditions of these slots add."""
        return self.add_constants or not any(self._conditioned[slot] for slot in slots)

    def rows(self, slots: AnyArray) -> AnyArray:
        """Return the row of `constants` for each slot `(N,)`, -1 for text only."""
        return np.array([slot if self._conditioned[slot] else -1 for slot in slots], dtype=np.int64)

    def project(self, condition: AdapterPrompt) -> ConditionTable:
        """Return the table of one request alone, its tokens padded to the decoder's P."""
        prompts, mask = self._pad(condition)
        return self._decoder.project_condition(prompts, mask=mask)

    def clear(self, slot: int) -> None:
        """Make a slot text only."""
        self._pending.pop(slot, None)
        if self._conditioned[slot]:
            self._conditioned[slot] = False
            for stored in self._stored():
                stored[:, slot] = 0

    def first(self, num_slots: int) -> ConditionView | None:
        """Return what slots 0 to `num_slots` add, one token each; zero for text only. Later fills show through it."""
        return None if self._table is None else ConditionView(self._table, slice(0, num_slots))

    def view(self, plan: StepPlan) -> ConditionView | None:
        """Return what the tokens of a plan add to attention, or None when every row is text only."""
        slots = [row.sequence.slot for row in plan.rows]
        if self._table is None or not any(self._conditioned[slot] for slot in slots):
            return None
        if not plan.prefill and len(slots) == slots[-1] + 1:
            return ConditionView(self._table, slice(0, len(slots)))
        token_slots = [row.sequence.slot for row in plan.rows for _ in range(row.length)]
        rows = torch.tensor(token_slots, device=self._weight.device)
        if self._table.keys is None:
            return ConditionView(ConditionTable(self._table.layers, self._table.values[:, rows]), slice(None))
        return ConditionView(self._table, rows)

    def _pad(self, condition: AdapterPrompt) -> tuple[Tensor, Tensor]:
        """Return prompts `(1, L, P, D)` padded to the table's P and the mask `(L, 1, P)` of the real tokens."""
        num_layers, num_tokens, width = condition.prompts.shape
        config, counts = self._decoder.config, condition.token_counts or (num_tokens,) * num_layers
        fits = (num_layers, width) == (len(config.adapted_layers), config.width) and num_tokens <= self._num_tokens
        if not fits or len(counts) != num_layers or max(counts) > num_tokens:
            raise EngineFault(
                f"the condition has {num_tokens} tokens of width {width} on {num_layers} layers with counts {counts}; "
                f"the decoder takes at most {self._num_tokens} of width {config.width} on each of "
                f"{len(config.adapted_layers)} layers"
            )
        prompts = self._weight.new_zeros(1, num_layers, self._num_tokens, width)
        prompts[0, :, :num_tokens] = torch.from_numpy(condition.prompts).to(prompts)
        places = torch.arange(self._num_tokens, device=prompts.device)
        mask = places < torch.tensor(counts, device=prompts.device)[:, None, None]  # (L, 1, P)
        return prompts, mask

    def _stored(self) -> list[Tensor]:
        table = self._table
        return [] if table is None else [x for x in (table.values, table.keys, table.mask) if x is not None]


def _zeroed(table: ConditionTable) -> ConditionTable:
    """Clear a table in place: biases of the projection may have left values in it."""
    for stored in (table.values, table.keys, table.mask):
        if stored is not None:
            stored.zero_()
    return table
