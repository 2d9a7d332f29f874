"""Parity of iLLaMA: logits and inner values under soft masks, training schedules, position interpolation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity_families import Output
from benchmarks.parity_families.points import record
from core.types import FloatArray
from models.illama.model import IllamaConfig
from models.illama.schedules import PhaseSchedule, cosine_schedule
from models.illama.weights import interpolate_positions, load_illama

TOLERANCE = 1e-4
SCHEDULE_TOLERANCE = 1e-6


def outputs(folder: Path) -> Iterator[Output]:
    """Yield every recorded output of an `illama`, `illama_schedules` or `illama_pos_interp` fixture."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = load_file(folder / "outputs.safetensors")
    if config["fixture"] == "illama_schedules":
        for name, value in expected.items():
            produced = schedule(name.partition(".")[0], config["entries"][name])
            yield name, produced, value.numpy(), SCHEDULE_TOLERANCE
        return
    inputs = load_file(folder / "inputs.safetensors")
    if config["fixture"] == "illama_pos_interp":
        for name, value in expected.items():
            grid = math.isqrt(value.shape[1] - 1)
            yield name, interpolate_positions(inputs["pos_embed"], grid).numpy(), value.numpy(), TOLERANCE
        return
    state = load_file(folder / "weights.safetensors")
    values = run(illama_config(config["constructor_kwargs"]), state, inputs["images"], config["alphas"])
    for name, value in expected.items():
        tolerance = TOLERANCE * max(1.0, float(value.abs().max()))
        yield name, values.get(name, torch.empty(0)).numpy(), value.numpy(), tolerance


def illama_config(fields: Mapping[str, Any]) -> IllamaConfig:
    """Read the config off the reference constructor's arguments."""
    return IllamaConfig(
        width=int(fields["embed_dim"]),
        depth=int(fields["depth"]),
        num_heads=int(fields["num_heads"]),
        image_size=int(fields["img_size"]),
        patch_size=int(fields["patch_size"]),
        num_channels=int(fields["in_chans"]),
        num_classes=int(fields["num_classes"]),
        mlp_ratio=float(fields["mlp_ratio"]),
    )


def run(
    config: IllamaConfig, state: Mapping[str, Tensor], images: Tensor, soft_mask_rates: list[float]
) -> dict[str, Tensor]:
    """Return every named value for each soft mask rate."""
    model = load_illama(state, config, "the fixture")
    blocks = {f"block{i}_out": block for i, block in enumerate(model.blocks)}
    inner = record({"patch_embed": model.patch_embed, "norm_out": model.norm, **blocks})
    values: dict[str, Tensor] = {}
    for rate in soft_mask_rates:
        with torch.inference_mode():
            inner["logits"] = model(images, soft_mask_rate=rate)
        inner["pooled"] = inner["norm_out"][:, -1]
        values |= {f"alpha{rate}.{name}": value for name, value in inner.items()}
    return values


def schedule(kind: str, fields: Mapping[str, Any]) -> FloatArray:
    """Return one value per step of a `mask`, `drop`, `lr` or `wd` schedule."""
    if kind in ("lr", "wd"):
        steps, warmup = int(fields["niter"]), int(fields.get("warmup_epochs", 0))
        return cosine_schedule(fields["base"], fields["final"], fields["epochs"] * steps, warmup * steps)
    rate, cutoff = ("soft_mask", "cutoff_soft") if kind == "mask" else ("drop_rate", "cutoff_epoch")
    return PhaseSchedule(
        rate=fields[rate],
        num_epochs=fields["epochs"],
        steps_per_epoch=fields["niter_per_ep"],
        cutoff_epoch=fields[cutoff],
        phase="early" if fields["mode"] == "soft" else fields["mode"],
        shape=fields["schedule"],
    ).values()
