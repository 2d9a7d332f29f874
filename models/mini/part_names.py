"""What the unlike parts of a blend are called, and the sentences that tell it to the decoder.

One constant per layer names one thing, so a blend of several is put into words before the decoder reads it, by the rule
that names everything else here: the name whose text embedding is nearest. What remains of a difference is called by the
nearest of many everyday words, as in word analogies (Mikolov et al. 2013). K names, E embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from core.types import AdapterPrompt, FloatArray, Modality
from models.mini.articles import article
from models.mini.kinds import Kinds, kind_sentence, missing_sentence
from models.mini.number_questions import number_question

HEDGE_BELOW = 0.5  # calibrated confidence, as for a single medium
NUM_CANDIDATES = 6
MAX_COUNTED_WORDS = 4  # a longer phrase is no name of things
NUM_WORDS = 100  # of which some hold a summand
SURE_BY, SURE_FROM = 0.05, 0.4  # cosines: a word for a difference is sure when this far ahead, and this near
CLAUSES = {  # one medium, several
    Modality.IMAGE: ("the picture shows {}", "the pictures show {}"),
    Modality.AUDIO: ("the sound is {}", "the sounds are {}"),
    Modality.VIDEO: ("the film shows {}", "the films show {}"),
    Modality.POINT_CLOUD: ("the shape is {}", "the shapes are {}"),
    Modality.TEXT: ("there is also {}", "there are also {}"),
}
CONTEXT = "<context>{told}</context>\n{question}\nAnswer from the context in one sentence."  # measured: RESULTS.md
NO_QUESTION = "What is this?"
OWN_ARTICLE = re.compile(r"(?:an?|the|some|my|your|his|her|its|our|their|this|that)\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the unlike things that media add up to: a medium, counted from 0 among those in scope, or a film's scene.

    `vector` is its unit row `(E,)`. `name` is what it is called where that is known; else its vector tells. What
    remains of a difference belongs to no `medium`, and is not called what `without` names.
    """

    medium: int | None
    modality: Modality
    vector: FloatArray = field(repr=False, compare=False)
    weight: float
    confidence: float | None
    name: str = ""
    without: tuple[str, ...] = ()


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
        if is_text and (self.name[0].isupper() or OWN_ARTICLE.match(self.name)):
            return self.name
        return f"maybe {article(self.name)} or {article(self.other)}" if self.other else article(self.name)


