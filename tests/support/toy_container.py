"""A toy format of pictures, "TOY1" and one colour; a decoder process imports it, so it imports little."""

from __future__ import annotations

import numpy as np

from core.errors import MediaDecodeError
from core.types import DecodedMedia
from media.containers import DecodeJob

MAGIC = b"TOY1"
SIDE = 32  # pixels


def toy_file(colour: tuple[int, int, int]) -> bytes:
    return MAGIC + bytes(colour)


def decode_toy(content: bytes, job: DecodeJob) -> DecodedMedia:
    """Return a square of the colour. Raises `MediaDecodeError` when there is not one."""
    colour = np.frombuffer(content[len(MAGIC) :], dtype=np.uint8)
    if len(colour) != 3:
        raise MediaDecodeError(f"a toy has 3 bytes of colour, got {len(colour)}; send the whole file")
    return DecodedMedia(container=job.container, array=np.broadcast_to(colour, (SIDE, SIDE, 3)).copy())
