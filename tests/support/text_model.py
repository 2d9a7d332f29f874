"""The tiny model with an encoder of text, so that words meet media in its joint space."""

from __future__ import annotations

from dataclasses import replace

import torch

from core.types import DecodedMedia, FloatArray, Modality
from models.bundle import ModelBundle
from models.tiny import TinyEncoder, load_tiny
from server.context import Service
from server.settings import Settings
from server.wiring import connect_service


class TextEncoder(TinyEncoder):
    """The tiny encoder on the bytes of a text."""

    def preprocess(self, media: DecodedMedia) -> FloatArray:
        return super().preprocess(replace(media, array=media.array.reshape(-1, 1)))


def tiny_with_text() -> ModelBundle:
    tiny = load_tiny(torch.float32)
    return replace(tiny, encoders={**tiny.encoders, Modality.TEXT: TextEncoder(Modality.TEXT)})


def build_with_text(settings: Settings) -> Service:
    """Connect a server around `tiny_with_text`."""
    return connect_service(settings, tiny_with_text())
