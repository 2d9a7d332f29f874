"""iLLaMA: the LLaMA block as a vision backbone that classifies images (iLLaMA, section 3).

Patches come first and the class token last, so under causal attention it alone sees the whole image. Module names are
those of the released files. B images, T = patches + 1 tokens, D width, H heads, Dh head width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError, InvalidRequest, UnknownName
from models.llama.rope import inverse_frequencies

NORM_EPS = 1e-6
ROPE_THETA = 10000.0
INIT_STD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class IllamaConfig:
    """Every dimension of one iLLaMA; derived values are properties."""

    width: int
    depth: int
    num_heads: int
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    num_classes: int = 1000
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        if self.width % (2 * self.num_heads):
            raise ConfigError(f"width {self.width} must be an even multiple of num_heads {self.num_heads}")
        if self.image_size % self.patch_size:
            raise ConfigError(f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}")

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size

    @property
    def hidden_width(self) -> int:
        return 256 * math.ceil(int(2 * self.mlp_ratio * self.width / 3) / 256)


SIZES: Mapping[str, tuple[int, int, int]] = {  # width, depth, heads
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}


def illama_config(size: str, *, image_size: int = 224, num_classes: int = 1000) -> IllamaConfig:
    """Return the config of a published size. Raises `UnknownName` that lists the sizes."""
    if size not in SIZES:
        raise UnknownName(f"unknown iLLaMA size {size!r}; known: {', '.join(SIZES)}", param="size")
    width, depth, num_heads = SIZES[size]
    return IllamaConfig(width=width, depth=depth, num_heads=num_heads, image_size=image_size, num_classes=num_classes)


def soft_mask(num_tokens: int, rate: float, device: torch.device | None = None) -> Tensor:
    """Return `(T, T)`: 1 on and below the diagonal, `rate` above; 0 is causal, 1 is bidirectional (section 3.5)."""
    causal = torch.ones(num_tokens, num_tokens, device=device).tril()
    return rate + (1 - rate) * causal


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs of `(B, H, T, Dh)` by angles `(T, Dh/2)`; `models.llama` pairs halves instead."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Zero whole rows of a residual branch with probability `rate` and scale up the rest (stochastic depth)."""
    if rate == 0:
        return x
    kept = torch.empty(len(x), 1, 1, device=x.device).bernoulli_(1 - rate)
    return x * (kept / (1 - rate)).to(x.dtype)


class PatchEmbed(nn.Module):
    """Square patches to tokens `(B, patches, D)`, row by row."""

    def __init__(self, config: IllamaConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.num_channels, config.width, config.patch_size, config.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).mT  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Rotary attention whose softmax runs over every position and is masked afterwards, so rows need not sum to 1."""

    def __init__(self, config: IllamaConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, T, Dh) each
        q, k = rotate_pairs(q, *rope), rotate_pairs(k, *rope)
        weights = self.shares(q @ k.mT * q.shape[-1] ** -0.5, mask)  # (B, H, T, T)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # (B, T, D)

    def shares(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the attention maps `(B, H, T, T)` of scores under a mask `(T, T)` (equation 3)."""
        return scores.softmax(dim=-1) * mask


class SwiGlu(nn.Module):
    """`fc2(silu(fc1 x) * fc3 x)`."""

    def __init__(self, config: IllamaConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden_width, bias=False)
        self.fc2 = nn.Linear(config.hidden_width, config.width, bias=False)
        self.fc3 = nn.Linear(config.width, config.hidden_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(x)) * self.fc3(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, config: IllamaConfig) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.mlp = SwiGlu(config)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, drop_rate: float) -> Tensor:
        x = x + drop_path(self.attn(self.norm1(x), rope, mask), drop_rate)
        return x + drop_path(self.mlp(self.norm2(x)), drop_rate)


class Illama(nn.Module):
    """The classifier; both learned and rotary positions are used."""

    class_row = -1

    def __init__(self, config: IllamaConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.grid**2 + 1, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.head = nn.Linear(config.width, config.num_classes)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=INIT_STD)

    def features(self, images: Tensor, *, soft_mask_rate: float = 0.0, drop_path_rate: float = 0.0) -> Tensor:
        """Return the normed class token `(B, D)` of normalised images `(B, C, S, S)`.

        `drop_path_rate` is that of the last block, rising evenly from 0 at the first, and acts in training only.
        Raises `InvalidRequest` on another image size.
        """
        config = self.config
        expected = (config.num_channels, config.image_size, config.image_size)
        if tuple(images.shape[1:]) != expected:
            raise InvalidRequest(
                f"images must have shape (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}"
            )
        patches = self.patch_embed(images)  # (B, T - 1, D)
        x = self.with_class_token(patches) + self.pos_embed  # (B, T, D)
        frequencies = inverse_frequencies(config.width // config.num_heads, ROPE_THETA, None)
        angles = torch.arange(x.shape[1])[:, None] * frequencies  # (T, Dh/2)
        rope = angles.cos().to(x), angles.sin().to(x)
        mask = soft_mask(x.shape[1], soft_mask_rate).to(x)
        drop_rates = torch.linspace(0, drop_path_rate if self.training else 0.0, config.depth).tolist()
        for block, drop_rate in zip(self.blocks, drop_rates, strict=True):
            x = block(x, rope, mask, drop_rate)
        return cast(Tensor, self.norm(x)[:, self.class_row])

    def with_class_token(self, patches: Tensor) -> Tensor:
        """Return `(B, T, D)`: the patches `(B, T - 1, D)` and the class token, which `class_row` finds again."""
        return torch.cat((patches, self.cls_token.expand(len(patches), -1, -1)), dim=1)

    def forward(self, images: Tensor, *, soft_mask_rate: float = 0.0, drop_path_rate: float = 0.0) -> Tensor:
        """Return logits `(B, num_classes)` of normalised images `(B, C, S, S)`."""
        pooled = self.features(images, soft_mask_rate=soft_mask_rate, drop_path_rate=drop_path_rate)
        return self.head(pooled)  # type: ignore[no-any-return]
