"""ImageBind: one joint space for six modalities.

Per modality: stem -> trunk -> head -> unit norm and logit scale -> mean over clips. Module names are those of the
released files, so they load as they are. B rows, S clips, L tokens, D width, H heads, E embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import InvalidRequest
from models.imagebind.config import ImageBindConfig, PatchStem, TokenStem, TowerSpec

TRUNK_EPS = 1e-6
STEM_EPS = 1e-5
MAX_LOGIT_SCALE = 100.0


def _parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=0.02))


def _attach(root: nn.Module, path: str, leaf: nn.Module | nn.Parameter | nn.Buffer) -> None:
    """Register `leaf` under a dotted state-dict path, making the containers on the way."""
    *parents, name = path.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    setattr(root, name, leaf)


def extract_patches(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Return the windows `(B, L, C * prod(kernel))` of `(B, C, *axes)`, row-major over the grid, channels first."""
    for axis, (size, step) in enumerate(zip(kernel, stride, strict=True), start=2):
        x = x.unfold(axis, size, step)  # (B, C, *grid, *kernel) after the last axis
    num_axes = len(kernel)
    return x.movedim(1, num_axes + 1).flatten(1, num_axes).flatten(2)


def interpolate_positions(positions: Tensor, trained: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """Return class and patch positions `(1, 1 + prod(grid), D)` resampled from a square `trained` grid, bicubic.

    The sampling coordinates follow the ratio of the sides, as in the reference. Raises `InvalidRequest` unless both
    grids are one square.
    """
    side, trained_side = grid[-1], trained[-1]
    if math.prod(grid) != side**2 or math.prod(trained) != trained_side**2 or len(grid) == 1:
        raise InvalidRequest(
            f"patch grid {grid} differs from the trained {trained} and only single squares are interpolated; "
            "resize the input to the trained size or to a square"
        )
    scale = side / trained_side
    if int(trained_side * scale) < side:  # the division was rounded down
        scale = math.nextafter(scale, math.inf)
    patches = positions[:, 1:].float().mT.reshape(1, -1, trained_side, trained_side)  # (1, D, h, w)
    patches = F.interpolate(patches, scale_factor=scale, mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], patches.flatten(2).mT.to(positions.dtype)), dim=1)


class PatchEmbedding(nn.Module):
    """Windows to tokens, with a class token in front and positions added."""

    cls_token: nn.Parameter

    def __init__(self, name: str, stem: PatchStem, width: int) -> None:
        super().__init__()
        self.name, self.stem = name, stem
        window = (stem.channels * math.prod(stem.kernel),) if stem.flat else (stem.channels, *stem.kernel)
        _attach(self, stem.weight, _parameter(width, *window))
        if stem.norm is not None:
            _attach(self, stem.norm, nn.LayerNorm(width, eps=STEM_EPS))
        self.cls_token = _parameter(1, 1, width)
        _attach(self, stem.positions, _parameter(1, 1 + math.prod(stem.grid(stem.input_size)), width))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens `(B, L, D)` of `(B, C, *axes)`; an image `(B, C, H, W)` fills the time axis of a video stem."""
        stem = self.stem
        if x.ndim == len(stem.kernel) + 1 and len(stem.kernel) == 3:
            x = x.unsqueeze(2).expand(-1, -1, stem.kernel[0], -1, -1)  # (B, C, T, H, W)
        self._check(x)
        weight = self.get_parameter(stem.weight)
        tokens = F.linear(extract_patches(x.to(weight.dtype), stem.kernel, stem.steps), weight.flatten(1))
        if stem.norm is not None:
            tokens = self.get_submodule(stem.norm)(tokens)
        tokens = torch.cat((self.cls_token.expand(len(x), -1, -1), tokens), dim=1)  # (B, L, D)
        positions = self.get_parameter(stem.positions)
        grid, trained = stem.grid(tuple(x.shape[2:])), stem.grid(stem.input_size)
        return tokens + (positions if grid == trained else interpolate_positions(positions, trained, grid))

    def _check(self, x: Tensor) -> None:
        stem = self.stem
        fits = x.ndim == len(stem.kernel) + 2 and x.shape[1] == stem.channels
        if not fits or any(n < k for n, k in zip(x.shape[2:], stem.kernel, strict=True)):
            expected = (stem.channels, *stem.input_size)
            raise InvalidRequest(
                f"{self.name} input has shape {tuple(x.shape)}; rows must be {expected} with the batch in front, "
                "and a clip axis after the batch where there are clips"
            )


class TokenEmbedding(nn.Module):
    """Token ids to tokens, with positions added; holds the additive causal mask of the text trunk."""

    mask: Tensor

    def __init__(self, name: str, stem: TokenStem, width: int) -> None:
        super().__init__()
        self.name, self.stem = name, stem
        self.token_embedding = nn.Embedding(stem.vocab_size, width)
        self.pos_embed = _parameter(1, stem.context, width)
        self.register_buffer("mask", torch.full((stem.context, stem.context), -math.inf).triu(1))

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return tokens `(B, L, D)` of ids `(B, L)`."""
        if token_ids.ndim != 2 or token_ids.shape[1] != self.stem.context or token_ids.is_floating_point():
            raise InvalidRequest(
                f"{self.name} input must be integer ids (batch, {self.stem.context}), got {tuple(token_ids.shape)} "
                f"of {token_ids.dtype}"
            )
        return self.token_embedding(token_ids) + self.pos_embed  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Multi-head attention with fused projections; `bias_k` and `bias_v` act as one more position."""

    bias_k: nn.Parameter | None
    bias_v: nn.Parameter | None

    def __init__(self, width: int, num_heads: int, *, bias_kv: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = _parameter(3 * width, width)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.bias_k, self.bias_v = (_parameter(1, 1, width) if bias_kv else None for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(*x.shape[:2], 3, self.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, L, Dh) each
        if self.bias_k is not None and self.bias_v is not None:
            extra_k, extra_v = (
                bias.view(1, self.num_heads, 1, -1).expand_as(k[:, :, :1]) for bias in (self.bias_k, self.bias_v)
            )
            k, v = torch.cat((k, extra_k), dim=2), torch.cat((v, extra_v), dim=2)  # (B, H, L + 1, Dh)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # (B, L, D)


class Mlp(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        width = spec.size.width
        self.attn = SelfAttention(width, spec.size.num_heads, bias_kv=spec.bias_kv)
        self.norm_1 = nn.LayerNorm(width, eps=TRUNK_EPS)
        self.mlp = Mlp(width)
        self.norm_2 = nn.LayerNorm(width, eps=TRUNK_EPS)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm_1(x), mask)
        return x + self.mlp(self.norm_2(x))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """The transformer of one modality."""

    def __init__(self, spec: TowerSpec) -> None:
        super().__init__()
        norms = [nn.LayerNorm(spec.size.width, eps=TRUNK_EPS)] if spec.pre_norm else []
        self.pre_transformer_layer = nn.Sequential(*norms)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.size.depth))

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Return `(B, L, D)` tokens after every block; there is no final norm."""
        tokens = self.pre_transformer_layer(tokens)
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens


