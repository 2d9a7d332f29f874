"""Things on a plain ground are framed; other pictures stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from core.types import AnyArray
from models.mini.framing import frame_thing


def picture(ground: int, *, height: int = 240, width: int = 320) -> AnyArray:
    return np.full((height, width, 3), ground, dtype=np.uint8)


@pytest.mark.parametrize("ground", [255, 0, 128])
def test_a_small_thing_in_a_corner_is_framed_with_a_margin(ground: int) -> None:
    pixels = picture(ground)
    pixels[200:220, 280:310] = (200, 30, 30)
    framed = frame_thing(pixels)
    assert framed.shape == (35, 35, 3)
    thing = (framed == (200, 30, 30)).all(axis=2)
    assert thing.sum() == 20 * 30
    assert (framed[~thing] == ground).all()


def test_a_thing_at_the_edge_is_framed_with_more_of_the_ground() -> None:
    pixels = picture(255)
    pixels[100:140, 0:2] = pixels[100:140, 2:40] = 90
    assert (frame_thing(pixels) == 90).all(axis=2).sum() in (0, 40 * 40)


def test_a_photograph_is_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    assert frame_thing(pixels) is pixels


def test_an_empty_ground_and_a_speck_are_not_touched() -> None:
    empty = picture(255)
    speck = picture(255)
    speck[10:12, 10:12] = 0
    assert frame_thing(empty) is empty
    assert frame_thing(speck) is speck
