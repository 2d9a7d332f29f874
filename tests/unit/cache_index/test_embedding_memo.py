"""The exact store of embeddings: its key, its bound, its counters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cache_index.embedding_memo import EmbeddingMemo, EncodedMedium, MemoKey
from core.types import Embedding

KEY = MemoKey(encoder_id="encoder", content_sha256="a" * 64, decode_options="", tenant="alice")
ENTRY_BYTES = 1024 + 4 * 8


def embedding(value: float = 1.0) -> EncodedMedium:
    row = Embedding(vector=np.full(8, value, np.float32), encoder_id="encoder", confidence=0.5)
    return EncodedMedium(embedding=row, shape=(2, 2, 3))


def key(number: int) -> MemoKey:
    return replace(KEY, content_sha256=f"{number:064x}")


def test_a_hit_returns_the_very_same_numbers_and_counts() -> None:
    memo = EmbeddingMemo(10 * ENTRY_BYTES)
    assert memo.get(KEY) is None
    memo.put(KEY, embedding(0.1))
    found = memo.get(KEY)
    assert found is not None
    assert (found.embedding.encoder_id, found.embedding.confidence, found.shape) == ("encoder", 0.5, (2, 2, 3))
    np.testing.assert_array_equal(found.embedding.vector, embedding(0.1).embedding.vector)
    assert (memo.stats().hits, memo.stats().misses, memo.stats().entries) == (1, 1, 1)


@pytest.mark.parametrize("part", ["encoder_id", "content_sha256", "decode_options", "tenant"])
def test_every_part_of_the_key_separates_entries(part: str) -> None:
    memo = EmbeddingMemo(10 * ENTRY_BYTES)
    memo.put(KEY, embedding())
    assert memo.get(MemoKey(**{**{name: getattr(KEY, name) for name in MemoKey.__slots__}, part: "other"})) is None


def test_the_least_recently_used_entry_goes_when_bytes_run_out() -> None:
    memo = EmbeddingMemo(3 * ENTRY_BYTES)
    for number in range(3):
        memo.put(key(number), embedding(number))
    memo.get(key(0))
    memo.put(key(3), embedding())
    assert [memo.get(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert memo.stats().size_bytes == 3 * ENTRY_BYTES


def test_what_an_encoder_saw_is_kept_as_a_copy_and_counts() -> None:
    memo, saw = EmbeddingMemo(3 * ENTRY_BYTES), np.ones(8, np.float32)
    medium = embedding()
    memo.put(KEY, replace(medium, embedding=replace(medium.embedding, features=(saw,))))
    saw[:] = 0
    found = memo.get(KEY)
    assert found is not None
    assert found.embedding.features[0].tolist() == [1] * 8
    assert not found.embedding.features[0].flags.writeable
    assert memo.stats().size_bytes == ENTRY_BYTES + 32


def test_putting_a_key_twice_counts_its_bytes_once() -> None:
    memo = EmbeddingMemo(3 * ENTRY_BYTES)
    memo.put(KEY, embedding(1))
    memo.put(KEY, embedding(2))
    assert (memo.stats().entries, memo.stats().size_bytes) == (1, ENTRY_BYTES)


def test_an_entry_larger_than_the_memo_is_not_kept_and_drops_nothing() -> None:
    memo = EmbeddingMemo(2 * ENTRY_BYTES)
    memo.put(KEY, embedding())
    large = Embedding(vector=np.zeros(10_000, np.float32), encoder_id="encoder")
    memo.put(key(1), EncodedMedium(embedding=large))
    assert memo.get(KEY) is not None
    assert memo.get(key(1)) is None


def test_a_kept_vector_is_a_copy_that_cannot_be_written() -> None:
    memo = EmbeddingMemo(2 * ENTRY_BYTES)
    batch = np.ones((64, 8), np.float32)
    memo.put(KEY, EncodedMedium(embedding=Embedding(vector=batch[0], encoder_id="encoder")))
    batch[0] = 5
    found = memo.get(KEY)
    assert found is not None
    assert found.embedding.vector.base is None
    assert found.embedding.vector.tolist() == [1] * 8
    with pytest.raises(ValueError, match="read-only"):
        found.embedding.vector[0] = 2


def test_many_threads_keep_the_bound_and_the_counts() -> None:
    memo = EmbeddingMemo(5 * ENTRY_BYTES)

    def use(number: int) -> None:
        if memo.get(key(number % 9)) is None:
            memo.put(key(number % 9), embedding())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(900)))
    stats = memo.stats()
    assert stats.hits + stats.misses == 900
    assert (stats.entries, stats.size_bytes) == (5, 5 * ENTRY_BYTES)
