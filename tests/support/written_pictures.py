"""Pictures with words on them, in the font that Pillow carries."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont


def written_picture(*lines: str, size_px: int = 40, side: tuple[int, int] | None = None) -> bytes:
    """Return a white PNG file with one line of black text below the other."""
    font = ImageFont.load_default(size_px)
    longest = max((font.getlength(line) for line in lines), default=0.0)
    width, height = side or (int(longest) + 4 * size_px, (2 * len(lines) + 2) * size_px)
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        draw.text((2 * size_px, (2 * row + 1) * size_px), line, font=font, fill="black")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
