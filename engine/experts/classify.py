"""The expert `classify`: the likeliest names of what a picture shows, by a classifier of `CLASSIFIERS`."""

from __future__ import annotations

from functools import partial

from core.errors import ConfigError
from core.types import AnyArray, Modality
from engine.experts import ExpertContext, ExpertMedium, Reading
from engine.experts.threads import ExpertThread, IsAbandoned
from models.registry import CLASSIFIERS, PictureClassifier

NUM_NAMES = 3
MIN_PROBABILITY = 0.05


def build_classify(context: ExpertContext) -> ClassifyExpert:
    """Return the expert. Raises `ConfigError` for a classifier that is not in the table."""
    name = context.options.classifier
    if name not in CLASSIFIERS.names():
        raise ConfigError(f"expert_classifier is {name!r}; known: {', '.join(CLASSIFIERS.names())}")
    return ClassifyExpert(name)


class ClassifyExpert:
    """Names with their probabilities, the likeliest first; nothing when none is likely at all."""

    modalities = frozenset({Modality.IMAGE})
    heading = "What {medium} shows, with probabilities:"
    instruction = ""
    reads_details = True

    def __init__(self, name: str) -> None:
        self.expert_id = f"classify-{name}"
        self._name = name
        self._thread = ExpertThread("classify")
        self._classifier: PictureClassifier | None = None

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return up to `NUM_NAMES` names."""
        media = await medium.decode()
        return Reading(text=await self._thread.run(partial(self._read, media.array)))

    async def stop(self) -> None:
        await self._thread.stop()

    def _read(self, pixels: AnyArray, is_abandoned: IsAbandoned) -> str:
        if self._classifier is None:
            self._classifier = CLASSIFIERS.load(self._name)()
        likely = self._classifier.likeliest(pixels, NUM_NAMES)
        return ", ".join(f"{name} {share:.0%}" for name, share in likely if share >= MIN_PROBABILITY)
