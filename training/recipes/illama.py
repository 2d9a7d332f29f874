"""Train an iLLaMA classifier: `python -m training.recipes.illama PICTURES --out DIR [--help]`.

PICTURES is a folder or zip of `class/file` pictures. The published recipe (appendix B) in small: AdamW with cosine
decay and warm-up, a soft mask that turns causal, RandAugment, mixup and cutmix, label smoothing, weight averaging,
optionally blocks selected from a LLaMA and a frozen teacher. Interrupted runs resume to the same weights. Ends with the
folder `DIR/classifier` of names and weights, laid out as `models/illama_mini`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from core.errors import ConfigError
from models.illama.folder import save_classifier
from models.illama.model import Illama, IllamaConfig
from models.illama.schedules import PhaseSchedule
from models.illama.weights import initialise_from_llama
from models.llama.gguf import GgufFile
from models.llama.hf import HfSource, read_hf_config
from models.mini.assets import picture_network_file
from models.mini.encoder import FeatureNetwork, preprocess_image
from training.command import run_recipe
from training.illama_measures import best_temperature, evaluate, first_class_token_model
from training.labelled_pictures import (
    Augmentation,
    AugmentationConfig,
    LabelledPictures,
    batches,
    read_labelled_pictures,
)
from training.loop import LoopConfig, run_loop
from training.metrics import tensorboard


@dataclass(frozen=True, slots=True, kw_only=True)
class IllamaRecipe:
    """What decides a run beside its pictures; the defaults trained `illama-mini`.

    The soft mask falls from `soft_mask_rate` to causal at `soft_mask_cutoff` of the run; `bidirectional` keeps it at 1.
    `first_class_token` puts the class token first, the arrangement that collapses (section 3.3); with `masked_first`
    the mask comes before the softmax, as in a language model.
    """

    width: int = 192
    depth: int = 8
    num_heads: int = 3
    image_size: int = 112
    patch_size: int = 16
    num_epochs: int = 60
    warmup_epochs: int = 3
    batch_size: int = 64
    rate: float = 1e-3
    weight_decay: float = 0.05
    drop_path: float = 0.0
    soft_mask_rate: float = 1.0
    soft_mask_cutoff: float = 0.3
    soft_mask_shape: str = "linear"
    bidirectional: bool = False
    first_class_token: bool = False
    masked_first: bool = False
    ema_decay: float = 0.998
    teacher_weight: float = 0.0
    seed: int = 0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


class Trainee(nn.Module):
    """The classifier, its running mean, and the head that imitates the teacher, which is left out at the end."""

    def __init__(self, recipe: IllamaRecipe, num_classes: int, num_taught: int) -> None:
        super().__init__()
        config = IllamaConfig(
            width=recipe.width,
            depth=recipe.depth,
            num_heads=recipe.num_heads,
            image_size=recipe.image_size,
            patch_size=recipe.patch_size,
            num_classes=num_classes,
        )
        first = recipe.first_class_token
        self.model = first_class_token_model(config, masked_first=recipe.masked_first) if first else Illama(config)
        self.taught = nn.Linear(recipe.width, num_taught) if num_taught else nn.Identity()
        self.mean = AveragedModel(self.model, multi_avg_fn=partial(average, recipe.ema_decay)).requires_grad_(False)

    def losses(self, images: Tensor, soft_mask: float, drop_path: float) -> tuple[Tensor, Tensor]:
        """Return class logits `(B, C)` and the logits of the teacher's classes `(B, 1000)`, both float32."""
        with torch.autocast("cpu", torch.bfloat16):
            pooled = self.model.features(images, soft_mask_rate=soft_mask, drop_path_rate=drop_path)
            return self.model.head(pooled).float(), self.taught(pooled).float()


@torch.no_grad()
def average(decay: float, means: list[Tensor], latest: list[Tensor], num_averaged: Tensor | int) -> None:
    """Move the running means toward the latest weights; the decay rises to its value over the first steps."""
    count = int(num_averaged)
    torch._foreach_lerp_(means, latest, 1 - min(decay, (1 + count) / (10 + count)))


