"""Colours of pictures that the test draws, as the shipped weights name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.errors import CheckpointError
from core.types import AnyArray, FloatArray
from models.mini.assets import ATTRIBUTE_CONDITION, ATTRIBUTE_WEIGHTS
from models.mini.attribute_questions import COLOURS
from models.mini.attributes import (
    AttributeReader,
    AttributeWeights,
    colour_chances,
    load_attribute_reader,
    load_attribute_weights,
    prepared,
    said_colours,
    setting_chances,
)
from models.mini.colours import ThingColours, bins, connected_to_border, oklab, read_colours, stretched
from models.mini.encoder import preprocess_image
from models.mini.loader import load_picture_encoder

SAMPLES = Path(__file__).parents[3] / "docs" / "samples"
RGB = {
    "black": (20, 20, 22), "white": (252, 252, 252), "grey": (128, 128, 128), "red": (200, 25, 30),
    "orange": (245, 130, 25), "yellow": (245, 220, 40), "green": (40, 140, 50), "blue": (30, 70, 190),
    "purple": (120, 40, 150), "pink": (250, 150, 190), "brown": (110, 65, 30),
}  # fmt: skip
EVERYWHERE = np.ones((9, 9), dtype=np.float32)


@pytest.fixture(scope="module")
def weights() -> AttributeWeights:
    return load_attribute_weights(ATTRIBUTE_WEIGHTS)


@pytest.fixture(scope="module")
def reader() -> AttributeReader:
    return load_attribute_reader()


def square(colour: tuple[int, int, int], ground: tuple[int, int, int]) -> AnyArray:
    """Return a square that fills a quarter of a plain ground, `(120, 120, 3)` uint8."""
    pixels = np.full((120, 120, 3), ground, dtype=np.uint8)
    pixels[30:90, 30:90] = colour
    return pixels


def named(pixels: AnyArray, weights: AttributeWeights, activation: FloatArray = EVERYWHERE) -> tuple[str, ...]:
    colours = read_colours(pixels, activation, weights.colour_table)
    return said_colours(colours, colour_chances(colours.shares, weights), weights)


def test_oklab_is_the_published_transform() -> None:
    assert np.allclose(oklab(np.array([1.0, 1.0, 1.0])), [1, 0, 0], atol=1e-3)
    assert np.allclose(oklab(np.array([1.0, 0.0, 0.0])), [0.628, 0.225, 0.126], atol=1e-3)
    assert np.allclose(oklab(np.array([0.0, 0.0, 1.0])), [0.452, -0.032, -0.312], atol=1e-3)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_square_has_its_basic_colour_on_any_plain_ground(colour: str, weights: AttributeWeights) -> None:
    for ground in ((255, 255, 255), (60, 90, 200), (15, 15, 15)):
        if np.abs(np.subtract(ground, RGB[colour])).max() > 100:
            assert named(square(RGB[colour], ground), weights) == (colour,)


def test_white_inside_a_thing_on_white_is_part_of_it(weights: AttributeWeights) -> None:
    panda = square(RGB["black"], (255, 255, 255))
    panda[34:86, 34:60] = 255
    assert named(panda, weights) == ("black", "white")


def test_colours_side_by_side_are_both_said(weights: AttributeWeights) -> None:
    flag = square(RGB["red"], (255, 255, 255))
    flag[30:90, 60:90] = RGB["blue"]
    assert set(named(flag, weights)) == {"red", "blue"}


def test_where_the_ground_is_not_plain_the_activation_says_what_counts(weights: AttributeWeights) -> None:
    random = np.random.default_rng(5)
    pixels = np.where(random.random((120, 120, 1)) < 0.5, RGB["green"], RGB["blue"]).astype(np.uint8)
    pixels[40:80, 40:80] = RGB["yellow"]
    centre = np.zeros((9, 9), dtype=np.float32)
    centre[3:6, 3:6] = 1
    assert named(pixels, weights, centre) == ("yellow",)


def test_only_a_picture_in_shades_of_grey_has_no_colours(weights: AttributeWeights) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (60, 60, 1)).repeat(3, axis=2).astype(np.uint8)
    tinted = grey.copy()
    tinted[:20, :, 2] //= 2
    assert not read_colours(grey, EVERYWHERE, weights.colour_table).has_colours
    assert read_colours(tinted, EVERYWHERE, weights.colour_table).has_colours


def test_what_is_enclosed_does_not_reach_the_border() -> None:
    like = np.ones((9, 9), dtype=bool)
    like[2, 2:7] = like[6, 2:7] = like[2:7, 2] = like[2:7, 6] = False
    reached = connected_to_border(like)
    assert reached[0].all()
    assert not reached[3:6, 3:6].any()
    like[4, 6] = True  # a gap
    assert connected_to_border(like)[3:6, 3:6].all()
    assert not connected_to_border(np.zeros((4, 5), dtype=bool)).any()


def test_a_map_is_stretched_over_the_pixels() -> None:
    activation = np.array([[-1.0, 0.0], [0.0, 4.0]], dtype=np.float32)
    wide = stretched(activation, 6, 8)
    assert wide.shape == (6, 8)
    assert wide[-1, -1] == pytest.approx(1)
    assert wide[0, 0] == 0
    assert (np.diff(wide[-1]) >= 0).all()


def test_the_table_knows_every_colour(weights: AttributeWeights) -> None:
    table = weights.colour_table
    assert table.sum(axis=1) == pytest.approx(1, abs=0.05)
    for colour, rgb in RGB.items():
        assert COLOURS[int(table[bins(np.array(rgb, dtype=np.uint8), 32)].argmax())] == colour


def test_an_unclear_colour_is_not_said(weights: AttributeWeights) -> None:
    shares = np.zeros(len(COLOURS), dtype=np.float32)
    shares[[COLOURS.index(colour) for colour in ("brown", "grey", "green", "orange", "pink")]] = 0.2
    mixed = ThingColours(shares=shares, palette=shares, ground=None, lightness=(0.4, 0.6), has_colours=True)
    chances = np.full(len(COLOURS), 1 / len(COLOURS), dtype=np.float32)
    assert len(said_colours(mixed, chances, weights)) != 1


def test_setting_chances_do_not_depend_on_the_length_of_the_features(weights: AttributeWeights) -> None:
    features = np.random.default_rng(2).random((2, weights.setting_weights.shape[1]), dtype=np.float32)
    chances = setting_chances(features, weights)
    assert chances.sum(axis=1) == pytest.approx(1)
    assert setting_chances(features * 7, weights) == pytest.approx(chances, abs=1e-5)


def test_a_drawn_square_is_read_whole(reader: AttributeReader) -> None:
    found = reader.read(prepared(square(RGB["red"], (255, 255, 255))))
    assert found.colours == ("red",)
    assert found.background == ("white",)
    assert "white" in found.palette
    assert found.setting == ""
    grey = reader.read(prepared(square((90, 90, 90), (255, 255, 255))))
    assert not grey.has_colours


def test_what_the_encoder_saw_tells_the_same_as_another_look() -> None:
    encoder = load_picture_encoder()
    reader = load_attribute_reader(encoder)
    photos = [np.asarray(Image.open(SAMPLES / name).convert("RGB")) for name in ("cat.jpg", "coffee.jpg", "beach.webp")]
    batch = [preprocess_image(pixels) for pixels in photos]
    cat, coffee, thumbnail = encoder.encode(batch)
    assert thumbnail.features == ()
    for pixels, embedding in zip(photos, (cat, coffee), strict=False):
        assert reader.read(prepared(pixels), embedding.features) == reader.read(prepared(pixels))
    assert reader.read(prepared(photos[0]), coffee.features) != reader.read(prepared(photos[0]))


def test_weights_of_something_else_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"lacks colour\.table"):
        load_attribute_weights(ATTRIBUTE_CONDITION)
