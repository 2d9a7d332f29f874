"""The colour of the thing in a picture and where the picture was taken, read from pixels and features.

Colours come from `models.mini.colours`, weighted by eleven learnt numbers: shadows and highlights make grey common and
yellow rare. Indoors, outdoors or neither is a linear model of EfficientNet's features. Both were learnt from pictures
labelled by eye (`training.recipes.mini_attributes`). Letters: F features, K = 11 colour terms, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from core.errors import CheckpointError
from core.types import AnyArray, FloatArray
from models.checkpoints import read_tensors
from models.mini.assets import ATTRIBUTE_WEIGHTS, KINDS
from models.mini.attribute_questions import COLOURS, INDOORS, OUTDOORS
from models.mini.attribute_words import Attributes
from models.mini.colours import FLOOR, LEVELS, ThingColours, read_colours
from models.mini.encoder import CHANNEL_MEAN, CHANNEL_STD, IMAGE_SIZE, Look, MiniImageEncoder, preprocess_image
from models.mini.kinds import Kinds, load_kinds
from models.mini.loader import load_picture_encoder

SETTINGS = (INDOORS, OUTDOORS, "")  # in the order of the linear model's rows
NAMED_FROM = 0.5  # calibrated confidence, as for a hedge
COLOUR_FROM, SETTING_FROM, PLACE_FROM = 0.45, 0.6, 0.5  # probabilities; below them nothing is said
PAIR_RATIO, PAIR_FROM = 0.5, 0.6  # of a second colour to the first, and of both together
THIRD_FROM = 0.15
LIKE = tuple(
    frozenset(terms.split())
    for terms in (
        *("red orange brown yellow pink", "blue purple", "pink purple", "grey black", "grey white"),
        *("grey blue", "grey brown", "black brown"),
    )
)
"""Terms that one colour may get under different light: not two colours of a thing."""
DARK, LIGHT, UNCOLOURED = (
    0.32,
    0.82,
    0.85,
)  # lightnesses, and the share of black, white and grey, of a black and white thing
PALETTE_FROM = 0.15
PLACES = {  # ImageNet's classes that are places, and what is said of them
    "seashore": "at the sea", "sandbar": "at the sea", "promontory": "at the sea", "breakwater": "at the sea",
    "lakeside": "at a lake", "cliff": "at a cliff", "valley": "in a valley", "alp": "in the mountains",
    "volcano": "at a volcano", "geyser": "at a geyser", "coral reef": "under water", "dam": "at a dam",
    "library": "in a library", "restaurant": "in a restaurant", "bookshop": "in a shop", "bookstore": "in a shop",
    "bakery": "in a shop", "barbershop": "at a barber's", "butcher shop": "in a shop", "confectionery": "in a shop",
    "grocery store": "in a shop", "shoe shop": "in a shop", "tobacco shop": "in a shop", "toyshop": "in a shop",
    "cinema": "in a cinema", "greenhouse": "in a greenhouse", "planetarium": "at a planetarium",
    "prison": "in a prison",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeWeights:
    """What was learnt: chances of terms `(LEVELS**3, K)`, their biases and slope, the setting's `(C, F)` and `(C,)`."""

    colour_table: FloatArray
    colour_biases: FloatArray
    colour_slope: float
    setting_weights: FloatArray
    setting_biases: FloatArray


def load_attribute_weights(path: Path) -> AttributeWeights:
    """Return the weights. Raises `CheckpointError` naming the file when it is missing, damaged, or lacks a tensor."""
    tensors = read_tensors(path)
    try:
        table = tensors["colour.table"].float() / 255  # (LEVELS**3, K)
        weights = AttributeWeights(
            colour_table=table.numpy(),
            colour_biases=tensors["colour.biases"].float().numpy(),
            colour_slope=float(tensors["colour.slope"]),
            setting_weights=tensors["setting.weights"].float().numpy(),
            setting_biases=tensors["setting.biases"].float().numpy(),
        )
    except KeyError as error:
        raise CheckpointError(f"{path} lacks {error.args[0]}; restore it from the repository") from error
    if table.shape != (LEVELS**3, len(COLOURS)) or len(weights.setting_biases) != len(SETTINGS):
        raise CheckpointError(f"{path} was made for other colours or settings; restore it from the repository")
    return weights


