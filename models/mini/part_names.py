"""What the unlike parts of a blend are called, and the sentence that tells it to the decoder.

One constant per layer names one thing, so a blend of several is put into words before the decoder reads it, by the rule
that names everything else here: the name whose text embedding is nearest. K names, E embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.types import FloatArray, Modality
from models.mini.articles import article

HEDGE_BELOW = 0.5  # calibrated confidence, as for a single medium
NUM_CANDIDATES = 6
CLAUSES = {  # one medium, several
    Modality.IMAGE: ("the picture shows {}", "the pictures show {}"),
    Modality.AUDIO: ("the sound is {}", "the sounds are {}"),
    Modality.VIDEO: ("the film shows {}", "the films show {}"),
    Modality.POINT_CLOUD: ("the shape is {}", "the shapes are {}"),
    Modality.TEXT: ("there is also {}", "there are also {}"),
}
CONTEXT = "<context>{told}</context>\n{question}\nAnswer from the context in one sentence."  # measured: RESULTS.md
NO_QUESTION = "What is this?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the unlike things that media add up to: a medium, counted from 0 among those in scope, or a film's scene.

    `vector` is its unit row `(E,)`. `name` is what it is called where that is known; else its vector tells.
    """

    medium: int
    modality: Modality
    vector: FloatArray = field(repr=False, compare=False)
    weight: float
    confidence: float | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class NamedPart:
    """A part with its name, and the runner-up where the encoder is unsure."""

    part: Part
    name: str
    other: str | None = None

    @property
    def phrase(self) -> str:
        """The name as a sentence says it; a text with an article or a proper name as it stands."""
        is_text = self.part.modality is Modality.TEXT
        if is_text and (self.name[0].isupper() or self.name.lower().startswith(("a ", "an ", "the ", "some "))):
            return self.name
        return f"maybe {article(self.name)} or {article(self.other)}" if self.other else article(self.name)


class PartNames:
    """Name parts from the `(K, E)` unit rows of names, by modality."""

    def __init__(self, banks: Mapping[Modality, tuple[Sequence[str], FloatArray]]) -> None:
        self._banks = dict(banks)
        names = [name for own, _ in banks.values() for name in own]
        self._all = names, np.concatenate([rows for _, rows in banks.values()])  # for a text that is no name

    def name(self, parts: Sequence[Part]) -> tuple[NamedPart, ...]:
        """Return the parts with their names; of those that get the same one, the first."""
        found: dict[str, NamedPart] = {}
        for part in map(self._named, parts):
            found.setdefault(part.name.lower(), part)
        return tuple(found.values())

    def told(self, named: Sequence[NamedPart], question: str) -> str:
        """Return the user's turn with the parts, by modality, before its question."""
        groups: dict[Modality, list[NamedPart]] = {}
        for part in sorted(named, key=lambda part: part.part.modality is Modality.TEXT):
            groups.setdefault(part.part.modality, []).append(part)
        clauses = [_clause(modality, own) for modality, own in groups.items()]
        everything = _joined([part.phrase for part in named], " and ")
        told = f"This is {everything}. {_sentence(_joined(clauses, ', and '))}"
        return CONTEXT.format(told=told, question=question.strip() or NO_QUESTION)

    def _named(self, part: Part) -> NamedPart:
        names, rows = self._banks.get(part.modality, self._all)
        order = np.argsort(rows @ -part.vector)[:NUM_CANDIDATES]
        candidates = [part.name, *(names[i] for i in order)] if part.name else [names[i] for i in order]
        is_unsure = part.confidence is not None and part.confidence < HEDGE_BELOW
        others = (name for name in candidates[1:] if name.lower() != candidates[0].lower())
        return NamedPart(part, candidates[0], next(others, None) if is_unsure else None)


def _clause(modality: Modality, named: Sequence[NamedPart]) -> str:
    """Say what the media of one modality are: `the pictures show a cat and a cup`; scenes in their order."""
    num_media = len({part.part.medium for part in named})
    phrases = [part.phrase for part in named]
    listed = f"first {', then '.join(phrases)}" if num_media < len(phrases) else _joined(phrases, " and ")
    return CLAUSES[modality][num_media > 1].format(listed)


def _joined(phrases: Sequence[str], last: str) -> str:
    *most, end = phrases
    return f"{', '.join(most)}{last}{end}" if most else end


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
