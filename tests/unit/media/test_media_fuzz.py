"""Damaged media of every container, in the real worker process: an array or one of three errors, then the next row.

Pictures and shapes must never end their process. FFmpeg, a million lines of C, may: then its row alone fails.
"""

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
from media.animation import pack_frames
from media.decode import DecodeWorkers
from media.limits import MediaLimits
from media.sniff import KNOWN, resolve
from tests.support.sample_films import CODECS as FILM_CODECS
from tests.support.sample_films import film
from tests.support.sounds import CODECS as SOUND_CODECS
from tests.support.sounds import encoded_sound, tone

_BOUNDED = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_FEWER = settings(_BOUNDED, max_examples=25)
_CONTAINERS = ["png", "jpeg", "webp", "gif", "bmp"]
_ANIMATIONS = ("png", "webp", "gif")


def _sample(container: str) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    frames = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
    animated = container in ("gif", "webp")
    options = {"save_all": True, "append_images": frames[1:]} if animated else {}
    frames[0].save(buffer, container, **options)
    return buffer.getvalue()


def _animation(container: str) -> bytes:
    frames = [Image.new("RGB", (16, 12), (level, 90, 90)) for level in (10, 120, 230)]
    buffer = io.BytesIO()
    frames[0].save(buffer, container, save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def _film(container: str) -> bytes:
    return film([np.full((48, 64, 3), level, np.uint8) for level in (20, 80, 140, 200)], container)


SAMPLES = {container: _sample(container) for container in _CONTAINERS}


TIMED: dict[tuple[Modality, str], bytes] = {
    **{(Modality.AUDIO, name): encoded_sound(tone(0.1, 48_000), 48_000, name) for name in SOUND_CODECS},
    **{(Modality.VIDEO, name): _film(name) for name in FILM_CODECS},
    **{(Modality.VIDEO, name): _animation(name) for name in _ANIMATIONS},
    (Modality.VIDEO, "frames"): pack_frames([SAMPLES["png"], SAMPLES["jpeg"]], 2.0),
}


class Pool:
    """One event loop and one running pool for many examples."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.workers = DecodeWorkers(MediaLimits(max_worker_bytes=768 << 20, max_decoded_bytes=64 << 20), num_workers=1)
        self.runner.run(self.workers.start())

    def decode(self, container: str, content: bytes, modality: Modality = Modality.IMAGE) -> DecodedMedia:
        digest = hashlib.sha256(content).hexdigest()
        blob = MediaBlob(modality=modality, container=container, data=content, sha256=digest)
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


def check_timed(pool: Pool, modality: Modality, container: str, content: bytes) -> None:
    with contextlib.suppress(MediaDecodeError, MediaTooLarge, UnsupportedMedia):
        media = pool.decode(container, content, modality)
        assert media.array.ndim == (2 if modality is Modality.AUDIO else 4)
        assert media.array.nbytes <= 64 << 20
        assert np.isfinite(media.array).all()


@pytest.mark.parametrize(("modality", "container"), TIMED)
def test_undamaged_sounds_and_films_decode(pool: Pool, modality: Modality, container: str) -> None:
    assert pool.decode(container, TIMED[modality, container], modality).array.size


@pytest.mark.parametrize(("modality", "container"), TIMED)
@_FEWER
@given(cut=st.floats(0, 1, exclude_max=True))
def test_truncated_sounds_and_films_end_their_own_row(
    pool: Pool, modality: Modality, container: str, cut: float
) -> None:
    content = TIMED[modality, container]
    check_timed(pool, modality, container, content[: int(cut * len(content))])


@pytest.mark.parametrize(("modality", "container"), TIMED)
@_FEWER
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bytes_of_sounds_and_films_end_their_own_row(
    pool: Pool, modality: Modality, container: str, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(TIMED[modality, container])
    for place, mask in flips:
        content[int(place * place * len(content))] ^= mask
    check_timed(pool, modality, container, bytes(content))


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
