"""What the shapes of an adapter's tensors do not tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from core.types import Condition, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOptions:
    """The numbers a family needs beside its weights; the defaults are those of the released 7B files.

    `num_visual_layers` above 0 selects the early fusion of LLaMA-Adapter V2; `raw_gates` leaves out the tanh.
    """

    num_decoder_layers: int = 32
    num_static_tokens: int = 10
    num_visual_heads: int = 16
    num_visual_layers: int = 0
    input_scale: float = 1.0
    raw_gates: bool = False


@runtime_checkable
class ReleasedAdapter(Protocol):
    """An adapter family with released weights: `core.types.Adapter` and how it sits in the decoder.

    `takes_image_tokens` says that its vector is one image's tokens, which must not be blended or normalised.
    """

    takes_image_tokens: bool

    @property
    def embedding_width(self) -> int | None:
        """The width of the joint embedding it takes; None for image tokens and for static prompts."""
        ...

    @property
    def num_tokens(self) -> int:
        """The largest number of adapter tokens of any layer, for `LlamaConfig.num_adapter_tokens`."""
        ...

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], options: AdapterOptions) -> Self: ...

    def adapted_layers(self, num_decoder_layers: int) -> tuple[int, ...]:
        """Return the layers that take the condition, for `LlamaConfig.adapted_layers`."""
        ...

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition: ...


def last_layers(num_adapted: int, num_decoder_layers: int) -> tuple[int, ...]:
    """Return the indices of the last `num_adapted` layers; none for 0."""
    return tuple(range(num_decoder_layers - num_adapted, num_decoder_layers))
