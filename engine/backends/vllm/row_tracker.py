"""The hook for vLLM's V1 runner (its CPU backend): which row of the batch belongs to which request.

A logits processor is the one public place that hears, before every forward pass, of each row that was added, removed or
moved, with the request's parameters. It never touches a logit.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor, MoveDirectionality

from core.errors import InvalidRequest
from engine.backends.vllm.payload import ConditionRow
from engine.backends.vllm.tables import ConditionTables

logger = logging.getLogger(__name__)


class RowTracker(LogitsProcessor):  # type: ignore[misc]
    """Give each conditioned row a slot and write its condition there.

    vLLM builds the processor and the model apart in one worker process and gives neither the other, so they meet in two
    class attributes; a worker holds one engine.
    """

    tables: ClassVar[ConditionTables | None] = None
    current: ClassVar[RowTracker | None] = None

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        max_rows = vllm_config.scheduler_config.max_num_seqs
        self._row_slots = torch.zeros(max_rows + 1, dtype=torch.long)
        self._free = list(range(max_rows, 0, -1))
        RowTracker.current = self

    @classmethod
    def slots_of(cls, num_rows: int) -> Tensor:
        """Return the slots of the first rows; zero before the first request."""
        return torch.zeros(num_rows, dtype=torch.long) if cls.current is None else cls.current._row_slots[:num_rows]

    def is_argmax_invariant(self) -> bool:
        return True

    def apply(self, logits: Tensor) -> Tensor:
        return logits

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the batch: removals first, then additions, then moves, as vLLM lists them."""
        if batch_update is None or self.tables is None:
            return
        for row in batch_update.removed:
            self._release(row)
        for row, params, *_ in batch_update.added:
            self._release(row)
            if (condition := self._read(params)) is not None:
                slot = self._free.pop()
                self._row_slots[row] = slot
                self.tables.write(slot, condition)
        for source, target, direction in batch_update.moved:
            if direction is not MoveDirectionality.SWAP:
                self._release(target)
            moved = int(self._row_slots[source])
            self._row_slots[source] = self._row_slots[target]
            self._row_slots[target] = moved

    def _read(self, params: Any) -> ConditionRow | None:
        """Return a row's condition; the front end refused bad ones, and an exception here would end every request."""
        assert self.tables is not None
        try:
            return self.tables.read(params.extra_args)
        except InvalidRequest:
            logger.exception("a condition that the server did not pack was ignored")
            return None

    def _release(self, row: int) -> None:
        if slot := int(self._row_slots[row]):
            self._free.append(slot)
            self._row_slots[row] = 0