def decayed_groups(model: nn.Module, rate: float, weight_decay: float) -> list[dict[str, object]]:
    """Return AdamW's groups: norms, biases, positions and class token are not decayed (appendix B)."""
    plain: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            still = parameter.ndim == 1 or name.endswith(("pos_embed", "cls_token"))
            (plain if still else decayed).append(parameter)
    common = {"lr": rate, "initial_lr": rate}
    return [
        {"params": decayed, "weight_decay": weight_decay, **common},
        {"params": plain, "weight_decay": 0.0, **common},
    ]


@torch.inference_mode()
def teach(pixels: Tensor, cache: Path) -> Tensor:
    """Return the ImageNet log-probabilities `(N, 1000)` that a frozen EfficientNet-Lite2 gives, kept in `cache`."""
    if not cache.exists():
        network = FeatureNetwork(picture_network_file())
        weight, bias = network.class_weights()
        rows = []
        for batch in torch.split(pixels, 32):
            images = [preprocess_image(image.permute(1, 2, 0).numpy()) for image in batch]
            rows.append((network(images) @ weight.T + bias).log_softmax(dim=-1).half())
        torch.save(torch.cat(rows).clone(), cache)
    taught: Tensor = torch.load(cache, weights_only=True)
    return taught.float()


def read_llama_layers(source: Path, num_layers: int) -> tuple[dict[str, Tensor], int]:
    """Return the first layers of a GGUF file or a Hugging Face folder under its key names, and the head width."""
    opened: GgufFile | HfSource = GgufFile(source) if source.is_file() else HfSource(source)
    config = opened.config() if isinstance(opened, GgufFile) else read_hf_config(source)
    keys = [key for key in opened.shapes() if key.startswith("model.layers.")]
    wanted = [key for key in keys if int(key.split(".")[2]) < num_layers]
    return {key: opened.read(key).float() for key in wanted}, config.head_width


def select_weights(model: Illama, source: Path) -> None:
    """Start the blocks from evenly selected elements of a LLaMA (section 3.1)."""
    layers, head_width = read_llama_layers(source, model.config.depth)
    with torch.no_grad():
        initialise_from_llama(model, layers, head_width=head_width)


def loop_config(recipe: IllamaRecipe, steps_per_epoch: int, minutes: float) -> LoopConfig:
    """Return warm-up, cosine and checkpoints of a run; the paper clips no gradient."""
    return LoopConfig(
        num_steps=recipe.num_epochs * steps_per_epoch,
        model_name="iLLaMA",
        loss_name="cross-entropy of the mixed labels (nats)",
        warmup_steps=recipe.warmup_epochs * steps_per_epoch,
        checkpoint_every=max(steps_per_epoch, 50),
        decay="cosine",
        clip_norm=math.inf,
        max_minutes=minutes,
    )


