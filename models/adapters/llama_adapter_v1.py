"""Static prompts: LLaMA-Adapter V1 (section 3.1) and V2 chat, whose condition never depends on a medium.

L adapted layers, P adapter tokens, D decoder width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from core.errors import CheckpointError, InvalidRequest
from core.types import AdapterPrompt, Condition, FloatArray
from models.adapters.options import AdapterOptions, last_layers


class StaticPromptAdapter(nn.Module):
    """The learned adapter tokens `(L, P, D)` of the last L layers, the same for every request; L may be 0."""

    takes_image_tokens = False
    embedding_width = None

    def __init__(self, *, num_layers: int, num_tokens: int, width: int) -> None:
        super().__init__()
        self.adapter_query = nn.Parameter(torch.randn(num_layers, num_tokens, width) * 0.02)

    @property
    def num_tokens(self) -> int:
        return self.adapter_query.shape[1] if self.adapter_query.numel() else 0

    def adapted_layers(self, num_decoder_layers: int) -> tuple[int, ...]:
        """Return the indices of the last L decoder layers."""
        return last_layers(len(self.adapter_query) if self.num_tokens else 0, num_decoder_layers)

    def prompts(self) -> Tensor:
        """Return the adapter tokens of one request, `(1, L, P, D)`; differentiable."""
        return self.adapter_query[None]

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        """Return the static prompts, or None when nothing is adapted. Raises `InvalidRequest` when given a medium."""
        if vector is not None:
            raise InvalidRequest("this model takes text only; leave the media out or choose a multimodal model")
        if not self.num_tokens:
            return None
        return AdapterPrompt(prompts=self.adapter_query.detach().float().cpu().numpy())

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], options: AdapterOptions) -> Self:
        """Build the adapter from `adapter_query.weight` `(L P, D)`; without that key nothing is adapted.

        Raises `CheckpointError` when the rows are not a multiple of `num_static_tokens`.
        """
        num_tokens = options.num_static_tokens
        rows = state.get("adapter_query.weight", torch.zeros(0, 0))
        if num_tokens and rows.shape[0] % num_tokens:
            raise CheckpointError(f"adapter_query has {rows.shape[0]} rows, not a multiple of {num_tokens} per layer")
        adapter = cls(num_layers=0, num_tokens=num_tokens, width=rows.shape[1])
        per_layer = rows.reshape(rows.shape[0] // max(num_tokens, 1), num_tokens, rows.shape[1])
        adapter.adapter_query = nn.Parameter(per_layer)
        return adapter


def uses_raw_gates(checkpoint: Mapping[str, object]) -> bool:
    """Say whether a V1 file's gates are used without tanh.

    The released adapter is a flat dict read by inference code that has no tanh; a training checkpoint wraps its
    weights in `model` and was trained with tanh.
    """
    return "model" not in checkpoint
