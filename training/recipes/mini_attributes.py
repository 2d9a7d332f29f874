"""Learn to name colours and settings: `models/mini/attributes.safetensors`, in a minute.

    python -m training.recipes.mini_attributes DATA --out models/mini

DATA holds `caltech101_112.zip`. `mini_attributes.json` says what colour and setting some of its training photographs
show, labelled by eye: `red/orange` either is right, `black&white` both together, `+grey` may be said too, `bw` no
colours. The table that names colours comes from the XKCD survey (CC0; matplotlib carries it): its names end in a basic
colour term or in a word for one, and the terms of a colour are those of its neighbours in OKLab. From the photographs
come eleven biases and a slope for colours, and a linear model for settings. Prints what both score on photographs they
were not fitted on: settings by whole classes left out.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from matplotlib.colors import XKCD_COLORS, to_rgb
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from core.types import FloatArray
from models.mini.attribute_questions import COLOURS
from models.mini.attributes import (
    SETTINGS,
    AttributeWeights,
    colour_chances,
    said_colours,
    seen_pixels,
    setting_chances,
)
from models.mini.colours import FLOOR, LEVELS, ThingColours, lattice, oklab, read_colours
from models.mini.encoder import IMAGE_SIZE, preprocess_image
from models.mini.loader import load_picture_encoder

LABELS = Path(__file__).with_name("mini_attributes.json")
TERMS = {  # last words of survey names that mean a basic term
    "gray": "grey", "charcoal": "grey", "silver": "grey", "slate": "grey", "maroon": "red", "crimson": "red",
    "scarlet": "red", "burgundy": "red", "navy": "blue", "azure": "blue", "cyan": "blue", "sky": "blue",
    "indigo": "purple", "violet": "purple", "lavender": "purple", "lilac": "purple", "mauve": "purple",
    "plum": "purple", "magenta": "pink", "fuchsia": "pink", "salmon": "pink", "olive": "green", "lime": "green",
    "gold": "yellow", "mustard": "yellow", "tan": "brown", "chocolate": "brown", "sienna": "brown", "umber": "brown",
    "rust": "brown", "camel": "brown",
}  # fmt: skip
NEAR = 0.03  # OKLab distance within which survey colours speak for a colour
BLACK_BELOW, WHITE_FROM, TINT = 0.30, 0.90, 0.012  # the survey has few greys: these are put beside it
COLOUR_DECAY, SETTING_DECAY, FOLDS = 0.02, 0.2, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPicture:
    """A photograph's class, the features `(F,)` and colours that the encoder sees, and what is true of it."""

    group: str
    features: FloatArray
    colours: ThingColours
    names: str
    setting: int | None

    @property
    def either(self) -> frozenset[str]:
        """Return the colours of which one is right, none where the label names several together or none."""
        main = self.names.split("+")[0]
        return frozenset(main.split("/")) if main and main != "bw" and "&" not in main else frozenset()


def colour_table() -> FloatArray:
    """Return the chances of each term `(LEVELS**3, K)` for colours in the order of `models.mini.colours.bins`."""
    points, terms = _points()
    weights = 1 / np.bincount(terms, minlength=len(COLOURS))  # a term with many names is no likelier
    wanted = lattice(LEVELS)
    table = np.zeros((len(wanted), len(COLOURS)), dtype=np.float32)
    for start in range(0, len(wanted), 4096):
        rows = slice(start, start + 4096)
        squared = ((wanted[rows, None] - points[None]) ** 2).sum(axis=-1)  # (rows, points)
        speaks = np.exp((squared.min(axis=1, keepdims=True) - squared) / (2 * NEAR**2)) * weights[terms]
        for term in range(len(COLOURS)):
            table[rows, term] = speaks[:, terms == term].sum(axis=1)
    chances: FloatArray = np.round(table / table.sum(axis=1, keepdims=True) * 255) / 255  # as the file keeps them
    return chances.astype(np.float32)


def _points() -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return survey colours and greys in OKLab, and the place of each one's term in `COLOURS`."""
    pairs = [*_survey(), *_greys()]
    return np.array([point for point, _ in pairs], dtype=np.float32), np.array([term for _, term in pairs])


def _survey() -> Iterator[tuple[FloatArray, int]]:
    for name, colour in XKCD_COLORS.items():
        last = re.split(r"[ :]", name)[-1]
        term = TERMS.get(last, last)
        if term in COLOURS:
            yield oklab(np.array(to_rgb(colour))), COLOURS.index(term)


def _greys() -> Iterator[tuple[FloatArray, int]]:
    for lightness in np.linspace(0, 1, 21):
        term = "black" if lightness < BLACK_BELOW else "white" if lightness > WHITE_FROM else "grey"
        for a, b in ((0, 0), (TINT, 0), (-TINT, 0), (0, TINT), (0, -TINT)):
            yield np.array((lightness, a, b), dtype=np.float32), COLOURS.index(term)


def read_pictures(archive: Path, table: FloatArray) -> list[LabelledPicture]:
    """Return the labelled photographs of the archive."""
    labels, encoder = json.loads(LABELS.read_text(encoding="utf-8")), load_picture_encoder()
    found = []
    with zipfile.ZipFile(archive) as stored:
        paths = {"/".join(name.split("/")[-2:]): name for name in stored.namelist()}
        for file, label in tqdm(labels.items(), desc="photographs"):
            pixels = np.asarray(Image.open(io.BytesIO(stored.read(paths[file]))).convert("RGB"))
            picture = preprocess_image(pixels, IMAGE_SIZE)
            look = encoder.look(picture)
            setting = label.get("setting")
            found.append(
                LabelledPicture(
                    group=file.split("/")[0],
                    features=look.features,
                    colours=read_colours(seen_pixels(picture), look.activation, table),
                    names=label.get("colours", ""),
                    setting=None if setting is None else SETTINGS.index("" if setting == "none" else setting),
                )
            )
    return found


