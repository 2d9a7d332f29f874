"""Kinds of things: which names belong to one, and questions that ask for no other ("Which animals are there?").

What looks like several names of one kind is called by the kind: people say cat where a classifier says Egyptian cat.

The table is put together from WordNet and everyday speech (`training.recipes.mini_kinds`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from core.errors import CheckpointError
from core.naming import singular_forms
from models.mini.articles import article

MAX_CHARS = 300  # a longer text tells more than it asks
OTHER_WORDS = {  # what people call a kind -> its name in the table
    "people": "person", "persons": "person", "humans": "person", "creature": "animal", "beast": "animal",
    "clothes": "piece of clothing", "clothing": "piece of clothing", "garment": "piece of clothing",
    "furniture": "piece of furniture", "instrument": "musical instrument", "plane": "aircraft", "pets": "pet",
    "shoes": "shoe", "automobile": "car", "foods": "food", "fruits": "fruit", "drinks": "drink",
}  # fmt: skip
PLURALS = {"person": "people", "fish": "fish", "aircraft": "aircraft", "sheep": "sheep", "watercraft": "watercraft",
           "wolf": "wolves", "knife": "knives"}  # fmt: skip
SURE_FROM = 0.75  # of its kind's probability; below, a name says more than is seen
VAGUE = frozenset(
    ("object", "device", "machine", "structure", "container", "instrument", "landscape", "mammal", "animal",
     "musical instrument", "piece of clothing", "animal sound", "sea animal")
)  # fmt: skip
REALMS = ("animal", "person", "vehicle", "building", "musical instrument")
"""What a picture of one of these does not show by the way: a thing of another realm may stand behind what is named."""
COARSE = frozenset(
    (*REALMS, *VAGUE, "pet", "wild animal", "means of transport", "motor vehicle", "human being", "vehicle", "food")
)
"""Kinds whose things are told apart at a glance; of other kinds, a jaguar may be taken for a leopard."""
Relation = Literal["same", "rival", "other", "unclear"]
MASSES = frozenset({"food", "fruit", "furniture", "clothing", "footwear", "music"})
_SEEN = (
    r"(?:(?:are|is|were|was)\s+(?:there|it|this|that|these|those|here|shown|visible|depicted|in|on)\b.*|"
    r"(?:(?:do|can|could|did)\s+you\s+(?:see|hear|spot|find|notice|recogni[sz]e|identify)|appears?|"
    r"(?:do|does)\s+(?:the|these|this|they|it)\b.*\b(?:show|have|contain|depict)|"
    r"(?:lives?|stands?|sits?|hides?)\s+(?:here|there|in|on))\b.*)"
)
_QUESTIONS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:and\s+)?(?:which|what)\s+(?:(?:other|kinds?\s+of|sorts?\s+of|types?\s+of)\s+)?(?P<kind>[a-z]+(?:\s[a-z]+){{0,2}}?)\s+{_SEEN}",
        r"(?:name|list|tell\s+me|mention|enumerate|show\s+me)\s+(?:me\s+)?(?:all\s+)?(?:of\s+)?(?:only\s+|just\s+)?(?:the|any|all)\s+"
        r"(?P<kind>[a-z]+(?:\s[a-z]+){0,2}?)(?:\s+(?:that|which|you|in|on|there|here|shown|only)\b.*)?",
    )
)
_POLITE = re.compile(
    r"^(?:(?:please|so|and|ok|okay|hey|hi|hello|well|now|(?:can|could|would) you (?:please )?(?:tell me )?)\b[ ,]*)+"
)


class Kinds:
    """What names belong to: `of` maps a name in lower case to its kinds."""

    def __init__(self, of: Mapping[str, Sequence[str]]) -> None:
        self._of = {name: tuple(kinds) for name, kinds in of.items()}
        self._known = frozenset(kind for kinds in self._of.values() for kind in kinds)
        self._realms: dict[str, set[str]] = {}  # of kinds that are no names: those of all their things
        for kinds in self._of.values():
            for kind in kinds:
                self._realms[kind] = self._realms.get(kind, set(kinds)) & set(kinds)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._of

    def of(self, name: str) -> tuple[str, ...]:
        """Return the kinds of a name, the closest first, none for one that the table does not place."""
        return self._of.get(name.lower(), ())

    def is_a(self, name: str, kind: str) -> bool:
        """Say whether a name is a kind's own or that of something of this kind."""
        return name.lower() == kind or kind in self.of(name)

    def everyday(self, name: str, chances: Mapping[str, float]) -> str:
        """Return what people call a thing: its name, or its kind where names of that kind are nearly as likely.

        `chances` are the probabilities of names in lower case.
        """
        head = name.split()[-1].lower()
        nouns = [head] if set(self.of(head)) & set(self.of(name)) else []
        nouns += [kind for kind in self.of(name)[:1] if kind not in VAGUE]
        for noun in nouns:
            total = sum(p for other, p in chances.items() if other.split()[-1] == noun or self.is_a(other, noun))
            if chances[name.lower()] < SURE_FROM * total:
                return noun
        return name

    def relation(self, asked: str, shown: str) -> Relation:
        """Say how what is asked about and what is shown go together.

        `same`: what is shown is of the kind asked about. `rival`: another thing of the same realm, a cat and no dog.
        `other`: a thing of a realm, which would be seen, or of the kind shown. `unclear`: anything else, what the table
        does not place, and things of one close kind, which look alike. `shown` is empty where that has no name.
        """
        asked = self._name(asked)
        if asked and self.is_a(shown, asked):
            return "same"
        if shown and self.is_a(asked, shown.lower()):
            return "other"
        if set(self.of(asked)) & set(self.of(shown)) - COARSE:
            return "unclear"
        realm = next((realm for realm in REALMS if self.is_a(asked, realm) or realm in self._realms.get(asked, ())), "")
        return "unclear" if not realm else "rival" if self.is_a(shown, realm) else "other"

    def asked_for(self, question: str) -> str:
        """Return the kind that a question asks to name the things of, or nothing for any other question."""
        if len(question) > MAX_CHARS:
            return ""
        for sentence in reversed(re.findall(r"[^.?!\n]+", question.lower())):
            words = _POLITE.sub("", " ".join(sentence.split())).strip(" ,-")
            for pattern in _QUESTIONS:
                if (found := pattern.fullmatch(words)) and (kind := self._kind(found["kind"])):
                    return kind
        return ""

    def _kind(self, words: str) -> str:
        """Return the kind that words in the singular or plural name."""
        return next((kind for kind in _singulars(words) if kind in self._known), "")

    def _name(self, words: str) -> str:
        """Return the name or kind that words in the singular or plural mean."""
        return next((name for name in _singulars(words) if name in self._known or name in self._of), "")


