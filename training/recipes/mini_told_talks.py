"""The conversations that teach `mini` to repeat the parts of a blend that its prompt tells, in clean sentences.

The user's last turn is `models.mini.part_names.told`, as served; what came before is told nothing. The loss covers the
last answer alone. Most questions of `benchmarks.blends` are worded otherwise here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.types import Modality
from models.mini.part_names import NamedPart, Part, clauses, listed, told
from training.recipes import mini_wordings as words
from training.recipes.mini_pictures import Name
from training.recipes.mini_questions import Conversation

MIXES: tuple[tuple[float, tuple[Modality, ...]], ...] = (
    (0.10, (Modality.TEXT,)),  # what remains of a difference
    (0.24, (Modality.IMAGE, Modality.IMAGE)),
    (0.20, (Modality.IMAGE, Modality.AUDIO)),
    (0.08, (Modality.IMAGE, Modality.TEXT)),
    (0.07, (Modality.IMAGE, Modality.POINT_CLOUD)),
    (0.04, (Modality.AUDIO, Modality.POINT_CLOUD)),
    (0.03, (Modality.POINT_CLOUD, Modality.POINT_CLOUD)),
    (0.03, (Modality.AUDIO, Modality.AUDIO)),
    (0.04, (Modality.VIDEO, Modality.AUDIO)),
    (0.03, (Modality.TEXT, Modality.TEXT)),
    (0.06, (Modality.IMAGE, Modality.IMAGE, Modality.IMAGE)),
    (0.04, (Modality.IMAGE, Modality.IMAGE, Modality.AUDIO)),
    (0.04, (Modality.IMAGE, Modality.AUDIO, Modality.TEXT)),
)
FILM_SHARE = 0.1  # of the mixes of pictures: the scenes of one film
UNSURE_SHARE, EARLIER_SHARE, UNASKED_SHARE = 0.12, 0.2, 0.02
PLURAL = (
    "What are they?", "So what are these?", "What are these things?", "What do these show?", "Name these.",
    "Can you tell me what these are?", "What are the things here?", "Identify these.", "What have we here?",
    "Which things are these?", "What are both?", "Tell me what these are.",
)  # fmt: skip
SHOWN = (
    "What is in both pictures?", "Describe the pictures.", "Describe these images.", "What do the pictures show?",
    "What is in these photos?", "What can be seen in the images?", "Describe the files briefly.",
    "Describe everything in one sentence.", "Describe both in a sentence.", "Sum it up in one sentence.",
    "Describe the files I sent.", "Tell me about these files.", "What did I send you?", "Describe all of it.",
)  # fmt: skip
SENSED = (
    "What can you see and hear?", "Tell me what you see and hear.", "What is there?",
    "Which things do you see and hear?", "What do you perceive?", "What is to be seen and heard?",
)  # fmt: skip
TITLED = ("Write one caption for all of it.", "Give these a caption.", "Write a caption for both.", "Give it a title.")
GROUPS = {
    "animal": "animals", "vehicle": "vehicles", "musical instrument": "musical instruments", "plant": "plants",
    "food": "things to eat", "tool": "tools", "building": "buildings", "piece of furniture": "pieces of furniture",
}  # fmt: skip
OF_GROUP = (
    "What {many} are there?", "Which {many} do you see?", "Name the {many}.", "Which of these are {many}?",
    "What {many} can you find here?", "Are there any {many}, and which?", "List the {many}.",
)  # fmt: skip
COUNTED = ("How many things are there?", "How many things do you notice?", "Count the things.", "How many are there?")
ORDINALS, NUMBERS = ("first", "second", "third"), ("", "is one thing", "are two things", "are three things")
NTH = ("What is in the {nth} {medium}?", "What does the {nth} {medium} show?", "And the {nth} {medium}?")
OPEN = (
    "Tell me a short story about this.", "What do these have in common?", "Which of these is bigger?",
    "How do these belong together?", "What could I do with these?", "Write a poem about what you see.",
    "Where would I find these?", "What is the difference between them?", "Tell me more about it.",
    "Why would someone send me this?", "Explain what these are for.", "Which of these is the most expensive?",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation whose last user turn tells the parts; its answer, none where the base model gives it."""

    turns: Conversation
    answer: str | None


@dataclass(frozen=True, slots=True)
class _Blend:
    parts: tuple[NamedPart, ...]
    groups: Mapping[str, tuple[str, ...]]  # by name, runners-up too

    def in_group(self, group: str) -> list[NamedPart]:
        return [
            part for part in self.parts if any(group in self.groups.get(n or "", ()) for n in (part.name, part.other))
        ]

    def of(self, *modalities: Modality) -> list[NamedPart]:
        return [part for part in self.parts if part.part.modality in modalities]

    @property
    def says(self) -> str:
        """The clauses, or what it is where it is one thing or words alone."""
        is_shown = len(self.parts) > 1 and len(self.of(Modality.TEXT)) < len(self.parts)
        return f"{clauses(self.parts)}." if is_shown else f"This is {listed(self.parts)}."


def say_what(blend: _Blend) -> str:
    return f"This is {listed(blend.parts)}."


def say_these(blend: _Blend) -> str:
    return f"These are {listed(blend.parts)}." if len(blend.parts) > 1 else say_what(blend)


def say_clauses(blend: _Blend) -> str:
    return blend.says


def say_caption(blend: _Blend) -> str:
    return _sentence(listed(blend.parts))