class AttributeReader:
    """Read pictures with the encoder that names them."""

    def __init__(self, encoder: MiniImageEncoder, weights: AttributeWeights, kinds: Kinds) -> None:
        self._encoder, self._weights, self._kinds = encoder, weights, kinds

    @property
    def encoder_id(self) -> str:
        """Whose features can be read."""
        return self._encoder.encoder_id

    def read(self, picture: Tensor, features: tuple[FloatArray, ...] = ()) -> Attributes:
        """Return what a `prepared` picture `(3, S, S)` tells: its pixels, and what the encoder's network sees in them.

        `features` are those of its embedding; without them, as for thumbnails, the picture goes through the network.
        """
        look = self._encoder.look(picture, features)
        colours = read_colours(seen_pixels(picture), look.activation, self._weights.colour_table)
        chances = colour_chances(colours.shares, self._weights)
        setting, place = self._setting(look.features, look.probabilities)
        return Attributes(
            name=self._name(look) if look.confidence >= NAMED_FROM else "",
            colours=said_colours(colours, chances, self._weights),
            shares=tuple(chances.tolist()),
            palette=palette(colours.palette),
            background=self._one(colours.ground),
            has_colours=colours.has_colours,
            setting=setting,
            place=place,
        )

    def _name(self, look: Look) -> str:
        """Return what people would call the thing; some names are twice in the list, learnt from different pictures."""
        chances: dict[str, float] = {}
        for name, share in zip(self._encoder.names, look.probabilities.tolist(), strict=True):
            chances[name.lower()] = chances.get(name.lower(), 0.0) + share
        return self._kinds.everyday(self._encoder.names[look.nearest], chances)

    def _one(self, shares: FloatArray | None) -> tuple[str, ...]:
        if shares is None:
            return ()
        chances = colour_chances(shares, self._weights)
        return (COLOURS[int(chances.argmax())],) if chances.max() >= COLOUR_FROM else ()

    def _setting(self, features: FloatArray, probabilities: FloatArray) -> tuple[str, str]:
        """Return the setting and the place; a place only where the setting is sure."""
        chances = setting_chances(features[None], self._weights)[0]  # (C,)
        setting = SETTINGS[int(chances.argmax())] if chances.max() >= SETTING_FROM else ""
        if not setting:
            return "", ""
        places: dict[str, float] = {}
        for name, share in zip(self._encoder.names, probabilities.tolist(), strict=True):
            if name in PLACES:
                places[PLACES[name]] = places.get(PLACES[name], 0.0) + share
        place = max(places, key=lambda key: places[key], default="")
        return setting, place if place and places[place] >= PLACE_FROM else ""


def load_attribute_reader(encoder: MiniImageEncoder | None = None) -> AttributeReader:
    """Return the reader, by default with an encoder of its own. Raises `CheckpointError` for a missing file."""
    weights = load_attribute_weights(ATTRIBUTE_WEIGHTS)
    return AttributeReader(encoder or load_picture_encoder(), weights, load_kinds(KINDS))


def prepared(pixels: AnyArray) -> Tensor:
    """Return `(H, W, 3)` uint8 as the reader takes it, `(3, S, S)`: thumbnails, too, are magnified as in training."""
    return preprocess_image(pixels, IMAGE_SIZE)


def seen_pixels(picture: Tensor) -> AnyArray:
    """Return every other pixel `(S / 2, S / 2, 3)` uint8 of a preprocessed picture `(3, S, S)`."""
    scaled = (picture[:, ::2, ::2].permute(1, 2, 0).numpy() * CHANNEL_STD + CHANNEL_MEAN) * 255
    pixels: AnyArray = scaled.round().clip(0, 255).astype(np.uint8)
    return pixels


def colour_chances(shares: FloatArray, weights: AttributeWeights) -> FloatArray:
    """Return how likely people give each name `(K,)` to a thing whose pixels have these shares."""
    return _softmax(weights.colour_slope * (np.log(shares + FLOOR) + weights.colour_biases))


def setting_chances(features: FloatArray, weights: AttributeWeights) -> FloatArray:
    """Return the probabilities `(B, C)` of `SETTINGS` for features `(B, F)`, whose length does not matter."""
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return _softmax(unit @ weights.setting_weights.T + weights.setting_biases)


def said_colours(colours: ThingColours, chances: FloatArray, weights: AttributeWeights) -> tuple[str, ...]:
    """Return the one colour that people would name, or those that stand side by side; none where it is unclear."""
    low, high = colours.lightness
    if colours.shares[:3].sum() >= UNCOLOURED and low < DARK and high > LIGHT:  # black, white and grey
        return ("black", "white")
    seen = _softmax(np.log(colours.shares + FLOOR) + weights.colour_biases)
    first, second, third = (int(i) for i in np.argsort(-seen)[:3])
    if seen[third] >= THIRD_FROM and _all_unlike(first, second, third):
        return COLOURS[first], COLOURS[second], COLOURS[third]
    if (
        seen[second] >= PAIR_RATIO * seen[first]
        and seen[first] + seen[second] >= PAIR_FROM
        and _all_unlike(first, second)
    ):
        return COLOURS[first], COLOURS[second]
    return (COLOURS[int(chances.argmax())],) if chances.max() >= COLOUR_FROM else ()


def palette(shares: FloatArray) -> tuple[str, ...]:
    """Return up to three terms that much of a picture has."""
    order = np.argsort(-shares)[:3].tolist()
    return tuple(COLOURS[i] for i in order if shares[i] >= PALETTE_FROM)


def _all_unlike(*terms: int) -> bool:
    names = {COLOURS[term] for term in terms}
    return not any(len(names & like) > 1 for like in LIKE)


def _softmax(logits: FloatArray) -> FloatArray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances: FloatArray = raised / raised.sum(axis=-1, keepdims=True)
    return chances