def _singulars(words: str) -> list[str]:
    *most, last = re.sub(r"^pieces\b", "piece", words.lower()).split() or [""]
    forms = [" ".join((*most, form)) for form in sorted(singular_forms(last), key=len)]
    return [OTHER_WORDS.get(form, form) for form in (words.lower(), *forms)]


def load_kinds(path: Path) -> Kinds:
    """Return the table. Raises `CheckpointError` naming the file when it is missing or damaged."""
    try:
        return Kinds(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error}; restore it from the repository") from error


def plural(kind: str) -> str:
    """Return the plural of a kind; of a mass, the same word."""
    if kind in MASSES:
        return kind
    if kind.startswith("piece of "):
        return f"pieces{kind.removeprefix('piece')}"
    last = kind.split()[-1]
    if last in PLURALS:
        return kind.removesuffix(last) + PLURALS[last]
    if last.endswith(("s", "x", "ch", "sh")):
        return f"{kind}es"
    return f"{kind[:-1]}ies" if last.endswith("y") and last[-2] not in "aeiou" else f"{kind}s"


def kind_sentence(kind: str, names: Sequence[str], phrase: str, everything: str) -> str:
    """Return the sentence that names what is of a kind: `phrase` lists its `names`, `everything` all there is."""
    if not names:
        return f"There is no {kind}; this is {everything}."
    if all(name.lower() == kind for name in names):
        return f"There is {article(kind)}."
    if len(names) == 1:
        return f"The {kind} is {phrase}."
    return f"The {plural(kind)} {'is' if kind in MASSES else 'are'} {phrase}."


def missing_sentence(kind: str, shown: str) -> str:
    """Return the sentence that says that one thing is shown, and nothing of the kind that is asked for."""
    return f"I see no {kind}; it is {article(shown)}."
