"""The expert `attributes`: what colour the thing in a picture has, and whether it was taken indoors or outdoors."""

from __future__ import annotations

from functools import partial

from core.types import AnyArray, Modality
from engine.experts import ExpertContext, ExpertMedium, Reading
from engine.experts.threads import ExpertThread, IsAbandoned
from models.mini.attribute_words import Attributes, facts
from models.mini.attributes import AttributeReader, load_attribute_reader
from models.mini.encoder import MiniImageEncoder


def build_attributes(context: ExpertContext) -> AttributesExpert:
    """Return the expert; it looks with the picture encoder of the served model where that is the right one."""
    encoder = context.bundle.encoders.get(Modality.IMAGE)
    return AttributesExpert(encoder if isinstance(encoder, MiniImageEncoder) else None)


class AttributesExpert:
    """Read colours from pixels and the setting from features; what cannot be told is said to be so."""

    expert_id = "attributes-efficientnet"
    modalities = frozenset({Modality.IMAGE})
    heading = "What can be seen in {medium}:"
    instruction = ""
    reads_details = False

    def __init__(self, encoder: MiniImageEncoder | None) -> None:
        self._encoder = encoder
        self._thread = ExpertThread("attributes")
        self._reader: AttributeReader | None = None

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return a sentence about the colour, one about the setting where it is known, and both as data."""
        media = await medium.decode()
        attributes = await self._thread.run(partial(self._read, media.array))
        return Reading(text=facts(attributes), attributes=attributes)

    async def stop(self) -> None:
        await self._thread.stop()

    def _read(self, pixels: AnyArray, is_abandoned: IsAbandoned) -> Attributes:
        if self._reader is None:
            self._reader = load_attribute_reader(self._encoder)
        return self._reader.read(pixels)
