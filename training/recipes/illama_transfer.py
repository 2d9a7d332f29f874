"""Carry an iLLaMA over to other pictures: `python -m training.recipes.illama_transfer PICTURES --out DIR [--help]`.

Fine-tunes a trained classifier's blocks on a second data set, and trains the same network there from nothing, on the
same batches; the paper does so from ImageNet to CIFAR. Writes `transfer.json` and `transfer.png`. With `--names`,
PICTURES are Fluent emoji, and a class is the first of twelve keywords that an emoji has.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigError
from models.illama.folder import BUILT_IN, load_classifier
from models.illama.model import Illama
from training.command import run_recipe
from training.labelled_pictures import AugmentationConfig, LabelledPictures, read_labelled_pictures
from training.loop import plot_losses
from training.recipes.illama import IllamaRecipe, train

KEYWORDS = (
    "flag", "animal", "plant", "vegetable", "fruit", "food", "vehicle", "weather", "sports", "clothing", "hand", "face",
)  # fmt: skip
LIGHT = AugmentationConfig(randaugment_ops=0, mixup=0.0, cutmix=0.0, erasing=0.0)
HEAD = "head."


def recipe_for(model: Illama, num_epochs: int, batch_size: int) -> IllamaRecipe:
    """Return how a network of this form is trained on few pictures."""
    form = model.config
    return IllamaRecipe(
        width=form.width,
        depth=form.depth,
        num_heads=form.num_heads,
        image_size=form.image_size,
        patch_size=form.patch_size,
        num_epochs=num_epochs,
        batch_size=batch_size,
        warmup_epochs=1,
        rate=5e-4,
        soft_mask_rate=0.0,
        ema_decay=0.9,
        augmentation=LIGHT,
    )


def write_emoji(archive: Path, names: Path, folder: Path) -> Path:
    """Write emoji as `class/file` below `folder`; those with none of the keywords are left out."""
    known: dict[str, Any] = json.loads(names.read_text(encoding="utf-8"))
    with zipfile.ZipFile(archive) as stored:
        for code, entry in known.items():
            label = next((keyword for keyword in KEYWORDS if keyword in entry["keywords"]), None)
            if label is not None:
                (folder / label).mkdir(parents=True, exist_ok=True)
                (folder / label / f"{code}.webp").write_bytes(stored.read(f"{code}.webp"))
    return folder


def transfer(
    source: Illama, pictures: LabelledPictures, out: Path, recipe: IllamaRecipe, seeds: Sequence[int]
) -> dict[str, list[dict[str, float]]]:
    """Train both arms for every seed and return their measures on the test split, the plot's curves of the first."""
    blocks = {key: value for key, value in source.state_dict().items() if not key.startswith(HEAD)}
    results: dict[str, list[dict[str, float]]] = {"from nothing": [], "from the classifier": []}
    curves: dict[str, list[float]] = {}
    for seed in seeds:
        for place, name in enumerate(results):
            folder = out / f"arm{place}-seed{seed}"
            results[name].append(
                train(replace(recipe, seed=seed), pictures, folder, start=blocks if place else None)[1]
            )
            curves.setdefault(name, torch.load(folder / "checkpoint.pt", weights_only=True)["losses"])
            stored = {"seeds": list(seeds), "classes": pictures.class_names, "arms": results}
            (out / "transfer.json").write_text(json.dumps(stored, indent=1) + "\n")
    plot_losses(curves, out / "transfer.png", loss_name="training cross-entropy (nats)")
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("training.recipes.illama_transfer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("pictures", type=Path, help="a folder or zip of class/file pictures, or the zip of emoji")
    parser.add_argument("--out", type=Path, required=True, help="where runs, measures and the plot go")
    parser.add_argument("--classifier", default=next(iter(BUILT_IN)), help="illama-mini, or a classifier's folder")
    parser.add_argument("--names", type=Path, help="the JSON of the emoji's names and keywords")
    parser.add_argument("--num-epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args(arguments)
    if options.num_epochs < 2:
        raise ConfigError(f"one epoch warms up; --num-epochs must be 2 or more, got {options.num_epochs}")
    options.out.mkdir(parents=True, exist_ok=True)
    source = load_classifier(options.classifier).model
    folder = options.pictures
    if options.names:
        folder = write_emoji(options.pictures, options.names, options.out / "emoji")
    pictures = read_labelled_pictures(folder, source.config.image_size)
    recipe = recipe_for(source, options.num_epochs, options.batch_size)
    print(json.dumps(transfer(source, pictures, options.out, recipe, options.seeds), indent=1))


if __name__ == "__main__":
    run_recipe(main)