def say_names(blend: _Blend) -> str:
    names = [f"{part.name} or {part.other}" if part.other else part.name for part in blend.parts]
    return _sentence(f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0])


def say_sensed(blend: _Blend) -> str:
    heard, seen = blend.of(Modality.AUDIO), blend.of(*set(Modality) - {Modality.AUDIO})
    if heard and seen:
        return f"I see {listed(seen)}, and I hear {listed(heard)}."
    return f"I hear {listed(heard)}." if heard else f"I see {listed(seen)}."


def say_heard(blend: _Blend) -> str:
    heard = blend.of(Modality.AUDIO)
    return f"I hear {listed(heard)}." if heard else f"I hear nothing; this is {listed(blend.parts)}."


def say_unknown(blend: _Blend) -> str:
    return f"I cannot tell; I only know that this is {listed(blend.parts)}."


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


class Teller:
    """Draw talks; `pools` are the names of each modality."""

    def __init__(self, pools: Mapping[Modality, Sequence[Name]], rng: random.Random) -> None:
        self._pools, self._rng = dict(pools), rng
        self._kinds: tuple[tuple[float, Callable[[_Blend], tuple[str, str | None]]], ...] = (
            (0.26, self._asking(words.WHAT, say_what)),
            (0.10, self._asking(PLURAL, say_these)),
            (0.14, self._asking((*SHOWN, *words.DESCRIBE), say_clauses)),
            (0.07, self._asking((*TITLED, *words.CAPTION), say_caption)),
            (0.04, self._asking(words.ONE_WORD, say_names)),
            (0.11, self._asking(SENSED, say_sensed)),
            (0.04, self._asking(words.HEAR, say_heard)),
            (0.08, self._of_group),
            (0.04, self._nth),
            (0.02, self._counted),
            (0.03, self._asking(words.UNSEEN, say_unknown)),
            (0.05, self._asking(words.AGAIN, say_what)),
        )

    def talk(self) -> Talk:
        """Return a talk about drawn parts."""
        blend = self._blend()
        (ask,) = self._rng.choices([ask for _, ask in self._kinds], [share for share, _ in self._kinds])
        question, answer = ask(blend)
        if self._rng.random() < UNASKED_SHARE:
            question, answer = "", say_what(blend)
        return self._told(blend, question, answer)

    def open_talk(self) -> Talk:
        """Return a talk whose answer nobody knows but the base model."""
        blend = self._blend()
        return self._told(blend, self._rng.choice(OPEN), None)

    def _told(self, blend: _Blend, question: str, answer: str | None) -> Talk:
        before: Conversation = []
        if answer is not None and self._rng.random() < EARLIER_SHARE:
            before = [("user", self._rng.choice(words.WHAT)), ("assistant", say_what(blend))]
        return Talk([*before, ("user", told(blend.parts, question))], answer)

    def _blend(self) -> _Blend:
        """Draw the modalities of the parts and a name of each; pictures are at times the scenes of a film."""
        (mix,) = self._rng.choices([mix for _, mix in MIXES], [share for share, _ in MIXES])
        is_film = len(mix) > 1 and set(mix) == {Modality.IMAGE} and self._rng.random() < FILM_SHARE / 0.3
        parts: list[NamedPart] = []
        names: list[Name] = []
        for place, modality in enumerate(mix):
            part = Part(
                medium=0 if is_film else place,
                modality=Modality.VIDEO if is_film else modality,
                vector=np.zeros(0, dtype=np.float32),
                weight=1.0,
                confidence=None,
            )
            is_unsure = modality is not Modality.TEXT and self._rng.random() < UNSURE_SHARE
            drawn = self._rng.choices(self._pools[modality], k=2 if is_unsure else 1)
            parts.append(NamedPart(part, *(name.text for name in drawn)))
            names += drawn
        groups = {name.text: name.groups for name in names}
        return _Blend(tuple(parts), groups) if len({text.lower() for text in groups}) == len(names) else self._blend()

    def _asking(
        self, questions: Sequence[str], answer: Callable[[_Blend], str]
    ) -> Callable[[_Blend], tuple[str, str | None]]:
        return lambda blend: (self._rng.choice(questions), answer(blend))

    def _of_group(self, blend: _Blend) -> tuple[str, str | None]:
        """Ask for the members of a group, in two thirds of the cases one that some part belongs to."""
        present = [group for group in GROUPS if blend.in_group(group)]
        group = self._rng.choice(present if present and self._rng.random() < 0.67 else list(GROUPS))
        question = self._rng.choice(OF_GROUP).format(many=GROUPS[group])
        if own := blend.in_group(group):
            return question, f"There is {listed(own)}."
        return question, f"There are no {GROUPS[group]}, only {listed(blend.parts)}."

    def _nth(self, blend: _Blend) -> tuple[str, str | None]:
        """Ask for one of several pictures by its number."""
        pictures = blend.of(Modality.IMAGE)
        if len(pictures) < 2:
            return self._rng.choice(SHOWN), say_clauses(blend)
        place, medium = self._rng.randrange(len(pictures)), self._rng.choice(("picture", "picture", "photo", "image"))
        question = self._rng.choice(NTH).format(nth=ORDINALS[place], medium=medium)
        return question, f"The {ORDINALS[place]} {medium} shows {pictures[place].phrase}."

    def _counted(self, blend: _Blend) -> tuple[str, str | None]:
        number = NUMBERS[len(blend.parts)]
        return self._rng.choice(COUNTED), f"There {number}: {listed(blend.parts)}."
