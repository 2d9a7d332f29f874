"""Find the thing in a picture whose border is one colour: product shots, drawings, scans, small things on a table."""

from __future__ import annotations

import numpy as np

from core.types import AnyArray

BORDER = 0.02  # of the short side
EVEN_SHARE = 0.96  # of the border's pixels within EVEN_LEVELS of its median make it plain
EVEN_LEVELS, OTHER_LEVELS = 12, 24  # of 255
LINE_SHARE = 0.004  # of a row's or column's pixels differ where the thing is
MARGIN = 0.08  # of the thing's longer side, left around it
MIN_SIDE = 12  # pixels; less is dust


def frame_thing(pixels: AnyArray) -> AnyArray:
    """Return the square around what stands on a plain ground, `(S, S, 3)` uint8, or `pixels` `(H, W, 3)` as they are.

    A picture without a plain border, or that the thing fills already, is not touched.
    """
    height, width = pixels.shape[:2]
    colour = _plain_colour(pixels)
    if colour is None:
        return pixels
    differs = np.abs(pixels.astype(np.int16) - colour).max(axis=2) > OTHER_LEVELS  # (H, W)
    rows, columns = (np.flatnonzero(differs.mean(axis=axis) > LINE_SHARE) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return pixels
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = round(max(bottom - top, right - left) * (1 + 2 * MARGIN))
    if side < MIN_SIDE or (side >= min(height, width) and abs(height - width) < 0.05 * max(height, width)):
        return pixels
    y, x = (top + bottom - side) // 2, (left + right - side) // 2
    framed = np.empty((side, side, 3), dtype=np.uint8)
    framed[:] = colour.round().astype(np.uint8)
    ys, xs = slice(max(0, y), min(height, y + side)), slice(max(0, x), min(width, x + side))
    framed[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x] = pixels[ys, xs]
    return framed


def _plain_colour(pixels: AnyArray) -> AnyArray | None:
    """Return the border's median colour `(3,)` if nearly all of the border has it."""
    wide = max(1, round(min(pixels.shape[:2]) * BORDER))
    sides = (pixels[:wide], pixels[-wide:], pixels[:, :wide], pixels[:, -wide:])
    border = np.concatenate([side.reshape(-1, 3) for side in sides]).astype(np.int16)
    colour: AnyArray = np.median(border, axis=0)
    even = (np.abs(border - colour).max(axis=1) <= EVEN_LEVELS).mean()
    return colour if even >= EVEN_SHARE else None