class PartNames:
    """Name parts from the `(K, E)` unit rows of names, by modality; `words` for differences.

    `told` is the condition of replies to a prompt that tells parts: learnt, and the same whatever they are. `kinds`
    tell what the names belong to.
    """

    def __init__(
        self,
        banks: Mapping[Modality, tuple[Sequence[str], FloatArray]],
        words: tuple[Sequence[str], FloatArray],
        told: AdapterPrompt | None = None,
        kinds: Kinds | None = None,
    ) -> None:
        self._banks, self._words, self.told, self.kinds = dict(banks), words, told, kinds or Kinds({})
        names = [name for own, _ in banks.values() for name in own]
        self._all = names, np.concatenate([rows for _, rows in banks.values()])  # for a text that is no name

    def name(self, parts: Sequence[Part]) -> tuple[NamedPart, ...]:
        """Return the parts with their names; of those that get the same one, the first."""
        found: dict[str, NamedPart] = {}
        for part in map(self._remaining if is_difference(parts) else self._named, parts):
            found.setdefault(part.name.lower(), part)
        return tuple(found.values())

    def of_kind(self, named: Sequence[NamedPart], question: str) -> str:
        """Return the sentence that answers a question for the things of one kind, nothing for any other question."""
        kind = self.kinds.asked_for(question)
        if not kind:
            return ""
        found = [part for part in named if self._is_a(part, kind)]
        return kind_sentence(kind, [part.name for part in found], listed(found) if found else "", listed(named))

    def honest(self, part: Part, question: str, *, concerns_media: bool) -> str:
        """Return the sentence for what one picture does not tell or does not show, nothing for any other question.

        It tells no number, and shows nothing of a realm ("Which animal is this?") when it is surely of another.
        """
        named, number = self._named(part), number_question(question)
        asked = number.thing if number else self.kinds.asked_for(question)
        if not concerns_media and not (number and number.points):
            return ""
        relation = self.kinds.relation(asked, named.name) if asked else "same" if number else "unclear"
        if asked and relation == "other" and not named.other and named.name in self.kinds:
            return missing_sentence(asked, named.name)
        if number and (relation == "same" or (number.points and len(asked.split()) < MAX_COUNTED_WORDS)):
            return f"I cannot tell how many {asked} there are.".replace("  ", " ")
        return ""

    def _is_a(self, part: NamedPart, kind: str) -> bool:
        """Say whether a part may be of a kind; words that the table does not hold count as the name that is nearest."""
        names = [name for name in (part.name, part.other) if name]
        if not any(name in self.kinds for name in names):
            known, rows = self._all
            names = [known[i] for i in np.argsort(rows @ -part.part.vector) if known[i] in self.kinds][:1]
        return any(self.kinds.is_a(name, kind) for name in names)

    def _named(self, part: Part) -> NamedPart:
        names, rows = self._banks.get(part.modality, self._all)
        order = np.argsort(rows @ -part.vector)[:NUM_CANDIDATES]
        candidates = [part.name, *(names[i] for i in order)] if part.name else [names[i] for i in order]
        is_unsure = part.confidence is not None and part.confidence < HEDGE_BELOW
        others = (name for name in candidates[1:] if name.lower() != candidates[0].lower())
        return NamedPart(part, candidates[0], next(others, None) if is_unsure else None)

    def _remaining(self, part: Part) -> NamedPart:
        """Name what remains of a difference; the part's row becomes that of the word, which is what the reply is about.

        A word that holds a summand, or that a summand holds, says nothing new.
        """
        names, rows = self._words
        if part.modality in self._banks:
            own_names, own_rows = self._banks[part.modality]
            names, rows = [*names, *own_names], np.concatenate([rows, own_rows])
        cosines = rows @ part.vector  # (K,)
        found: dict[str, int] = {}
        for i in np.argsort(-cosines)[:NUM_WORDS].tolist():
            name = names[i].lower()
            if not any(name in taken or taken in name for taken in part.without):
                found.setdefault(name, i)
        best, second = [*found.values()][:2]
        is_sure = cosines[best] >= SURE_FROM and cosines[best] - cosines[second] >= SURE_BY
        return NamedPart(replace(part, vector=rows[best]), names[best], None if is_sure else names[second])


def is_difference(parts: Sequence[Part]) -> bool:
    """Say whether the parts are what remains of a difference."""
    return bool(parts) and parts[0].medium is None


def told(named: Sequence[NamedPart], question: str) -> str:
    """Return the user's turn with the parts, together and by modality, before its question."""
    sentences = f"This is {listed(named)}."
    if len(named) > 1:
        sentences += f" {clauses(named)}."
    return CONTEXT.format(told=sentences, question=question.strip() or NO_QUESTION)


def listed(named: Sequence[NamedPart]) -> str:
    """Return all parts as one phrase: `a beach, a dog and a cup`."""
    phrases = [part.phrase for part in named]
    return _joined(phrases, ", and " if any(part.other for part in named) else " and ")


def clauses(named: Sequence[NamedPart]) -> str:
    """Return what the media of each modality are, texts last: `The picture shows a beach, and the sound is a dog`."""
    groups: dict[Modality, list[NamedPart]] = {}
    for part in sorted(named, key=lambda part: part.part.modality is Modality.TEXT):
        groups.setdefault(part.part.modality, []).append(part)
    text = _joined([_clause(modality, own) for modality, own in groups.items()], ", and ")
    return f"{text[0].upper()}{text[1:]}"


def _clause(modality: Modality, named: Sequence[NamedPart]) -> str:
    """Say what the media of one modality are: `the pictures show a cat and a cup`; scenes in their order."""
    num_media = len({part.part.medium for part in named})
    are_scenes = num_media < len(named)
    said = f"first {', then '.join(part.phrase for part in named)}" if are_scenes else listed(named)
    return CLAUSES[modality][num_media > 1].format(said)


def _joined(phrases: Sequence[str], last: str) -> str:
    *most, end = phrases
    return f"{', '.join(most)}{last}{end}" if most else end
