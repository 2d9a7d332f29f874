"""Try iLLaMA's findings at small scale: `python -m training.recipes.illama_study PICTURES --out DIR [--help]`.

Trains five arms from the same start and on the same batches: causal with the class token first, once masked after the
softmax as iLLaMA does and once before it, causal with the token last (PS[cls]), the same with a soft mask, and
bidirectional. Measures accuracy, calibration, 8-bit accuracy, the rank of the
attention maps, and accuracy on pictures whose patches were shuffled (texture stays) or blurred (shape stays). Writes
`study.json`, `loss.png` and `ranks.png`. Interrupted studies go on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

from training.command import run_recipe
from training.illama_measures import attention_ranks, evaluate, quantised
from training.labelled_pictures import AugmentationConfig, LabelledPictures, read_labelled_pictures
from training.loop import plot_losses
from training.recipes.illama import IllamaRecipe, Trainee, train

PLAIN = AugmentationConfig(randaugment_ops=0, jitter=0.0, erasing=0.0, mixup=0.0, cutmix=0.0, label_smoothing=0.0)
SMALL = IllamaRecipe(
    width=128, depth=6, num_heads=2, image_size=80, num_epochs=24, warmup_epochs=2, ema_decay=0.9, augmentation=PLAIN
)
ARMS = {
    "causal, class token first": replace(SMALL, first_class_token=True, soft_mask_rate=0.0),
    "causal before the softmax, class token first": replace(
        SMALL, first_class_token=True, masked_first=True, soft_mask_rate=0.0
    ),
    "causal, PS[cls]": replace(SMALL, soft_mask_rate=0.0),
    "causal, PS[cls], soft mask": SMALL,
    "bidirectional": replace(SMALL, bidirectional=True),
}
NUM_RANKED = 256


def shuffled(pixels: Tensor, patch: int, seed: int) -> Tensor:
    """Return pictures `(N, 3, S, S)` whose square patches change places, the same way in all."""
    size = pixels.shape[-1]
    rows = F.unfold(pixels.float(), patch, stride=patch)  # (N, 3 patch patch, patches)
    order = torch.randperm(rows.shape[-1], generator=torch.Generator().manual_seed(seed))
    return F.fold(rows[..., order], size, patch, stride=patch).to(torch.uint8)


def blurred(pixels: Tensor) -> Tensor:
    """Return pictures `(N, 3, S, S)` under a Gaussian of 2 pixels: outlines stay, fine texture goes."""
    soft = gaussian_blur2d(pixels.float(), (13, 13), (2.0, 2.0))
    return soft.round().clamp(0, 255).to(torch.uint8)


def run_arm(recipe: IllamaRecipe, pictures: LabelledPictures, folder: Path) -> dict[str, Any]:
    """Train one arm and return its measures on the test split; the untrained ranks show what the mask alone does."""
    torch.manual_seed(recipe.seed)
    untrained = Trainee(recipe, len(pictures.class_names), 0).model
    model, measures = train(recipe, pictures, folder)
    mask = float(recipe.bidirectional)
    pixels, labels = pictures.of("test")
    patch = recipe.patch_size
    rows = torch.arange(0, len(pixels), max(len(pixels) // NUM_RANKED, 1))
    return {
        **measures,
        "int8_top1": evaluate(quantised(model), pixels, labels, soft_mask_rate=mask)["top1"],
        "shuffled_top1": evaluate(model, shuffled(pixels, patch, recipe.seed), labels, soft_mask_rate=mask)["top1"],
        "blurred_top1": evaluate(model, blurred(pixels), labels, soft_mask_rate=mask)["top1"],
        "ranks": attention_ranks(model, pixels[rows], soft_mask_rate=mask),
        "untrained_ranks": attention_ranks(untrained, pixels[rows], soft_mask_rate=mask),
    }


def plot_ranks(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the effective rank of the attention maps against the block, one line per arm and seed."""
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    for i, (name, runs) in enumerate(results.items()):
        for seed, run in enumerate(runs):
            blocks = range(1, len(run["ranks"]) + 1)
            axes.plot(blocks, run["ranks"], "o-", color=f"C{i}", alpha=0.8, label=None if seed else name)
    axes.set(xlabel="block", ylabel="effective rank of the attention maps", ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def study(pictures: LabelledPictures, out: Path, arms: dict[str, IllamaRecipe], seeds: Sequence[int]) -> dict[str, Any]:
    """Run every arm with every seed, write the plots and return all measures."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    curves: dict[str, list[float]] = {}
    for seed in seeds:
        for place, (name, recipe) in enumerate(arms.items()):
            folder = out / f"arm{place}-seed{seed}"
            results[name].append(run_arm(replace(recipe, seed=seed), pictures, folder))
            if seed == seeds[0]:
                curves[name] = torch.load(folder / "checkpoint.pt", weights_only=True)["losses"]
            (out / "study.json").write_text(json.dumps({"seeds": list(seeds), "arms": results}, indent=1) + "\n")
    plot_losses(curves, out / "loss.png", loss_name="training cross-entropy (nats)")
    plot_ranks(results, out / "ranks.png")
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("training.recipes.illama_study", description=__doc__)
    parser.add_argument("pictures", type=Path, help="a folder or zip of class/file pictures")
    parser.add_argument("--out", type=Path, required=True, help="where runs, measures and plots go")
    parser.add_argument("--num-classes", type=int, default=20, help="keep that many classes, the largest ones")
    parser.add_argument("--num-epochs", type=int, default=SMALL.num_epochs)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    pictures = read_labelled_pictures(options.pictures, SMALL.image_size, num_classes=options.num_classes)
    arms = {name: replace(recipe, num_epochs=options.num_epochs) for name, recipe in ARMS.items()}
    print(json.dumps(study(pictures, options.out, arms, options.seeds), indent=1))


if __name__ == "__main__":
    run_recipe(main)