class Head(nn.Module):
    """Norm and projection of one pooled token to the joint space."""

    def __init__(self, paths: tuple[str, str], width: int, embedding_width: int) -> None:
        super().__init__()
        self.paths = paths
        _attach(self, paths[0], nn.LayerNorm(width, eps=TRUNK_EPS))
        _attach(self, paths[1], nn.Linear(width, embedding_width, bias=False))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return `(B, E)` of `(B, D)`."""
        norm, projection = (self.get_submodule(path) for path in self.paths)
        return projection(norm(pooled.to(cast(Tensor, projection.weight).dtype)))  # type: ignore[no-any-return]


class Postprocessor(nn.Module):
    """Unit norm, then the clipped logit scale where the modality has one; always float32."""

    def __init__(self, logit_scale: float | None) -> None:
        super().__init__()
        self.has_scale = logit_scale is not None
        if logit_scale is not None:
            _attach(self, "1.log_logit_scale", nn.Buffer(torch.tensor(math.log(logit_scale))))

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 `(B, E)` of head outputs `(B, E)`."""
        x = F.normalize(x.float(), dim=-1, eps=1e-12)
        return (
            x * self.get_buffer("1.log_logit_scale").float().exp().clamp(max=MAX_LOGIT_SCALE) if self.has_scale else x
        )


class ImageBind(nn.Module):
    """The towers of one config."""

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        self.config = config
        towers, width = config.towers, config.embedding_width
        self.modality_preprocessors, self.modality_trunks = nn.ModuleDict(), nn.ModuleDict()
        self.modality_heads, self.modality_postprocessors = nn.ModuleDict(), nn.ModuleDict()
        for name, spec in towers.items():
            self.modality_preprocessors[name] = _stem(name, spec)
            self.modality_trunks[name] = Trunk(spec)
            self.modality_heads[name] = Head(spec.head, spec.size.width, width)
            self.modality_postprocessors[name] = Postprocessor(spec.logit_scale)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the embeddings `(B, E)` of each named modality."""
        return {name: self.embed(name, x) for name, x in inputs.items()}

    def embed(self, name: str, x: Tensor, *, normalize: bool = True) -> Tensor:
        """Return `(B, E)` float32 rows of the tower `name`, scaled by its logit scale.

        From five axes on, the first two are rows and clips `(B, S, ...)` and the result is the plain mean over the
        clips, taken after the scale. `normalize` False gives the head's output before norm and scale. Raises
        `InvalidRequest` on an unknown name or a shape the tower does not take.
        """
        if x.ndim < 5:
            return self.embed_rows(name, x, normalize=normalize)
        rows = self.embed_rows(name, x.flatten(0, 1), normalize=normalize)  # (B * S, E)
        return rows.view(*x.shape[:2], -1).mean(dim=1)  # (B, E)

    def embed_rows(self, name: str, x: Tensor, *, normalize: bool = True) -> Tensor:
        """Return one row per clip, `(B, E)`, of a batch without a clip axis; otherwise as `embed`."""
        if name not in self.modality_heads:
            raise InvalidRequest(f"this ImageBind has no {name} tower; it has {', '.join(self.modality_heads)}")
        rows: Tensor = self.modality_heads[name](self._pooled(name, x))
        return cast(Tensor, self.modality_postprocessors[name](rows)) if normalize else rows.float()

    def _pooled(self, name: str, x: Tensor) -> Tensor:
        """Return the class token or the end-of-text token (the highest id), `(B, D)`."""
        stem = self.modality_preprocessors[name]
        mask = stem.mask if isinstance(stem, TokenEmbedding) else None
        tokens = self.modality_trunks[name](stem(x), mask)  # (B, L, D)
        if mask is None:
            return tokens[:, 0]  # type: ignore[no-any-return]
        return tokens[torch.arange(len(x), device=x.device), x.argmax(dim=-1)]  # type: ignore[no-any-return]


def _stem(name: str, spec: TowerSpec) -> nn.Module:
    if isinstance(spec.stem, TokenStem):
        return TokenEmbedding(name, spec.stem, spec.size.width)
    return PatchEmbedding(name, spec.stem, spec.size.width)
