"""Which slot a sequence gets, how much of its prompt the slot already holds, and how full the KV cache may be.

A slot whose sequence ended stays parked with its tokens. The next turn of the same conversation, whose prompt begins
with those tokens, takes it over and computes only the rest. Keys and values depend on the tokens before them and on
the condition, so both must be equal; tenants never share, or timing would tell one what another asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from core.types import AnyArray, Condition


@dataclass(frozen=True, slots=True)
class PrefixScope:
    """What must be equal besides the tokens before keys and values may be shared."""

    tenant: str
    condition_digest: bytes


def prefix_scope(tenant: str, condition: Condition) -> PrefixScope:
    """Return the scope of a request; every bit of the condition counts."""
    if condition is None:
        return PrefixScope(tenant, b"")
    shape = f"{condition.prompts.shape}{condition.prompts.dtype}{condition.token_counts}".encode()
    digest = sha256(shape)
    digest.update(np.ascontiguousarray(condition.prompts).data)
    return PrefixScope(tenant, digest.digest())


@dataclass(frozen=True, slots=True)
class Place:
    """A slot for a sequence; its first `num_cached` prompt tokens are there, and `evicted` slots hold nothing more."""

    slot: int
    num_cached: int
    evicted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Parked:
    scope: PrefixScope
    token_ids: AnyArray

    def num_common(self, scope: PrefixScope, token_ids: AnyArray) -> int:
        """Return how many first tokens of a prompt are here."""
        if scope != self.scope:
            return 0
        length = min(len(token_ids), len(self.token_ids))
        different = np.flatnonzero(self.token_ids[:length] != token_ids[:length])
        return int(different[0]) if len(different) else length


class SlotPool:
    """Slots and the tokens they may hold together. A running sequence has its longest possible length reserved."""

    def __init__(self, num_slots: int, *, max_tokens: int, keeps_prefixes: bool) -> None:
        self._free = list(range(num_slots - 1, -1, -1))  # the lowest is taken first
        self._parked: OrderedDict[int, _Parked] = OrderedDict()  # the one parked longest ago comes first
        self._reserved: dict[int, int] = {}
        self._max_tokens = max_tokens
        self._keeps_prefixes = keeps_prefixes

    def take(self, scope: PrefixScope, prompt_ids: Sequence[int], num_tokens: int) -> Place | None:
        """Reserve a slot for `num_tokens`, prompt and reply, or return None until others have ended.

        Parked tokens make room, those parked longest ago first. At least one token of the prompt is left to compute.
        """
        match, num_cached = self._best_match(scope, prompt_ids)
        if match is None and not self._free and not self._parked:
            return None
        if sum(self._reserved.values()) + num_tokens > self._max_tokens:
            return None
        if match is not None:
            del self._parked[match]
        evicted = []
        while self._parked and self._num_held() + num_tokens > self._max_tokens:
            evicted.append(self._evict())
        slot = match
        if slot is None:
            if not self._free:
                evicted.append(self._evict())
            slot = self._free.pop()
        self._reserved[slot] = num_tokens
        return Place(slot, num_cached, tuple(evicted))

    def park(self, slot: int, scope: PrefixScope, token_ids: Sequence[int]) -> None:
        """End a sequence whose slot holds good keys and values of `token_ids`."""
        if not self._keeps_prefixes or not token_ids:
            self.free(slot)
            return
        del self._reserved[slot]
        self._parked[slot] = _Parked(scope, np.array(token_ids, dtype=np.int64))

    def free(self, slot: int) -> None:
        """End a sequence whose slot holds nothing to keep."""
        del self._reserved[slot]
        self._give_back(slot)

    def num_parked_tokens(self) -> int:
        """Return the tokens that are kept for reuse."""
        return sum(len(parked.token_ids) for parked in self._parked.values())

    def reset(self) -> None:
        """Forget every sequence and everything parked."""
        for slot in [*self._reserved, *self._parked]:
            self._give_back(slot)
        self._reserved.clear()
        self._parked.clear()

    def _best_match(self, scope: PrefixScope, prompt_ids: Sequence[int]) -> tuple[int | None, int]:
        if not self._parked:
            return None, 0
        wanted = np.array(prompt_ids[:-1], dtype=np.int64)
        lengths = {slot: parked.num_common(scope, wanted) for slot, parked in self._parked.items()}
        best = max(lengths, key=lambda slot: lengths[slot])
        return (best, lengths[best]) if lengths[best] else (None, 0)

    def _num_held(self) -> int:
        return sum(self._reserved.values()) + self.num_parked_tokens()

    def _evict(self) -> int:
        slot, _ = self._parked.popitem(last=False)
        self._give_back(slot)
        return slot

    def _give_back(self, slot: int) -> None:
        self._free.append(slot)
        self._free.sort(reverse=True)
