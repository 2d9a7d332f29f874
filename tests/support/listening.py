"""The tiny model with an encoder of text, and an adapter that keeps what it hears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from core.types import Condition, DecodedMedia, FloatArray, Modality
from models.tiny import TinyEncoder, load_tiny
from server.context import Service
from server.settings import Settings
from server.wiring import connect_service


class TextEncoder(TinyEncoder):
    """The tiny encoder on the bytes of a text."""

    def preprocess(self, media: DecodedMedia) -> FloatArray:
        return super().preprocess(replace(media, array=media.array.reshape(-1, 1)))


class Listening:
    """The tiny adapter, which also keeps every vector it gets."""

    def __init__(self) -> None:
        self.inner = load_tiny(torch.float32).adapter
        self.heard: list[FloatArray | None] = []

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        self.heard.append(vector)
        return self.inner.condition(vector)


def build_listening(adapter: Listening) -> Callable[[Settings], Service]:
    """Return what builds a service of the tiny model whose condition goes through `adapter`."""

    def build(settings: Settings) -> Service:
        tiny = load_tiny(torch.float32)
        encoders = {**tiny.encoders, Modality.TEXT: TextEncoder(Modality.TEXT)}
        return connect_service(settings, replace(tiny, adapter=adapter, encoders=encoders))

    return build