def train(
    recipe: IllamaRecipe,
    pictures: LabelledPictures,
    out: Path,
    *,
    init_from: Path | None = None,
    start: Mapping[str, Tensor] | None = None,
    minutes: float = math.inf,
) -> tuple[Illama, dict[str, float]]:
    """Train, or go on, in `out`; return the averaged model and its measures on the test split.

    `init_from` is a LLaMA to select the blocks from, `start` tensors of another iLLaMA by name. `minutes` shortens the
    schedule to the time there is; only a run without it resumes to the same weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    pixels, labels = pictures.of("train")
    if len(pixels) < recipe.batch_size:
        raise ConfigError(f"{len(pixels)} training pictures are fewer than a batch of {recipe.batch_size}")
    taught = teach(pixels, out / "teacher.pt") if recipe.teacher_weight else None
    trainee = Trainee(recipe, len(pictures.class_names), 0 if taught is None else taught.shape[1])
    if init_from is not None:
        select_weights(trainee.model, init_from)
    trainee.model.load_state_dict({**trainee.model.state_dict(), **(start or {})})
    optimizer = torch.optim.AdamW(decayed_groups(trainee, recipe.rate, recipe.weight_decay), betas=(0.9, 0.999))
    augment = Augmentation(recipe.augmentation, recipe.image_size, len(pictures.class_names))
    steps_per_epoch = len(pixels) // recipe.batch_size
    masks = soft_masks(recipe, steps_per_epoch)

    def loss_at(step: int) -> Tensor:
        trainee.train()
        if step:
            trainee.mean.update_parameters(trainee.model)
        epoch, place = divmod(step, steps_per_epoch)
        rows = batches(len(pixels), recipe.batch_size, epoch, recipe.seed)[place]
        torch.manual_seed(recipe.seed * 1_000_003 + step)  # augmentation and drop path depend on the step alone
        images, targets = augment(pixels[rows], labels[rows])
        logits, imitated = trainee.losses(images, float(masks[step]), recipe.drop_path)
        loss = F.cross_entropy(logits, targets)
        if taught is not None:
            loss = loss + recipe.teacher_weight * F.cross_entropy(imitated, taught[rows].exp())
        return loss

    loop = loop_config(recipe, steps_per_epoch, minutes)
    with tensorboard(out / "events") as report:
        run_loop(trainee, optimizer, loss_at, replace(loop, report=report), out)
    model = trainee.mean.module if recipe.ema_decay else trainee.model
    assert isinstance(model, Illama)
    model.eval()
    return model, evaluate(model, *pictures.of("test"), soft_mask_rate=float(recipe.bidirectional))


def soft_masks(recipe: IllamaRecipe, steps_per_epoch: int) -> Sequence[float]:
    """Return the soft mask rate of every step; 1 is bidirectional, 0 causal."""
    if recipe.bidirectional:
        return [1.0] * (recipe.num_epochs * steps_per_epoch)
    if recipe.soft_mask_shape not in ("linear", "constant"):
        raise ConfigError(f"soft_mask_shape must be linear or constant, got {recipe.soft_mask_shape!r}")
    schedule = PhaseSchedule(
        rate=recipe.soft_mask_rate,
        num_epochs=recipe.num_epochs,
        steps_per_epoch=steps_per_epoch,
        cutoff_epoch=round(recipe.soft_mask_cutoff * recipe.num_epochs),
        shape="linear" if recipe.soft_mask_shape == "linear" else "constant",
    )
    return [float(value) for value in np.asarray(schedule.values())]


def add_recipe_options(parser: argparse.ArgumentParser, recipe: IllamaRecipe) -> None:
    """Add one option for each setting of the recipe and of its augmentation."""
    for settings in (recipe, recipe.augmentation):
        for name, value in asdict(settings).items():
            option = f"--{name.replace('_', '-')}"
            if isinstance(value, bool):
                parser.add_argument(option, action="store_true")
            elif not isinstance(value, dict):
                parser.add_argument(option, type=type(value), default=value, metavar=type(value).__name__.upper())


def recipe_of(options: argparse.Namespace) -> IllamaRecipe:
    """Return the recipe that the options of `add_recipe_options` describe."""
    given = vars(options)
    augmentation = AugmentationConfig(**{name: given[name] for name in asdict(AugmentationConfig())})
    own = {name: given[name] for name in asdict(IllamaRecipe()) if name != "augmentation"}
    return IllamaRecipe(**own, augmentation=augmentation)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("training.recipes.illama", description=__doc__)
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("pictures", type=Path, help="a folder or zip of class/file pictures")
    parser.add_argument("--out", type=Path, required=True, help="where checkpoints, metrics and the classifier go")
    parser.add_argument("--init-from", type=Path, help="a LLaMA (GGUF file or folder) to select weights from")
    parser.add_argument("--num-classes", type=int, help="keep that many classes, the largest ones")
    parser.add_argument("--minutes", type=float, default=math.inf, help="shorten the schedule to this time")
    add_recipe_options(parser, IllamaRecipe())
    options = parser.parse_args(arguments)
    recipe = recipe_of(options)
    pictures = read_labelled_pictures(options.pictures, recipe.image_size, num_classes=options.num_classes)
    model, measures = train(recipe, pictures, options.out, init_from=options.init_from, minutes=options.minutes)
    if not recipe.first_class_token and not recipe.bidirectional:
        temperature = best_temperature(model, *pictures.of("validation"))
        save_classifier(options.out / "classifier", model, pictures.class_names, temperature=temperature)
        measures |= {"temperature": temperature} | {
            f"{name}_calibrated": value
            for name, value in evaluate(model, *pictures.of("test"), temperature=temperature).items()
        }
    (options.out / "measures.json").write_text(json.dumps({"recipe": asdict(recipe), **measures}, indent=1) + "\n")
    print(json.dumps(measures, indent=1))


if __name__ == "__main__":
    run_recipe(main)
