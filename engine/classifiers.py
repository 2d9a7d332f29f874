"""Classifiers with classes of their own, beside the model that chats, loaded when first asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from core.errors import UnknownName
from core.types import AnyArray, MediaBlob
from engine.encoding.medium import MediaDecoder


class PictureClassifier(Protocol):
    """Name what pictures show; `models.illama.classifier.IllamaClassifier` is one."""

    class_names: tuple[str, ...]

    def classify(self, images: Sequence[AnyArray], *, top_k: int = 5) -> list[list[tuple[str, float]]]: ...


class PictureClassifiers:
    """The classifiers of a server by name. `decoder` is theirs: started at the first picture, stopped with them."""

    def __init__(self, decoder: MediaDecoder, load: Callable[[str], PictureClassifier], names: Collection[str]) -> None:
        self.names = tuple(names)
        self._decoder, self._load = decoder, load
        self._loaded: dict[str, PictureClassifier] = {}
        self._one_at_a_time = threading.Lock()
        self._starting = asyncio.Lock()
        self._started = False

    async def stop(self) -> None:
        """End the decoder, if a picture ever started it."""
        if self._started:
            await self._decoder.stop()
            self._started = False

    async def classify(self, name: str, pictures: Sequence[MediaBlob]) -> list[list[tuple[str, float]]]:
        """Return every class with its probability for each picture, the likeliest first.

        Raises `UnknownName`, and `MediaDecodeError` for a damaged picture.
        """
        if name not in self.names:
            raise UnknownName(f"there is no classifier {name!r}; classifiers: {', '.join(self.names)}", param="model")
        async with self._starting:
            if not self._started:
                await self._decoder.start()
                self._started = True
        decoded = await asyncio.gather(*(self._decoder.decode(blob) for blob in pictures))
        return await asyncio.to_thread(self._run, name, [media.array for media in decoded])

    def _run(self, name: str, images: list[AnyArray]) -> list[list[tuple[str, float]]]:
        with self._one_at_a_time:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            classifier = self._loaded[name]
            return classifier.classify(images, top_k=len(classifier.class_names))
