"""I2P-MAE with its point head, as it sits inside Point-Bind's checkpoint (I2P-MAE, section 3.1; Point-Bind, section 3).

Stages of ever fewer and wider tokens; attention is local, within a radius that grows from stage to stage.
B clouds, G groups, K neighbours, D the stage's width, E embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from models.imagebind.model import Head, Postprocessor
from models.pointbind.grouping import GroupingRule, PointGroups, group_clouds
from models.pointbind.layers import BlockStack, GroupTokenNet, position_net

MASKED_SCORE = -100_000.0
MIN_SQUARED_NORM = 1e-3  # the reference's sampling kernel never picks points this near the origin


@dataclass(frozen=True, slots=True, kw_only=True)
class StageConfig:
    """One stage; attention reaches centres nearer than `radius`."""

    width: int
    depth: int
    num_groups: int
    group_size: int
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class I2pMaeConfig:
    """Every dimension of one I2P-MAE encoder; the defaults are Point-Bind's."""

    stages: tuple[StageConfig, ...] = (
        StageConfig(width=96, depth=5, num_groups=512, group_size=48, radius=0.24),
        StageConfig(width=192, depth=5, num_groups=256, group_size=24, radius=0.48),
        StageConfig(width=384, depth=5, num_groups=64, group_size=24, radius=0.96),
    )
    num_heads: int = 6
    net_widths: tuple[int, int] = (128, 256)
    projection_width: int = 512
    embedding_width: int = 1024
    min_squared_norm: float | None = MIN_SQUARED_NORM

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage.width % self.num_heads or min(stage.num_groups, stage.group_size) < 1:
                raise ConfigError(f"needs a width in multiples of {self.num_heads} heads and groups, got {stage}")

    @property
    def rules(self) -> tuple[GroupingRule, ...]:
        return tuple(GroupingRule(s.num_groups, s.group_size, self.min_squared_norm) for s in self.stages)


def radius_mask(centres: Tensor, radius: float) -> Tensor:
    """Return `(B, 1, G, G)` to add to scores: 0 between centres `(B, G, 3)` nearer than `radius`, else far below 0."""
    distances = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances >= radius).to(centres.dtype)[:, None] * MASKED_SCORE


def gather_rows(x: Tensor, ids: Tensor) -> Tensor:
    """Return rows `(B, G, K, D)` of `x` `(B, T, D)` at `ids` `(B, G, K)`."""
    return x[torch.arange(len(x), device=x.device)[:, None, None], ids]


class HierarchicalEncoder(nn.Module):
    """The stages; each turns the tokens of the stage below into fewer and wider ones."""

    def __init__(self, config: I2pMaeConfig) -> None:
        super().__init__()
        stages, (first, local) = config.stages, config.net_widths
        self.radii = tuple(stage.radius for stage in stages)
        nets = [GroupTokenNet(3, (first, local, 2 * local, stages[0].width))]
        for below, above in pairwise(stages):
            nets.append(GroupTokenNet(below.width, (below.width, below.width, above.width, above.width)))
        self.token_embed = nn.ModuleList(nets)
        self.encoder_pos_embeds = nn.ModuleList(position_net(s.width, s.width) for s in stages)
        self.encoder_blocks = nn.ModuleList(BlockStack(s.width, config.num_heads, s.depth) for s in stages)

    def forward(self, levels: Sequence[PointGroups]) -> Tensor:
        x = levels[0].offsets  # (B, G, K, 3)
        for stage, (groups, radius) in enumerate(zip(levels, self.radii, strict=True)):
            neighbours = gather_rows(x, groups.neighbour_ids) if stage > 0 else x  # (B, G, K, D of the stage below)
            tokens = self.token_embed[stage](neighbours)  # (B, G, D)
            positions = self.encoder_pos_embeds[stage](groups.centres)
            x = self.encoder_blocks[stage](tokens, positions, radius_mask(groups.centres, radius))
        return x


class PointEncoder(nn.Module):
    """The stages, a norm, and the sum of the tokens' mean and maximum."""

    def __init__(self, config: I2pMaeConfig) -> None:
        super().__init__()
        self.h_encoder = HierarchicalEncoder(config)
        self.norm = nn.LayerNorm(config.stages[-1].width)

    def forward(self, levels: Sequence[PointGroups]) -> Tensor:
        x = self.norm(self.h_encoder(levels))  # (B, G, D)
        return cast(Tensor, x.mean(dim=1) + x.amax(dim=1))


class I2pMae(nn.Module):
    """Clouds to rows of the joint space; state-dict keys are Point-Bind's without those of ImageBind.

    `logit_scale` serves only the reference's contrastive loss; it is kept so that files load and save whole.
    """

    def __init__(self, config: I2pMaeConfig) -> None:
        super().__init__()
        self.config = config
        self.point_encoder = PointEncoder(config)
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.pc_projection = nn.Parameter(torch.randn(config.stages[-1].width, config.projection_width) * 0.02)
        head = Head(("0", "2"), config.projection_width, config.embedding_width)
        self.bind = nn.ModuleDict({"modality_head_point": head, "modality_postprocessor_point": Postprocessor(1.0)})

    def forward(self, clouds: Iterable[Tensor], *, starts: Sequence[int] | None = None) -> Tensor:
        """Return `(B, E)` rows of unit norm times the logit scale from a batch `(B, N, 3)` or clouds of unequal N."""
        levels = group_clouds(clouds, self.config.rules, starts=starts, device=self.pc_projection.device)
        prenorm = self.bind["modality_head_point"](self.point_encoder(levels) @ self.pc_projection)
        return self.bind["modality_postprocessor_point"](prenorm)  # type: ignore[no-any-return]
