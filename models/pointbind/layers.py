"""What PointBERT and I2P-MAE share: group tokens and transformer blocks, named as in the released files.

B clouds, G groups, K points per group, T tokens, D width.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from models.imagebind.model import Mlp


class GroupTokenNet(nn.Module):
    """A small PointNet that turns each group `(K, C)` into one token (PointNet, section 4.2).

    `widths` are those before pooling (two), after it, and of the token. The group's maximum joins each point's features
    in the second half. A 1x1 convolution runs as a matrix product over the last axis, and the maximum's share of it
    is computed once per group instead of once per point.
    """

    def __init__(self, in_width: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, local, hidden, token = widths
        self.first_conv = _pointwise_net(in_width, first, local)
        self.second_conv = _pointwise_net(2 * local, hidden, token)

    def forward(self, neighbours: Tensor) -> Tensor:
        """Return tokens `(B, G, token)` of `(B, G, K, C)`."""
        local = _finish(self.first_conv, _linear(self.first_conv[0], neighbours))  # (B, G, K, local)
        joined = cast(nn.Conv1d, self.second_conv[0])
        shared_weight, local_weight = joined.weight.squeeze(-1).chunk(2, dim=1)
        shared = F.linear(local.amax(dim=2), shared_weight, joined.bias)  # (B, G, hidden)
        return _finish(self.second_conv, F.linear(local, local_weight).add_(shared[:, :, None])).amax(dim=2)


def _pointwise_net(in_width: int, hidden: int, out_width: int) -> nn.Sequential:
    first, last = nn.Conv1d(in_width, hidden, 1), nn.Conv1d(hidden, out_width, 1)
    return nn.Sequential(first, nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), last)


def _linear(conv: nn.Module, x: Tensor) -> Tensor:
    conv = cast(nn.Conv1d, conv)
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)


def _finish(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Run all but the first of `layers` on `(B, G, K, C)`."""
    _, norm, relu, last = layers
    return _linear(last, relu(norm(x.flatten(0, 2))).view_as(x))


class Attention(nn.Module):
    """Multi-head self-attention without query, key and value biases; `mask` is added to the scores."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, T, Dh) each
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)  # (B, T, H, Dh)
        return self.proj(out.flatten(2))  # type: ignore[no-any-return]  # (B, T, D)


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, num_heads)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class BlockStack(nn.Module):
    """Blocks that each add the positions again."""

    def __init__(self, width: int, num_heads: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x + positions, mask)
        return x


def position_net(hidden_width: int, width: int) -> nn.Sequential:
    """Return the network from centres `(..., 3)` to positions `(..., D)`."""
    return nn.Sequential(nn.Linear(3, hidden_width), nn.GELU(), nn.Linear(hidden_width, width))
