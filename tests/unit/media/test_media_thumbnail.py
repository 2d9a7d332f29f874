"""Thumbnails: small whatever the picture, and only of pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from media.thumbnail import MAX_CHARS, SIDE_PX, thumbnail_uri


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "jpg"), ("RGBA", "png"), ("L", "png"), ("P", "gif")])
def test_the_noisiest_picture_fits_beside_a_vector(tmp_path: Path, mode: str, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(120, 300, 3), dtype=np.uint8)
    path = tmp_path / f"noise.{suffix}"
    Image.fromarray(noise).convert(mode).save(path)
    uri = thumbnail_uri(path)
    assert uri is not None
    assert len(uri) <= MAX_CHARS
    small = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert (small.format, small.size) == ("WEBP", (SIDE_PX, 16))


def test_what_is_no_picture_has_none(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"RIFF....WAVEfmt ")
    assert thumbnail_uri(path) is None
    assert thumbnail_uri(tmp_path / "nowhere.png") is None
