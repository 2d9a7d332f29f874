"""Damaged pictures, in the real worker process: an array or one of three errors, and the process lives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from core.errors import MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import DecodedMedia, MediaBlob, Modality
from media.decode import DecodeWorkers
from media.limits import MediaLimits
from media.sniff import KNOWN, resolve

_BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_CONTAINERS = ["png", "jpeg", "webp", "gif", "bmp"]


def _sample(container: str) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    frames = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
    animated = container in ("gif", "webp")
    options = {"save_all": True, "append_images": frames[1:]} if animated else {}
    frames[0].save(buffer, container, **options)
    return buffer.getvalue()


SAMPLES = {container: _sample(container) for container in _CONTAINERS}


class Pool:
    """One event loop and one running pool for many examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.workers = DecodeWorkers(MediaLimits(max_worker_bytes=512 << 20), num_workers=1)
        self.runner.run(self.workers.start())

    def decode(self, container: str, content: bytes) -> DecodedMedia:
        digest = hashlib.sha256(content).hexdigest()
        blob = MediaBlob(modality=Modality.IMAGE, container=container, data=content, sha256=digest)
        return self.runner.run(self.workers.decode(blob))

    def close(self) -> None:
        self.runner.run(self.workers.stop())
        self.runner.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    running = Pool()
    yield running
    running.close()


def check(pool: Pool, container: str, content: bytes) -> None:
    with contextlib.suppress(MediaDecodeError, MediaTooLarge, UnsupportedMedia):
        array = pool.decode(container, content).array
        assert array.ndim == 3
        assert array.shape[2] == 3
        assert array.dtype == np.uint8
    assert pool.workers.stats().num_replaced == 0


@pytest.mark.parametrize("container", _CONTAINERS)
def test_undamaged_samples_decode(pool: Pool, container: str) -> None:
    assert pool.decode(container, SAMPLES[container]).array.shape == (24, 32, 3)


@pytest.mark.parametrize("container", _CONTAINERS)
@_BOUNDED
@given(cut=st.floats(0, 1, exclude_max=True))
def test_truncations_never_harm_the_worker(pool: Pool, container: str, cut: float) -> None:
    content = SAMPLES[container]
    check(pool, container, content[: int(cut * len(content))])


@pytest.mark.parametrize("container", _CONTAINERS)
@_BOUNDED
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bytes_never_harm_the_worker(pool: Pool, container: str, flips: list[tuple[float, int]]) -> None:
    content = bytearray(SAMPLES[container])
    for place, mask in flips:
        content[int(place * place * len(content))] ^= mask  # squared: headers are hit more often than pixels
    check(pool, container, bytes(content))


@pytest.mark.parametrize("container", _CONTAINERS)
@_BOUNDED
@given(tail=st.binary(max_size=400), keep=st.integers(4, 64))
def test_noise_after_a_true_header_never_harms_the_worker(pool: Pool, container: str, tail: bytes, keep: int) -> None:
    check(pool, container, SAMPLES[container][:keep] + tail)


@_BOUNDED
@given(content=st.binary(max_size=300), declared=st.sampled_from([None, "image/png", "text/plain", "nonsense", "wav"]))
def test_sniffing_any_bytes_returns_a_container_or_refuses(content: bytes, declared: str | None) -> None:
    with contextlib.suppress(MediaDecodeError, UnsupportedMedia):
        modality, container = resolve(content, declared_type=declared, expected=None)
        assert modality in KNOWN[container].modalities
