"""From a client's bytes to an array: intake and the real worker processes, for every modality."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator

import av
import numpy as np
import pytest
from PIL import Image

from core.errors import MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import DecodedMedia, Modality
from engine.intake import MediaIntake
from media.decode import DecodeWorkers
from media.limits import DecodeOptions, MediaLimits

pytestmark = pytest.mark.anyio
_LIMITS = MediaLimits(max_seconds=5)


class Door:
    """Intake and decoding as one call."""

    def __init__(self, workers: DecodeWorkers) -> None:
        self.workers = workers
        self.intake = MediaIntake(_LIMITS)

    async def __call__(
        self, content: bytes, expected: Modality | None = None, options: DecodeOptions | None = None
    ) -> DecodedMedia:
        blob = self.intake.from_bytes(content, declared_type=None, expected=expected, weight=1.0, param="file")
        return await self.workers.decode(blob, options)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    workers = DecodeWorkers(_LIMITS, num_workers=1)
    await workers.start()
    yield Door(workers)
    await workers.stop()


def picture(file_format: str, size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 90, 90)).save(buffer, file_format)
    return buffer.getvalue()


def moving_picture() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 6), (level, level, level)) for level in (20, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def sound(seconds: float) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * int(8000 * seconds)))
    return buffer.getvalue()


def film() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for level in (50, 100, 150):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), level, dtype=np.uint8), format="rgb24")
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return buffer.getvalue()


async def test_the_bytes_alone_decide_what_a_file_is(door: Door) -> None:
    assert (await door(picture("JPEG"))).array.shape == (6, 8, 3)
    assert (await door(sound(0.5))).array.shape == (1, 4000)
    assert (await door(film())).array.shape == (3, 16, 32, 3)
    assert (await door(b"0 0 0\n1 0 0\n0 1 0\n0 0 1\n")).array.shape == (4, 3)


async def test_rates_and_options_cross_the_process_border(door: Door) -> None:
    heard = await door(sound(2), options=DecodeOptions(start_s=0.5, end_s=1.0))
    assert (heard.array.shape, heard.sample_rate_hz) == ((1, 4000), 8000.0)
    watched = await door(film(), options=DecodeOptions(num_frames=2))
    assert watched.array.shape == (2, 16, 32, 3)
    assert watched.frames_per_s == pytest.approx(5)


async def test_a_gif_is_a_picture_or_a_film_as_the_part_asks(door: Door) -> None:
    assert (await door(picture("GIF"))).array.shape == (6, 8, 3)
    assert (await door(moving_picture())).array.shape == (6, 8, 3)
    assert (await door(moving_picture(), Modality.VIDEO)).array.shape == (2, 6, 8, 3)
    with pytest.raises(UnsupportedMedia, match="still picture"):
        await door(picture("GIF"), Modality.VIDEO)


@pytest.mark.parametrize(
    ("content", "expected", "kind"),
    [
        (b"", None, MediaDecodeError),
        (picture("PNG")[:40], None, MediaDecodeError),
        (b"hello, world", Modality.IMAGE, UnsupportedMedia),
        (sound(0.1), Modality.IMAGE, UnsupportedMedia),
        (sound(6), None, MediaTooLarge),
        (sound(0), None, MediaDecodeError),
        (film()[:60], None, MediaDecodeError),
        (picture("BMP")[:18] + 2 * b"\xff\xff\x00\x00" + picture("BMP")[26:], None, MediaTooLarge),
    ],
)
async def test_bad_input_is_refused_and_the_next_file_is_served(
    door: Door, content: bytes, expected: Modality | None, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await door(content, expected)
    assert (await door(picture("PNG"))).array.shape == (6, 8, 3)
    assert door.workers.stats().num_replaced == 0
