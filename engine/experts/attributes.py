"""The expert `attributes`: what colour the thing in a picture has, and whether it was taken indoors or outdoors."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from core.types import AnyArray, FloatArray, Modality, ModalityEncoder
from engine.experts import ExpertContext, ExpertMedium, Reading
from engine.experts.threads import ExpertThread, IsAbandoned
from models.mini.attribute_words import Attributes, facts
from models.mini.attributes import AttributeReader, load_attribute_reader, prepared
from models.mini.encoder import MiniImageEncoder


def build_attributes(context: ExpertContext) -> AttributesExpert:
    """Return the expert; it looks with the picture encoder of the served model where that is the right one."""
    return AttributesExpert(context.bundle.encoders.get(Modality.IMAGE))


class AttributesExpert:
    """Read colours from pixels and the setting from features; what cannot be told is said to be so.

    The features are those that the request's encoder makes anyway, where it is the one that learnt to be read.
    """

    expert_id = "attributes-efficientnet"
    modalities = frozenset({Modality.IMAGE})
    heading = "What can be seen in {medium}:"
    instruction = ""
    reads_details = False

    def __init__(self, encoder: ModalityEncoder | None) -> None:
        self._encoder = encoder
        self._thread = ExpertThread("attributes")
        self._reader: AttributeReader | None = None

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return a sentence about the colour, one about the setting where it is known, and both as data."""
        media = await medium.decode()
        reader, picture = await self._thread.run(partial(self._prepare, media.array))
        features: tuple[FloatArray, ...] = ()
        if self._encoder is not None and self._encoder.encoder_id == reader.encoder_id:
            features = (await medium.encode()).medium.embedding.features
        attributes = await self._thread.run(partial(_read, reader, picture, features))
        return Reading(text=facts(attributes), attributes=attributes)

    async def stop(self) -> None:
        await self._thread.stop()

    def _prepare(self, pixels: AnyArray, is_abandoned: IsAbandoned) -> tuple[AttributeReader, Tensor]:
        if self._reader is None:
            own = self._encoder if isinstance(self._encoder, MiniImageEncoder) else None
            self._reader = load_attribute_reader(own)
        return self._reader, prepared(pixels)


def _read(
    reader: AttributeReader, picture: Tensor, features: tuple[FloatArray, ...], is_abandoned: IsAbandoned
) -> Attributes:
    return reader.read(picture, features)
