"""Load a part of a model: what one machine of several needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from core.errors import ConfigError, EngineFault
from core.types import DecodedMedia, Embedding, Modality, ModalityEncoder
from models.bundle import ModelBundle
from models.folder import load_folder
from models.llama.weights import shape_of_llama
from models.registry import is_folder, load_model


class ModelPart(StrEnum):
    """`front` has tokenizer, adapter and the encoders' names; the others encoders or decoder with their weights."""

    FRONT = "front"
    ENCODERS = "encoders"
    DECODER = "decoder"


@dataclass(slots=True)
class AbsentEncoder:
    """The name of an encoder whose weights are on another machine."""

    encoder_id: str
    modality: Modality

    def preprocess(self, media: DecodedMedia) -> Any:
        raise EngineFault(f"the encoder {self.encoder_id} is on another machine")

    def encode(self, batch: Sequence[Any]) -> list[Embedding]:
        raise EngineFault(f"the encoder {self.encoder_id} is on another machine")


def load_part(name: str, dtype: torch.dtype, part: ModelPart, *, audio_encoder: str = "auto") -> ModelBundle:
    """Load a model without the weights that `part` does not need; a decoder that is left out keeps its shape.

    A converted folder's decoder is not read at all where it is left out; what is read and not needed is let go.
    Raises what `load_model` raises.
    """
    has_decoder, has_encoders = part is ModelPart.DECODER, part is not ModelPart.DECODER
    if is_folder(name) and audio_encoder == "auto":
        bundle = load_folder(name, dtype, with_decoder=has_decoder, with_encoders=has_encoders)
    else:
        bundle = load_model(name, dtype, audio_encoder=audio_encoder)
    if not has_decoder:
        bundle = replace(bundle, decoder=shape_of_llama(bundle.decoder.config, dtype))
    if part is ModelPart.FRONT:
        absent = {m: AbsentEncoder(encoder.encoder_id, m) for m, encoder in bundle.encoders.items()}
        return replace(bundle, encoders=absent)
    return bundle if has_encoders else replace(bundle, encoders={})


def move_encoders(encoders: Mapping[Modality, ModalityEncoder], device: str) -> None:
    """Move every encoder to a device. Raises `ConfigError` for one that runs on the CPU only."""
    for modality, encoder in encoders.items():
        module = getattr(encoder, "model", None)
        if not isinstance(module, nn.Module):
            raise ConfigError(
                f"the {modality} encoder {encoder.encoder_id} runs on the CPU only; give its replicas no GPU"
            )
        module.to(device)
