"""PointBERT with its point head, as it sits inside the `imagebind_w3D` checkpoint of ImageBind-LLM.

B clouds, G groups, D width, E embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from models.imagebind.model import Head, Postprocessor
from models.pointbind.grouping import GroupingRule, PointGroups, group_clouds
from models.pointbind.layers import BlockStack, GroupTokenNet, position_net


@dataclass(frozen=True, slots=True, kw_only=True)
class PointBertConfig:
    """Every dimension of one PointBERT encoder; the defaults are the released file's."""

    width: int = 384
    depth: int = 12
    num_heads: int = 6
    num_groups: int = 512
    group_size: int = 32
    token_width: int = 256
    net_widths: tuple[int, int] = (128, 256)
    position_width: int = 128
    projection_width: int = 512
    embedding_width: int = 1024

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ConfigError(f"width {self.width} must be a multiple of num_heads {self.num_heads}")
        if min(self.num_groups, self.group_size) < 1:
            raise ConfigError(f"num_groups and group_size must be positive, got {self.num_groups}, {self.group_size}")

    @property
    def rules(self) -> tuple[GroupingRule, ...]:
        return (GroupingRule(self.num_groups, self.group_size),)


class PointTransformer(nn.Module):
    """Group tokens behind a class token; the feature is the class token beside the maximum of the others."""

    def __init__(self, config: PointBertConfig) -> None:
        super().__init__()
        first, local = config.net_widths
        self.encoder = GroupTokenNet(3, (first, local, 2 * local, config.token_width))
        self.reduce_dim = nn.Linear(config.token_width, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = position_net(config.position_width, config.width)
        self.blocks = BlockStack(config.width, config.num_heads, config.depth)
        self.norm = nn.LayerNorm(config.width)

    def forward(self, groups: PointGroups) -> Tensor:
        tokens = self.reduce_dim(self.encoder(groups.offsets))  # (B, G, D)
        x = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)  # (B, 1 + G, D)
        positions = torch.cat((self.cls_pos.expand(len(tokens), -1, -1), self.pos_embed(groups.centres)), dim=1)
        x = self.norm(self.blocks(x, positions))
        return torch.cat((x[:, 0], x[:, 1:].amax(dim=1)), dim=-1)  # (B, 2D)


class PointTrunk(nn.Module):
    """Clouds to features `(B, projection_width)`; also the point trunk of `models.imagebind.model.ImageBind`."""

    def __init__(self, config: PointBertConfig) -> None:
        super().__init__()
        self.config = config
        self.point_encoder = PointTransformer(config)
        self.pc_projection = nn.Parameter(torch.randn(2 * config.width, config.projection_width) * 0.02)

    def forward(self, clouds: Iterable[Tensor], *, starts: Sequence[int] | None = None) -> Tensor:
        (groups,) = group_clouds(clouds, self.config.rules, starts=starts, device=self.pc_projection.device)
        return self.point_encoder(groups) @ self.pc_projection  # type: ignore[no-any-return]


class PointBert(nn.Module):
    """Clouds to rows of the joint space; state-dict keys are those `imagebind_w3D` adds to ImageBind's."""

    def __init__(self, config: PointBertConfig) -> None:
        super().__init__()
        self.config = config
        self.point_trunk = PointTrunk(config)
        head = Head(("0", "2"), config.projection_width, config.embedding_width)
        self.modality_heads = nn.ModuleDict({"point": head})
        self.modality_postprocessors = nn.ModuleDict({"point": Postprocessor(1.0)})

    def forward(self, clouds: Iterable[Tensor], *, starts: Sequence[int] | None = None) -> Tensor:
        """Return `(B, E)` rows of unit norm times the logit scale from a batch `(B, N, 3)` or clouds of unequal N.

        `starts` gives each cloud's first sampled point; the reference draws it at random, 0 is the default here.
        """
        prenorm = self.modality_heads["point"](self.point_trunk(clouds, starts=starts))
        return self.modality_postprocessors["point"](prenorm)  # type: ignore[no-any-return]
