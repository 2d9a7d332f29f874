"""Fit how sure the point-cloud encoder of `mini` is, on objects it never saw, and write its weights."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from core.types import Modality
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.points import decode_points
from models.mini.points import Calibration, MiniPointEncoder, look_from_all_sides, weigh_views
from models.mini.points_network import ShapeNetwork
from models.mini.space import blend_names
from training.shapes.catalogue import NAMELESS, NAMES
from training.shapes.clouds import NUM_POINTS, UP_AXES, damage, rotation_about
from training.shapes.pool import object_of

VALIDATION_SEED = 500_000
GROUPS_SHARES = (0.5, 0.35, 0.65, 0.0, 1.0)  # the first of equals wins
DOWN_WEIGHTS, SIDEWAYS_WEIGHTS = (0.0, 0.1, 0.3), (0.4, 1.0)  # less than 0.4 loses chairs whose x axis is up
ALIGNED_SHARES = (0.2, 0.0, 0.4)
START = Calibration(
    view_weights=(1.0, 0.2, 1.0, 0.2, 0.3, 0.2),
    groups_share=0.5,
    temperature=1.0,
    slope=1.0,
    offset=0.0,
    aligned_share=0.0,
)


def validation_clouds(count: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Return objects of other seeds, a third of them damaged, z or y up, turned about the vertical; and labels."""
    clouds, labels = [], []
    for number in range(count):
        points, label = object_of(VALIDATION_SEED + seed, number)
        random = np.random.default_rng((VALIDATION_SEED, seed, number, 1))
        points = damage(points, random) if random.random() < 1 / 3 else points[:NUM_POINTS]
        turned = points @ rotation_about(np.array((0, 0, 1.0)), random.uniform(0, 6.28)).T.astype(np.float32)
        clouds.append(torch.from_numpy(np.ascontiguousarray(turned[:, UP_AXES["zy"[int(random.integers(2))]]])))
        labels.append(label)
    return clouds, torch.tensor(labels)


def real_clouds(folder: Path, encoder: MiniPointEncoder) -> tuple[list[Tensor], Tensor]:
    """Return the files of a `class/file` tree; a folder that is no class of ours counts as unfamiliar."""
    clouds, labels = [], []
    for path in sorted(folder.glob("*/*")):
        container = path.suffix.lstrip(".")
        job = DecodeJob(
            container=container, modality=Modality.POINT_CLOUD, limits=MediaLimits(), options=DecodeOptions()
        )
        clouds.append(encoder.preprocess(decode_points(path.read_bytes(), job)))
        labels.append(NAMES.index(path.parent.name) if path.parent.name in NAMES else NAMELESS)
    return clouds, torch.tensor(labels)


def fit(logits: Tensor, rows: Tensor, labels: Tensor, name_vectors: Tensor) -> Calibration:
    """Choose the networks' shares, view weights and the heads' share by how many are named right, the temperature by
    likelihood, then how the score becomes a probability (Platt 1999); nameless objects count as wrong, whatever is said
    of them."""
    best, best_right = START, -1.0
    choices = itertools.product(GROUPS_SHARES, DOWN_WEIGHTS, SIDEWAYS_WEIGHTS, ALIGNED_SHARES)
    for groups_share, down, sideways, share in tqdm(list(choices), desc="calibration", unit="trial"):
        weights = (1.0, down, 1.0, down, sideways, min(down, sideways))
        trial = replace(START, groups_share=groups_share, view_weights=weights, aligned_share=share)
        share_right = named_right(logits, rows, labels, name_vectors, trial)
        if share_right > best_right + 0.002:
            best, best_right = trial, share_right
    best = min(
        (replace(best, temperature=float(t)) for t in np.linspace(0.5, 2.0, 16)),
        key=lambda trial: _surprise(logits, rows, labels, trial),
    )
    right = _is_right(logits, rows, labels, name_vectors, best)
    score = weigh_views(logits, rows, best).score
    slope, offset = platt(torch.logit(score, eps=1e-4), right)
    return replace(best, slope=slope, offset=offset)


