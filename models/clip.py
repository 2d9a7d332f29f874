"""The visual tower of CLIP with every token kept, and the pre-norm transformer block it shares with LLaMA-Adapter V2.

B images, T tokens, D width, H heads, E output width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import DecodedMedia, Embedding, Modality
from models.checkpoints import load_strictly
from models.imagebind.checkpoint import weights_digest
from models.imagebind.vision import image_tensor

Activation = Callable[[Tensor], Tensor]

_BLOCK_NAMES = (
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.attn\.in_proj_(weight|bias)$", r".qkv.\1"),
    (r"\.attn\.out_proj\.", ".proj."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.mlp\.c_fc\.", ".fc1."),
    (r"\.mlp\.c_proj\.", ".fc2."),
)


def quick_gelu(x: Tensor) -> Tensor:
    """Return `x * sigmoid(1.702 x)`, the approximation CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


class VisualBlock(nn.Module):
    """Pre-norm attention and MLP with biases and LayerNorm eps 1e-5; `(B, T, D)` in and out."""

    def __init__(self, width: int, num_heads: int, mlp_width: int, activation: Activation = F.gelu) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.activation = activation
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.fc1 = nn.Linear(width, mlp_width)
        self.fc2 = nn.Linear(mlp_width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x))  # (B, T, 3 D)
        q, k, v = qkv.view(*qkv.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, H, T, Dh) each
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.fc2(self.activation(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipVisualConfig:
    """The dimensions of one tower; the defaults are those of ViT-L/14."""

    resolution: int = 224
    patch: int = 14
    width: int = 1024
    depth: int = 24
    num_heads: int = 16
    output_width: int = 768

    @property
    def num_tokens(self) -> int:
        """The class token and one token per patch."""
        return 1 + (self.resolution // self.patch) ** 2


class ClipVisualTower(nn.Module):
    """Images `(B, 3, R, R)`, normalised as CLIP does, to all tokens `(B, T, E)`, class token first."""

    def __init__(self, config: ClipVisualConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(config.num_tokens, width) * width**-0.5)
        self.conv1 = nn.Conv2d(3, width, kernel_size=config.patch, stride=config.patch, bias=False)
        self.ln_pre = nn.LayerNorm(width, eps=1e-5)
        self.blocks = nn.ModuleList(
            VisualBlock(width, config.num_heads, 4 * width, quick_gelu) for _ in range(config.depth)
        )
        self.ln_post = nn.LayerNorm(width, eps=1e-5)
        self.proj = nn.Parameter(torch.randn(width, config.output_width) * width**-0.5)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, T - 1, D)
        first = self.class_embedding.expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat((first, patches), dim=1) + self.positional_embedding)  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x) @ self.proj  # type: ignore[no-any-return]  # (B, T, E)

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], *, num_heads: int, prefix: str = "visual.") -> Self:
        """Build the tower from CLIP's `state_dict`; only the head count is not in the shapes.

        Keys without `prefix` belong to the text side and are left out. Raises `CheckpointError` naming wrong keys.
        """
        own = {own_name(key.removeprefix(prefix)): state[key] for key in state if key.startswith(prefix)}
        config = ClipVisualConfig(
            resolution=int((own["positional_embedding"].shape[0] - 1) ** 0.5) * own["conv1.weight"].shape[-1],
            patch=own["conv1.weight"].shape[-1],
            width=own["conv1.weight"].shape[0],
            depth=sum(key.endswith(".fc1.weight") for key in own),
            num_heads=num_heads,
            output_width=own["proj"].shape[1],
        )
        with torch.device("meta"):
            tower = cls(config)
        return load_strictly(tower, own, "the CLIP checkpoint")


class ClipVisionEncoder:
    """Images to all CLIP tokens behind `core.types.ModalityEncoder`, for adapters that take image tokens."""

    modality = Modality.IMAGE

    def __init__(self, tower: ClipVisualTower) -> None:
        self.model = tower.eval()
        self.encoder_id = f"clip-{weights_digest(tower)}"

    def preprocess(self, media: DecodedMedia) -> Tensor:
        """Return `(3, R, R)` of an image: shorter side to R, centre, CLIP's mean and deviation."""
        return image_tensor(media.array, self.model.config.resolution)

    @torch.inference_mode()
    def encode(self, batch: Sequence[Tensor]) -> list[Embedding]:
        """Return the tokens of each image, flattened to `(T E,)` and not normalised."""
        tokens = self.model(torch.stack(tuple(batch)).to(self.model.proj)).float().cpu().numpy()  # (B, T, E)
        return [Embedding(vector=row.ravel(), encoder_id=self.encoder_id) for row in tokens]


def own_name(key: str) -> str:
    """Map CLIP's key, for example `transformer.resblocks.0.mlp.c_fc.bias`, to ours, `blocks.0.fc1.bias`."""
    for pattern, replacement in _BLOCK_NAMES:
        key = re.sub(pattern, replacement, key)
    return key
