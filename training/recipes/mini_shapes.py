"""Train the point-cloud encoder of `mini`: `python -m training.recipes.mini_shapes --out DIR [--seed S] [--workers W]`.

No data are read: every object is built by `training/shapes`. Stages, each kept in DIR so that an interrupted run goes
on: the pool of objects, augmented views of it, the occupancy branch, the PointBERT branch on top of it, the
calibration on objects of other seeds, and `points.safetensors`.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.mini.assets import text_network_file
from models.mini.points_network import GRID_CELLS, ShapeNetwork, describe, group
from models.mini.text import MiniTextEncoder
from models.pointbind.grouping import PointGroups
from training.loop import LoopConfig, run_loop
from training.recipes.mini_shapes_export import export
from training.shapes.catalogue import NAMELESS, NAMES
from training.shapes.pool import make_pool, make_views, read_views

OCCUPANCY_BATCH, TRUNK_BATCH = 256, 48
ALIGNMENT_SCALE, ALIGNMENT_WEIGHT = 14.0, 0.25
DESCRIBED_AT_ONCE = 250


@dataclass(frozen=True, slots=True)
class Views:
    """`clouds` `(n, 1024, 3)` and `described` `(n, 3680)` in float16, `labels` `(n,)`."""

    clouds: Tensor
    described: Tensor
    labels: Tensor


def load_views(folder: Path, num_chunks: int, seed: int) -> Views:
    """Return the augmented views and their descriptions, which are kept beside them."""
    clouds, labels = read_views(folder, num_chunks, seed)
    path = folder / f"{seed}-described-{num_chunks}.pt"
    if path.exists():
        return Views(clouds, torch.load(path, weights_only=True), labels)
    parts = [describe(part.float()).half() for part in torch.split(clouds, DESCRIBED_AT_ONCE)]
    described = torch.cat(parts)
    torch.save(described, path)
    return Views(clouds, described, labels)


def name_rows() -> Tensor:
    """Return the unit text embeddings `(K, 384)` of the names."""
    return MiniTextEncoder(text_network_file(), "names").embed(NAMES).clone()


def shape_loss(logits: Tensor, rows: Tensor, labels: Tensor, name_vectors: Tensor) -> Tensor:
    """Cross-entropy of the classes, and of the names by the similarity of their text embeddings."""
    named = labels != NAMELESS
    similarity = ALIGNMENT_SCALE * F.normalize(rows.float()[named], dim=-1) @ name_vectors.T  # (b, K)
    alignment = F.cross_entropy(similarity, labels[named])
    return F.cross_entropy(logits.float(), labels, label_smoothing=0.1) + ALIGNMENT_WEIGHT * alignment


def flipped(described: Tensor, generator: torch.Generator) -> Tensor:
    """Turn half of the descriptions by half a turn about the vertical, and mirror some: the grids are reversed."""
    cells = GRID_CELLS**3
    grids = described[:, : 2 * cells].reshape(-1, 2, GRID_CELLS, GRID_CELLS, GRID_CELLS)  # (B, 2, z, y, x)
    for share, axes in ((0.5, (3, 4)), (0.3, (3,))):
        chosen = torch.rand(len(grids), 1, 1, 1, 1, generator=generator) < share
        grids = torch.where(chosen, grids.flip(axes), grids)
    return torch.cat((grids.flatten(1), described[:, 2 * cells :]), dim=1)


def train_occupancy(network: ShapeNetwork, views: Views, name_vectors: Tensor, steps: int, out: Path) -> None:
    """Train the branch that sees where points lie."""

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(views.labels), (OCCUPANCY_BATCH,), generator=generator)
        logits, aligned = network.occupancy(flipped(views.described[rows].float(), generator))
        return shape_loss(logits, aligned, views.labels[rows], name_vectors)

    network.occupancy.train()
    run(network.occupancy, loss_at, steps, 2e-3, out / "occupancy")


def train_trunk(network: ShapeNetwork, views: Views, name_vectors: Tensor, steps: int, out: Path) -> None:
    """Train the PointBERT branch on what the frozen occupancy branch leaves wrong."""
    network.train()
    network.occupancy.eval().requires_grad_(False)

    def loss_at(step: int) -> Tensor:
        rows = torch.randint(len(views.labels), (TRUNK_BATCH,), generator=torch.Generator().manual_seed(step))
        clouds = views.clouds[rows].float()
        groups = jittered(group(list(clouds)), step)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):  # the fused backward is slower here
            logits, aligned = network(views.described[rows].float(), groups)
        return shape_loss(logits, aligned, views.labels[rows], name_vectors)

    run(network, loss_at, steps, 2e-3, out / "trunk")


def jittered(groups: PointGroups, step: int) -> PointGroups:
    """Turn half of the clouds by half a turn about the vertical and stretch all a little."""
    generator = torch.Generator().manual_seed(step)
    B = len(groups.centres)
    half = torch.where(torch.rand(B, 1, 1, generator=generator) < 0.5, -1.0, 1.0)
    stretch = torch.exp(0.06 * torch.randn(B, 1, 3, generator=generator))
    factor = torch.cat((half, half, torch.ones(B, 1, 1)), dim=-1) * stretch  # (B, 1, 3)
    return PointGroups(groups.centres * factor, groups.neighbour_ids, groups.offsets * factor[:, None])


def run(module: nn.Module, loss_at: Callable[[int], Tensor], steps: int, rate: float, folder: Path) -> None:
    """Minimise with AdamW over the parameters that learn; a finished stage returns at once."""
    folder.mkdir(parents=True, exist_ok=True)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "lr": rate, "initial_lr": rate},
        {"params": [p for p in learning if p.ndim <= 1], "lr": rate, "initial_lr": rate, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05)
    loop = LoopConfig(
        num_steps=steps, warmup_steps=60, model_name=folder.name, loss_name="cross-entropy (nats per cloud)"
    )
    run_loop(module, optimizer, loss_at, loop, folder)


def _views_of(worker: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    pool = make_pool(arguments.out / "pool", arguments.objects, arguments.seed)
    make_views(arguments.out / "views", pool, range(worker, arguments.chunks, arguments.workers), arguments.seed)


def make_data(arguments: argparse.Namespace) -> Views:
    """Build pool and views, the views by several processes."""
    make_pool(arguments.out / "pool", arguments.objects, arguments.seed)
    processes = [multiprocessing.Process(target=_views_of, args=(n, arguments)) for n in range(arguments.workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return load_views(arguments.out / "views", arguments.chunks, arguments.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--objects", type=int, default=19_500, help="how many are built")
    parser.add_argument("--chunks", type=int, default=120, help="augmented views, in chunks of 500")
    parser.add_argument("--occupancy-steps", type=int, default=2500)
    parser.add_argument("--trunk-steps", type=int, default=1500)
    parser.add_argument("--workers", type=int, default=2, help="processes that build views")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="trees of real models to calibrate on as well")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    views, name_vectors = make_data(arguments), name_rows()
    torch.manual_seed(arguments.seed)
    network = ShapeNetwork(len(NAMES))
    train_occupancy(network, views, name_vectors, arguments.occupancy_steps, arguments.out)
    train_trunk(network, views, name_vectors, arguments.trunk_steps, arguments.out)
    report = export(network, name_vectors, arguments.out, arguments.seed, arguments.real)
    print(", ".join(f"{name} {value:.3f}" for name, value in report.items()))


if __name__ == "__main__":
    main()
