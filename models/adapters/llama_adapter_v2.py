"""LLaMA-Adapter V2 multimodal: learned queries read CLIP's tokens and join the adapter prompts of the decoder.

Released form: the visual query is added to the prompts of the last layers. Paper form (section 3.3, early fusion): the
visual query enters the first layers only, the static prompts the last layers only.
B images, T CLIP tokens, E their width, P query tokens, D decoder width, L adapted layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from core.errors import CheckpointError, ConfigError, InvalidRequest
from core.types import AdapterPrompt, Condition, FloatArray
from models.adapters.options import AdapterOptions
from models.checkpoints import load_strictly
from models.clip import VisualBlock

_OWN_PREFIXES = ("clip_proj", "visual_", "adapter_query.")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualQueryConfig:
    """The dimensions of one V2 adapter; `num_visual_layers` above 0 selects early fusion.

    `num_static_layers` counts the last layers that carry `adapter_query`.
    """

    clip_width: int
    width: int
    depth: int
    num_heads: int
    mlp_width: int
    num_tokens: int
    decoder_width: int
    num_decoder_layers: int
    num_static_layers: int
    num_visual_layers: int = 0

    def __post_init__(self) -> None:
        for name in ("num_static_layers", "num_visual_layers"):
            if not 0 <= getattr(self, name) <= self.num_decoder_layers:
                raise ConfigError(f"{name} must be in [0, {self.num_decoder_layers}], got {getattr(self, name)}")

    @property
    def static_layers(self) -> range:
        return range(self.num_decoder_layers - self.num_static_layers, self.num_decoder_layers)

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder layers that take a condition, for `LlamaConfig.adapted_layers`."""
        return tuple(sorted({*range(self.num_visual_layers), *self.static_layers}))


