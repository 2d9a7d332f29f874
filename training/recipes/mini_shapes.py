"""Train the point-cloud encoder of `mini`: `python -m training.recipes.mini_shapes --out DIR [--seed S] [--workers W]`.

No data are read: every object is built by `training/shapes`. Stages, each kept in DIR so that an interrupted run goes
on: the pool of objects, what the picture encoder makes of rendered views of some of them, augmented clouds of all, the
occupancy network, the PointBERT, the calibration on objects of other seeds, and `points.safetensors`.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from models.mini.assets import text_network_file
from models.mini.loader import picture_encoder, read_weights
from models.mini.points_network import GRID_CELLS, ShapeNetwork, describe, group
from models.mini.text import MiniTextEncoder
from models.pointbind.grouping import PointGroups
from training.loop import LoopConfig, plot_losses, run_loop
from training.recipes.mini_shapes_export import export, validation_clouds
from training.shapes.catalogue import NAMELESS, NAMES
from training.shapes.pool import make_pool, make_views, read_views
from training.shapes.portraits import make_portraits

OCCUPANCY_BATCH, GROUPS_BATCH = 256, 48
ALIGNMENT_SCALE, TEXT_WEIGHT = 14.0, 0.25
DESCRIBED_AT_ONCE = 250
LOSS_NAME = "cross-entropies of class, name and picture (nats per cloud)"


@dataclass(frozen=True, slots=True)
class Views:
    """`clouds` `(n, 1024, 3)` and `described` `(n, 3680)` in float16, `labels` `(n,)`, `objects` `(n,)` numbers."""

    clouds: Tensor
    described: Tensor
    labels: Tensor
    objects: Tensor


@dataclass(frozen=True, slots=True)
class Anchors:
    """What a cloud's row is drawn to: its name `(K, E)` of `names`, and the picture of its object.

    `pictures` `(P, E)` are of the first P objects; `picture_weight` is that of their term.
    """

    names: Tensor
    pictures: Tensor
    picture_weight: float


def load_views(folder: Path, num_chunks: int, seed: int) -> Views:
    """Return the augmented views and their descriptions, which are kept beside them."""
    clouds, labels, objects = read_views(folder, num_chunks, seed)
    path = folder / f"{seed}-described-{num_chunks}.pt"
    if path.exists():
        return Views(clouds, torch.load(path, weights_only=True), labels, objects)
    parts = torch.split(clouds, DESCRIBED_AT_ONCE)
    described = torch.cat([describe(part.float()).half() for part in tqdm(parts, desc="descriptions")])
    temporary = path.with_suffix(".tmp")
    torch.save(described, temporary)
    temporary.replace(path)
    return Views(clouds, described, labels, objects)


def name_rows() -> Tensor:
    """Return the unit text embeddings `(K, 384)` of the names."""
    return MiniTextEncoder(text_network_file(), "names").embed(NAMES).clone()


def shape_loss(logits: Tensor, rows: Tensor, labels: Tensor, objects: Tensor, anchors: Anchors) -> Tensor:
    """Cross-entropy of the classes, of the names by their text embeddings, and of the pictures by theirs.

    The last is the contrastive loss of CLIP (Radford et al. 2021) among the clouds `(b,)` whose object was drawn.
    """
    unit = F.normalize(rows.float(), dim=-1)  # (b, E)
    named = labels != NAMELESS
    text = F.cross_entropy(ALIGNMENT_SCALE * unit[named] @ anchors.names.T, labels[named])
    loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1) + TEXT_WEIGHT * text
    drawn = named & (objects < len(anchors.pictures))
    if anchors.picture_weight == 0 or drawn.sum() < 2:
        return loss
    similarity = ALIGNMENT_SCALE * unit[drawn] @ anchors.pictures[objects[drawn]].float().T  # (d, d)
    pairs = torch.arange(len(similarity))
    return loss + anchors.picture_weight * (F.cross_entropy(similarity, pairs) + F.cross_entropy(similarity.T, pairs))


def flipped(described: Tensor, generator: torch.Generator) -> Tensor:
    """Turn half of the descriptions by half a turn about the vertical, and mirror some: the grids are reversed."""
    cells = GRID_CELLS**3
    grids = described[:, : 2 * cells].reshape(-1, 2, GRID_CELLS, GRID_CELLS, GRID_CELLS)  # (B, 2, z, y, x)
    for share, axes in ((0.5, (3, 4)), (0.3, (3,))):
        chosen = torch.rand(len(grids), 1, 1, 1, 1, generator=generator) < share
        grids = torch.where(chosen, grids.flip(axes), grids)
    return torch.cat((grids.flatten(1), described[:, 2 * cells :]), dim=1)


def train_occupancy(network: ShapeNetwork, views: Views, anchors: Anchors, steps: int, out: Path) -> list[float]:
    """Train the network that sees where points lie."""

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(views.labels), (OCCUPANCY_BATCH,), generator=generator)
        torch.manual_seed(step)  # of dropout, so that a resumed run is the same one
        logits, aligned = network.occupancy(flipped(views.described[rows].float(), generator))
        return shape_loss(logits, aligned, views.labels[rows], views.objects[rows], anchors)

    network.occupancy.train()
    return run(network.occupancy, loss_at, steps, 2e-3, out / "occupancy")


def train_groups(network: ShapeNetwork, views: Views, anchors: Anchors, steps: int, out: Path) -> list[float]:
    """Train the PointBERT."""

    def loss_at(step: int) -> Tensor:
        rows = torch.randint(len(views.labels), (GROUPS_BATCH,), generator=torch.Generator().manual_seed(step))
        groups = jittered(group(list(views.clouds[rows].float())), step)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):  # the fused backward is slower here
            logits, aligned = network.groups(groups)
        return shape_loss(logits, aligned, views.labels[rows], views.objects[rows], anchors)

    network.groups.train()
    return run(network.groups, loss_at, steps, 1.5e-3, out / "groups")


def jittered(groups: PointGroups, step: int) -> PointGroups:
    """Turn half of the clouds by half a turn about the vertical and stretch all a little."""
    generator = torch.Generator().manual_seed(step)
    B = len(groups.centres)
    half = torch.where(torch.rand(B, 1, 1, generator=generator) < 0.5, -1.0, 1.0)
    stretch = torch.exp(0.06 * torch.randn(B, 1, 3, generator=generator))
    factor = torch.cat((half, half, torch.ones(B, 1, 1)), dim=-1) * stretch  # (B, 1, 3)
    return PointGroups(groups.centres * factor, groups.neighbour_ids, groups.offsets * factor[:, None])


def run(module: nn.Module, loss_at: Callable[[int], Tensor], steps: int, rate: float, folder: Path) -> list[float]:
    """Minimise with AdamW and return the losses; a finished stage returns at once."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = [
        {"params": [p for p in module.parameters() if p.ndim > 1], "lr": rate, "initial_lr": rate},
        {
            "params": [p for p in module.parameters() if p.ndim <= 1],
            "lr": rate,
            "initial_lr": rate,
            "weight_decay": 0.0,
        },
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.05)
    loop = LoopConfig(num_steps=steps, warmup_steps=60, model_name=folder.name, loss_name=LOSS_NAME)
    return run_loop(module, optimizer, loss_at, loop, folder).losses


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


