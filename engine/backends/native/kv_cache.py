"""Keys and values of every running sequence, preallocated: one slot each, `max_context` tokens long."""

from __future__ import annotations

import contextlib
import math
import mmap

import torch
from torch import Tensor

from core.errors import ConfigError
from models.llama.config import LlamaConfig


class KVCache:
    """Two tensors `(layers, slots, max_context, Hkv, Dh)`.

    Allocated as zero pages, so memory is taken only where a sequence has written, and what a padded row reads beyond
    its end is always finite.
    """

    def __init__(self, config: LlamaConfig, *, num_slots: int, max_context: int, like: Tensor) -> None:
        self._pages: list[mmap.mmap] = []
        shape = (config.num_layers, num_slots, max_context, config.num_kv_heads, config.head_width)
        self.max_context = max_context
        self.num_groups = config.num_heads // config.num_kv_heads  # queries that share keys and values
        self.keys = _lazy_zeros(shape, like, self._pages)
        self.values = _lazy_zeros(shape, like, self._pages)
        self._flat_keys = self.keys.flatten(1, 2)  # (layers, slots * max_context, Hkv, Dh)
        self._flat_values = self.values.flatten(1, 2)

    def write(self, layer: int, places: Tensor, k: Tensor, v: Tensor) -> None:
        """Store `k`, `v` `(N, Hkv, Dh)` at `places` `(N,)`, each `slot * max_context + position`."""
        self._flat_keys[layer].index_copy_(0, places, k)
        self._flat_values[layer].index_copy_(0, places, v)

    def read(self, layer: int, slots: slice, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Return views `(slots, Hkv, num_tokens, Dh)` of the first tokens of a range of slots."""
        keys, values = self.keys[layer, slots, :num_tokens], self.values[layer, slots, :num_tokens]
        return keys.transpose(1, 2), values.transpose(1, 2)

    def erase(self, slot: int, num_tokens: int) -> None:
        """Forget tokens that are not finite; ordinary leftovers need no erasing, the mask hides them."""
        self.keys[:, slot, :num_tokens] = 0
        self.values[:, slot, :num_tokens] = 0

    def discard(self, slot: int) -> None:
        """Give the memory of a slot back to the system where it consists of whole pages; it reads as zeros then."""
        num_layers, num_slots = self.keys.shape[:2]
        slot_bytes = self.keys[0, 0].numel() * self.keys.element_size()
        if not hasattr(mmap, "MADV_DONTNEED") or slot_bytes % mmap.PAGESIZE:
            return
        for pages in self._pages:
            for layer in range(num_layers):
                pages.madvise(mmap.MADV_DONTNEED, (layer * num_slots + slot) * slot_bytes, slot_bytes)


def _lazy_zeros(shape: tuple[int, ...], like: Tensor, allocated: list[mmap.mmap]) -> Tensor:
    """Return zeros with the dtype and device of `like`; on the CPU the system provides pages when first written.

    Huge pages are declined: they would fill, and zero, two megabytes for the first token of every slot and layer.
    """
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    num_bytes = math.prod(shape) * like.element_size()
    try:
        pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no room for keys of {num_bytes / 1e9:.1f} GB and as many values; lower max_slots or max_context"
        ) from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    allocated.append(pages)
    return torch.frombuffer(pages, dtype=like.dtype).view(shape)
