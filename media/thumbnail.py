"""Very small pictures of pictures, for people who look at what an index holds."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

SIDE_PX = 40
MAX_CHARS = 1000  # what one text beside an indexed vector may have
_QUALITIES = (60, 40, 20, 5)


def thumbnail_uri(file: Path | BinaryIO) -> str | None:
    """Return a WebP of at most 40 by 40 pixels as a data URI of at most 1000 characters, None for what is no picture.

    For files that have been decoded within budgets before: the size in the header is not checked again.
    """
    try:
        with Image.open(file) as picture:
            picture.draft("RGB", (SIDE_PX, SIDE_PX))
            small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
            small.thumbnail((SIDE_PX, SIDE_PX))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
    for quality in _QUALITIES:
        written = io.BytesIO()
        small.save(written, "WEBP", quality=quality, method=6)
        uri = f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
        if len(uri) <= MAX_CHARS:
            return uri
    return None
