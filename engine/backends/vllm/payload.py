"""What travels with a request into vLLM's workers: the projected condition, as text in `extra_args`.

Letters: L adapted layers, P adapter tokens, H query heads, G key-value heads, Dh head width.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import InvalidRequest
from core.types import FloatArray
from models.llama.condition import ConditionTable

KEY = "bindchat_condition"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionShape:
    """The sizes that a model's conditions have, under all ranks of tensor parallelism together."""

    num_layers: int
    num_tokens: int
    num_heads: int
    num_kv_heads: int
    head_width: int

    @property
    def num_values(self) -> int:
        """The float32 values of one payload: constants (L, H, Dh), or keys, values (L, G, P, Dh) and mask (L, P)."""
        if self.num_tokens == 1:
            return self.num_layers * self.num_heads * self.head_width
        of_layer = 2 * self.num_kv_heads * self.num_tokens * self.head_width + self.num_tokens
        return self.num_layers * of_layer


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """One request's condition: `values` is `(L, H, Dh)` when P = 1, else `(L, G, P, Dh)` with `keys` and `mask`."""

    values: FloatArray
    keys: FloatArray | None = None
    mask: FloatArray | None = None  # (L, P), 1 at real tokens


def pack(table: ConditionTable) -> tuple[dict[str, str], str]:
    """Return `extra_args` and the cache salt of the one request in `table`.

    The salt enters the hash of every cached block: equal text with another condition never shares a block.
    """
    parts = [table.values[:, 0]]
    if table.keys is not None and table.mask is not None:
        parts = [table.keys[:, 0], table.values[:, 0], table.mask[:, 0]]
    raw = b"".join(part.float().contiguous().numpy().tobytes() for part in parts)
    return {KEY: base64.b64encode(raw).decode()}, f"condition-{hashlib.sha256(raw).hexdigest()}"


def unpack(extra_args: Mapping[str, Any] | None, shape: ConditionShape) -> ConditionRow | None:
    """Return the condition of a request, None for text only.

    Raises `InvalidRequest` for a payload that is not base64 of finite float32 in the model's shape.
    """
    encoded = (extra_args or {}).get(KEY)
    if encoded is None:
        return None
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{KEY} must be base64") from error
    if len(raw) != 4 * shape.num_values:
        raise InvalidRequest(f"{KEY} holds {len(raw)} bytes; this model takes {4 * shape.num_values}")
    flat = np.frombuffer(raw, dtype=np.float32)
    if not np.isfinite(flat).all():
        raise InvalidRequest(f"{KEY} holds values that are not finite")
    if shape.num_tokens == 1:
        return ConditionRow(flat.reshape(shape.num_layers, shape.num_heads, shape.head_width))
    size = (shape.num_layers, shape.num_kv_heads, shape.num_tokens, shape.head_width)
    count = int(np.prod(size))
    keys, values, mask = flat[:count], flat[count : 2 * count], flat[2 * count :]
    return ConditionRow(
        values.reshape(size), keys.reshape(size), mask.reshape(shape.num_layers, shape.num_tokens).copy()
    )