def named_right(logits: Tensor, rows: Tensor, labels: Tensor, name_vectors: Tensor, trial: Calibration) -> float:
    """Return the share of the things with a name whose nearest name is right."""
    return float(_is_right(logits, rows, labels, name_vectors, trial)[labels != NAMELESS].float().mean())


def _is_right(logits: Tensor, rows: Tensor, labels: Tensor, name_vectors: Tensor, trial: Calibration) -> Tensor:
    seen = weigh_views(logits, rows, trial)
    vectors = (1 - trial.aligned_share) * blend_names(seen.names, name_vectors).vectors
    vectors = vectors + trial.aligned_share * seen.aligned
    return (vectors @ name_vectors.T).argmax(dim=-1) == labels


def _surprise(logits: Tensor, rows: Tensor, labels: Tensor, trial: Calibration) -> float:
    named = labels != NAMELESS
    names = weigh_views(logits[named], rows[named], trial).names
    return float(-names.gather(1, labels[named, None]).clamp_min(1e-6).log().mean())


def platt(odds: Tensor, right: Tensor) -> tuple[float, float]:
    """Fit `sigmoid(slope * odds + offset)` to whether answers are right, by Newton's method with a weak prior."""
    inputs = torch.stack((odds, torch.ones_like(odds)), dim=1).double()
    target, weights = right.double(), torch.tensor((1.0, 0.0), dtype=torch.float64)
    for _ in range(30):
        guess = torch.sigmoid(inputs @ weights)
        gradient = inputs.T @ (guess - target) + 0.1 * (weights - torch.tensor((1.0, 0.0)))
        curvature = (inputs * (guess * (1 - guess))[:, None]).T @ inputs + 0.1 * torch.eye(2)
        weights = weights - torch.linalg.solve(curvature, gradient)
    return float(weights[0]), float(weights[1])


def look(network: ShapeNetwork, clouds: list[Tensor], what: str) -> tuple[Tensor, Tensor]:
    """Return logits `(n, V, 2, K + 1)` and rows `(n, V, 2, E)` of all clouds under a progress bar."""
    with torch.inference_mode():
        parts = [look_from_all_sides(network, [cloud]) for cloud in tqdm(clouds, desc=what, unit="cloud")]
    return torch.cat([logits for logits, _ in parts]), torch.cat([rows for _, rows in parts])


def export(
    network: ShapeNetwork,
    name_vectors: Tensor,
    out: Path,
    unseen: tuple[list[Tensor], Tensor],
    real: Sequence[Path] = (),
) -> dict[str, float]:
    """Fit the calibration and write `out/points.safetensors` in float16; return the shares named right.

    `unseen` are clouds with their labels; `real` are `class/file` trees of real models to calibrate on as well:
    procedural objects alone are too easy.
    """
    network.eval().requires_grad_(False)
    encoder = MiniPointEncoder(network, NAMES, name_vectors, START, "unfitted")
    trees = {"procedural": unseen, **{folder.name: real_clouds(folder, encoder) for folder in real}}
    seen = {name: (*look(network, clouds, name), labels) for name, (clouds, labels) in trees.items()}
    logits, rows, labels = (torch.cat(parts) for parts in zip(*seen.values(), strict=True))
    calibration = fit(logits, rows, labels, name_vectors)
    write_weights(network, name_vectors, calibration, out / "points.safetensors")
    variants = {"both": calibration.groups_share, "occupancy alone": 0.0, "PointBERT alone": 1.0}
    return {
        f"{name}, {variant}": named_right(*outputs, name_vectors, replace(calibration, groups_share=share))
        for name, outputs in seen.items()
        for variant, share in variants.items()
        if bool((outputs[2] != NAMELESS).any())
    }


def write_weights(network: ShapeNetwork, name_vectors: Tensor, calibration: Calibration, path: Path) -> None:
    """Write float16 tensors; names and calibration are the metadata."""
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    tensors["names.vectors"] = name_vectors.half()
    metadata = {"names": json.dumps(NAMES), "calibration": json.dumps(asdict(calibration))}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
