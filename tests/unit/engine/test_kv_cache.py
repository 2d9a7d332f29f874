from __future__ import annotations

import pytest
import torch

from core.errors import ConfigError
from engine.backends.native.kv_cache import KVCache
from tests.support.tiny_engine import tiny_decoder

CONFIG = tiny_decoder().config


def cache(max_context: int = 10) -> KVCache:
    return KVCache(CONFIG, num_slots=3, max_context=max_context, like=torch.zeros(0, dtype=torch.bfloat16))


def test_what_is_written_at_a_place_is_read_in_its_slot() -> None:
    kv = cache()
    k, v = torch.randn(2, 2, 2, 8).to(torch.bfloat16)  # (N, Hkv, Dh) each
    kv.write(1, torch.tensor([1 * 10 + 4, 2 * 10]), k, v)
    keys, values = kv.read(1, slice(1, 3), 5)  # (slots, Hkv, T, Dh)
    assert torch.equal(keys[0, :, 4], k[0])
    assert torch.equal(values[1, :, 0], v[1])
    assert keys[0, :, :4].abs().sum() == 0
    assert kv.read(0, slice(0, 3), 10)[0].abs().sum() == 0


def test_a_discarded_slot_is_zero_and_its_neighbours_stay() -> None:
    whole_pages = 4096
    kv = cache(max_context=whole_pages)
    k, v = torch.ones(2, 3, 2, 8, dtype=torch.bfloat16)
    kv.write(2, torch.tensor([0, whole_pages, 2 * whole_pages]), k, v)
    kv.discard(1)
    assert [float(kv.keys[2, slot].sum()) for slot in range(3)] == [16, 0, 16]
    assert [float(kv.values[2, slot].sum()) for slot in range(3)] == [16, 0, 16]


def test_an_erased_slot_is_zero_and_its_neighbours_stay() -> None:
    kv = cache()
    nan = torch.full((1, 2, 8), float("nan"), dtype=torch.bfloat16)
    one = torch.ones(1, 2, 8, dtype=torch.bfloat16)
    kv.write(0, torch.tensor([10]), nan, nan)
    kv.write(0, torch.tensor([20]), one, one)
    kv.erase(1, 1)
    assert torch.isfinite(kv.keys).all()
    assert kv.keys.sum() == 16


def test_a_cache_larger_than_the_machine_is_refused_with_what_to_lower() -> None:
    with pytest.raises(ConfigError, match="lower max_slots or max_context"):
        cache(max_context=10**14)
