"""What is told about a served model."""

from __future__ import annotations

from dataclasses import dataclass

from core.types import Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What `/v1/models` tells about a model; `embedded_modalities` is empty without a joint space."""

    name: str
    input_modalities: tuple[Modality, ...]
    embedded_modalities: tuple[Modality, ...]
    max_context: int
    created_s: int

    @property
    def media_modalities(self) -> tuple[Modality, ...]:
        """What may join the condition: the prompt is always text, but not every model embeds text."""
        return tuple(m for m in self.input_modalities if m is not Modality.TEXT or m in self.embedded_modalities)