def make_anchors(arguments: argparse.Namespace) -> Anchors:
    """Embed the names, and draw the first objects for the picture encoder."""
    pictures = torch.zeros(0, 1)
    if arguments.portraits and arguments.picture_weight:
        encoder = picture_encoder(*read_weights(), encoder_id="mini")
        pictures = make_portraits(arguments.out / "portraits", arguments.portraits, arguments.seed, encoder)
    return Anchors(name_rows(), pictures, arguments.picture_weight)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--objects", type=int, default=30_000, help="how many are built")
    parser.add_argument("--chunks", type=int, default=120, help="augmented views, in chunks of 500")
    parser.add_argument("--portraits", type=int, default=4000, help="how many objects are drawn as pictures too")
    parser.add_argument("--picture-weight", type=float, default=0.05, help="of the term that draws rows to pictures")
    parser.add_argument("--occupancy-steps", type=int, default=2500)
    parser.add_argument("--trunk-steps", type=int, default=1500, help="of the PointBERT")
    parser.add_argument("--workers", type=int, default=2, help="processes that build views")
    parser.add_argument("--validation", type=int, default=500, help="objects of other seeds to calibrate on")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="trees of real models to calibrate on as well")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    views, anchors = make_data(arguments), make_anchors(arguments)
    torch.manual_seed(arguments.seed)
    network = ShapeNetwork(len(NAMES))
    losses = {
        "occupancy": train_occupancy(network, views, anchors, arguments.occupancy_steps, arguments.out),
        "PointBERT": train_groups(network, views, anchors, arguments.trunk_steps, arguments.out),
    }
    plot_losses(losses, arguments.out / "loss.png", loss_name=LOSS_NAME)
    unseen = validation_clouds(arguments.validation, arguments.seed)
    report = export(network, anchors.names, arguments.out, unseen, arguments.real)
    print("\n".join(f"{name:<28} {value:.3f}" for name, value in report.items()))


if __name__ == "__main__":
    main()