def fit_colours(weights: AttributeWeights, pictures: Sequence[LabelledPicture]) -> AttributeWeights:
    """Return the weights with the biases and slope under which the right colours are likeliest."""
    shares = torch.tensor(np.array([picture.colours.shares for picture in pictures])) + FLOOR  # (N, K)
    right = torch.tensor([[colour in picture.either for colour in COLOURS] for picture in pictures])  # (N, K)
    biases, slope = torch.zeros(len(COLOURS), requires_grad=True), torch.ones(1, requires_grad=True)

    def loss() -> Tensor:
        chances = F.log_softmax(slope * (shares.log() + biases), dim=-1)
        return -chances.masked_fill(~right, -1e9).logsumexp(dim=-1).mean() + COLOUR_DECAY * biases.square().mean()

    minimise(loss, [biases, slope])
    return replace(weights, colour_biases=biases.detach().numpy(), colour_slope=float(slope.detach()))


def fit_settings(weights: AttributeWeights, pictures: Sequence[LabelledPicture]) -> AttributeWeights:
    """Return the weights with a softmax regression on unit features, each class counting alike."""
    features = F.normalize(torch.tensor(np.array([picture.features for picture in pictures])), dim=-1)  # (N, F)
    settings = torch.tensor([picture.setting for picture in pictures])
    mean, scale = features.mean(dim=0), features.std(dim=0).mean()
    counts = torch.bincount(settings, minlength=len(SETTINGS))
    rows = torch.zeros(len(SETTINGS), features.shape[1], requires_grad=True)
    biases = torch.zeros(len(SETTINGS), requires_grad=True)

    def loss() -> Tensor:
        logits = (features - mean) / scale @ rows.T + biases
        return F.cross_entropy(logits, settings, weight=counts.max() / counts) + SETTING_DECAY * rows.square().sum() / 2

    minimise(loss, [rows, biases])
    rows = rows.detach() / scale
    biases = biases.detach() - rows @ mean
    return replace(weights, setting_weights=rows.numpy(), setting_biases=biases.numpy())


def minimise(loss: Callable[[], Tensor], parameters: Sequence[Tensor]) -> None:
    """Move the parameters to the least loss, which is convex in them."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe")

    def step() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimizer.step(step)  # type: ignore[no-untyped-call]


def check(weights: AttributeWeights, pictures: Sequence[LabelledPicture]) -> None:
    """Print what colours and settings score on folds of the photographs that they were not fitted on."""
    named = [picture for picture in pictures if picture.either]
    verdicts = []
    for fold in range(FOLDS):
        fitted = fit_colours(weights, [picture for place, picture in enumerate(named) if place % FOLDS != fold])
        for picture in named[fold::FOLDS]:
            chances = colour_chances(picture.colours.shares, fitted)
            said = set(said_colours(picture.colours, chances, fitted))
            possible = picture.either | set(picture.names.split("+")[1:])
            is_right = bool(said & picture.either) and said <= possible
            verdicts.append((COLOURS[int(chances.argmax())] in picture.either, bool(said), is_right))
    best, spoken, right = np.array(verdicts).T
    print(f"colours of {len(named)}: the likeliest right {best.mean():.1%}; said {spoken.mean():.1%}, "
          f"right of these {right[spoken].mean():.1%}")  # fmt: skip
    shown = [picture for picture in pictures if picture.setting is not None]
    groups = sorted({picture.group for picture in shown})
    rows: list[tuple[int, int, float]] = []
    for fold in range(FOLDS):
        left_out = set(groups[fold::FOLDS])
        fitted = fit_settings(weights, [picture for picture in shown if picture.group not in left_out])
        for picture in (picture for picture in shown if picture.group in left_out):
            chances = setting_chances(picture.features[None], fitted)[0]
            rows.append((picture.setting or 0, int(chances.argmax()), float(chances.max())))
    truth, found, sure = np.array(rows).T
    for limit in (0.0, 0.5, 0.6, 0.7, 0.8):
        said = (found != SETTINGS.index("")) & (sure >= limit)
        parts = []
        for place, name in enumerate(SETTINGS):
            own = truth == place
            parts.append(f"{name or 'neither'} {(said & own).sum()} of {own.sum()} said, ")
            parts[-1] += f"{(said & own & (found == truth)).sum()} right"
        print(f"settings from {limit}: {'; '.join(parts)}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    table = colour_table()
    nothing = np.zeros(0, dtype=np.float32)
    weights = AttributeWeights(
        colour_table=table, colour_biases=nothing, colour_slope=1.0, setting_weights=nothing, setting_biases=nothing
    )
    pictures = read_pictures(arguments.data / "caltech101_112.zip", table)
    check(weights, pictures)
    weights = fit_colours(weights, [picture for picture in pictures if picture.either])
    weights = fit_settings(weights, [picture for picture in pictures if picture.setting is not None])
    print(", ".join(f"{c} {b:+.2f}" for c, b in zip(COLOURS, weights.colour_biases, strict=True)), weights.colour_slope)
    tensors = {
        "colour.table": torch.tensor((table * 255).round(), dtype=torch.uint8),
        "colour.biases": torch.tensor(weights.colour_biases),
        "colour.slope": torch.tensor(weights.colour_slope),
        "setting.weights": torch.tensor(weights.setting_weights, dtype=torch.float16),
        "setting.biases": torch.tensor(weights.setting_biases),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, arguments.out / "attributes.safetensors")


if __name__ == "__main__":
    main()