class LlamaAdapterV2(nn.Module):
    """CLIP tokens `(B, T, E)` to adapter tokens `(B, L, P, D)`."""

    takes_image_tokens = True
    embedding_width = None

    def __init__(self, config: VisualQueryConfig) -> None:
        super().__init__()
        self.config = config
        self.clip_proj = nn.Linear(config.clip_width, config.width)
        self.clip_proj_norm = nn.LayerNorm(config.width, eps=1e-5)
        self.visual_query = nn.Parameter(torch.randn(config.num_tokens, config.width) * 0.02)
        self.visual_blocks = nn.ModuleList(
            VisualBlock(config.width, config.num_heads, config.mlp_width) for _ in range(config.depth)
        )
        self.visual_proj = nn.Linear(config.width, config.decoder_width)
        self.visual_proj_norm = nn.LayerNorm(config.decoder_width, eps=1e-5)
        shape = (config.num_static_layers, config.num_tokens, config.decoder_width)
        self.adapter_query = nn.Parameter(torch.randn(shape) * 0.02)

    @property
    def num_tokens(self) -> int:
        return max(self.token_counts() or (self.config.num_tokens,))

    def adapted_layers(self, num_decoder_layers: int) -> tuple[int, ...]:
        """Return the layers that take the condition. Raises `ConfigError` for a decoder of another depth."""
        if num_decoder_layers != self.config.num_decoder_layers:
            expected = self.config.num_decoder_layers
            raise ConfigError(f"the decoder has {num_decoder_layers} layers; the adapter was built for {expected}")
        return self.config.layers

    def visual_tokens(self, clip_tokens: Tensor) -> Tensor:
        """Return the visual query `(B, P, D)` of CLIP tokens `(B, T, E)`."""
        seen = self.clip_proj_norm(self.clip_proj(clip_tokens))  # (B, T, width)
        x = torch.cat((self.visual_query.expand(len(seen), -1, -1), seen), dim=1)  # (B, P + T, width)
        for block in self.visual_blocks:
            x = block(x)
        return self.visual_proj_norm(self.visual_proj(x[:, : self.config.num_tokens]))  # type: ignore[no-any-return]

    def prompts(self, clip_tokens: Tensor) -> Tensor:
        """Return the adapter tokens `(B, L, P, D)`; early fusion pads each layer to the longest, see `token_counts`."""
        visual = self.visual_tokens(clip_tokens)  # (B, P, D)
        if not self.config.num_visual_layers:
            return self.adapter_query + visual[:, None]
        return self._placed(visual)

    def static_prompts(self) -> Tensor:
        """Return the adapter tokens `(1, L, P, D)` of a request without an image under early fusion; differentiable."""
        return self._placed(None)

    def token_counts(self, *, with_image: bool = True) -> tuple[int, ...] | None:
        """Return the real tokens of each adapted layer under early fusion; None when every layer uses all."""
        config = self.config
        if not config.num_visual_layers:
            return None
        return tuple(
            config.num_tokens * ((with_image and layer < config.num_visual_layers) + (layer in config.static_layers))
            for layer in config.layers
        )

    def _placed(self, visual: Tensor | None) -> Tensor:
        """Return `(B, L, P, D)` with visual tokens in the first layers, static ones in the last, zeros behind."""
        config = self.config
        num_rows = 1 if visual is None else len(visual)
        layers = []
        for layer in config.layers:
            parts = [visual] if visual is not None and layer < config.num_visual_layers else []
            if layer in config.static_layers:
                parts.append(self.adapter_query[layer - config.static_layers.start].expand(num_rows, -1, -1))
            layers.append(torch.cat([*parts, self.adapter_query.new_zeros(num_rows, 0, config.decoder_width)], dim=1))
        longest = max(tokens.shape[1] for tokens in layers)
        return torch.stack([nn.functional.pad(x, (0, 0, 0, longest - x.shape[1])) for x in layers], dim=1)

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        """Return the condition of one image's CLIP tokens, `(T, E)` or flattened `(T E,)`.

        Without an image the released form has no condition, as its prompts were never used alone; early fusion keeps
        its static prompts. Raises `InvalidRequest` when the values are not whole rows of width E.
        """
        early, width = self.config.num_visual_layers > 0, self.config.clip_width
        if vector is None:
            if not (early and self.config.num_static_layers):
                return None
            static = self._placed(None)[0].detach().float().cpu().numpy()
            return AdapterPrompt(prompts=static, token_counts=self.token_counts(with_image=False))
        if vector.shape[-1] % width:
            raise InvalidRequest(f"the image tokens have shape {vector.shape}; the adapter takes rows of width {width}")
        with torch.inference_mode():
            tokens = torch.tensor(vector).view(1, -1, width).to(self.adapter_query)
            prompts = self.prompts(tokens)[0]  # (L, P, D)
        return AdapterPrompt(prompts=prompts.float().cpu().numpy(), token_counts=self.token_counts())

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], options: AdapterOptions) -> Self:
        """Build the adapter from a released `state_dict`; decoder and CLIP keys are left to their own loaders.

        Raises `CheckpointError` naming wrong keys.
        """
        own = {own_name(key): state[key] for key in state if key.startswith(_OWN_PREFIXES)}
        for key in ("clip_proj.weight", "visual_query", "visual_proj.weight", "adapter_query"):
            if key not in own:
                raise CheckpointError(f"not a LLaMA-Adapter V2 multimodal checkpoint: {key!r} is missing")
        num_tokens, width = own["visual_query"].shape
        decoder_width = own["visual_proj.weight"].shape[0]
        own["adapter_query"] = own["adapter_query"].reshape(-1, num_tokens, decoder_width)
        depth = sum(key.endswith(".fc1.weight") for key in own)
        config = VisualQueryConfig(
            clip_width=own["clip_proj.weight"].shape[1],
            width=width,
            depth=depth,
            num_heads=options.num_visual_heads,
            mlp_width=own["visual_blocks.0.fc1.weight"].shape[0] if depth else 4 * width,
            num_tokens=num_tokens,
            decoder_width=decoder_width,
            num_decoder_layers=options.num_decoder_layers,
            num_static_layers=own["adapter_query"].shape[0],
            num_visual_layers=options.num_visual_layers,
        )
        with torch.device("meta"):
            adapter = cls(config)
        return load_strictly(adapter, own, "the LLaMA-Adapter V2 checkpoint")


def own_name(key: str) -> str:
    """Map a released key to ours: timm's nested names become flat, embeddings become plain parameters."""
    key = re.sub(r"^(visual_query|adapter_query)\.weight$", r"\1", key)
    return re.sub(r"^(visual_blocks\.\d+)\.(?:attn|mlp)\.", r"\1.", key)
