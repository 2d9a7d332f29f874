"""What yes-or-no questions ask for, and of which things it is true: the labels that `mini_verdicts` learns from."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from models.mini.articles import article
from training.recipes import mini_verdict_words as verdict_words
from training.recipes import mini_wordings as words
from training.recipes.mini_pictures import Name
from training.recipes.mini_questions import IS_OF_SENSE, Thing, overlap
from training.recipes.mini_relevance import MEDIA, media_questions

MARK = "\ua66e"  # a letter that stands before every word that is asked for
TRAITS = verdict_words.TRAITS
_SILENT = frozenset({"animal sound", "human sound", "sound of nature", "sound of water", "music"})
_KINDS_OF_GROUPS = ("animal", "vehicle", "plant", "food", "musical instrument", "piece of clothing", "building",
                    "piece of furniture", "person")  # fmt: skip


def marked(name: str) -> str:
    """Return words that are asked for, each with the mark."""
    return re.sub(r"(?<![\w'’-])(?=\w)", MARK, name)


def _with_article(name: str) -> str:
    spoken = article(name)
    return spoken[: len(spoken) - len(name)] + marked(name)


def train_asks() -> tuple[str, ...]:
    """Return the wordings that a name or kind is put into for training; those held out are not among them."""
    own = {form for table in IS_OF_SENSE.values() for form in table} | set(verdict_words.ASKS)
    return tuple(sorted(own - set(verdict_words.HELD_OUT_ASKS)))


_WHOLE = train_asks()


def draw_form(rng: random.Random) -> str:
    """Return a wording for a name or a kind, as likely put together as taken whole."""
    while rng.random() < 0.5:
        frame = rng.choice(verdict_words.FRAMES)
        text = "".join(rng.choice(slot) for slot in frame).replace("{m}", rng.choice(MEDIA))
        if text not in verdict_words.HELD_OUT_ASKS:
            return text
    return rng.choice(_WHOLE)


def question_for(form: str, asked: str, rng: random.Random) -> str:
    """Return a marked question about a name or kind, at times with something before or after it."""
    return around(form.format(a=_with_article(asked), n=marked(asked)), rng)


def around(text: str, rng: random.Random) -> str:
    """Put something that people say before or after a question, or leave it."""
    before = rng.choice(verdict_words.BEFORE) if rng.random() < 0.15 else ""
    return before + text + (rng.choice(verdict_words.AFTER) if rng.random() < 0.45 else "")


def verdict_questions(names: Sequence[str], rng: random.Random, count: int) -> list[str]:
    """Return marked questions that want a yes or a no, each form about as often."""
    kinds = [*kind_words(), *5 * _KINDS_OF_GROUPS]
    traits = [re.sub(r"{([^}]+)}", lambda held: marked(held[1]), form) for *_, table in TRAITS for form in table]
    found = []
    for _ in range(count):
        if rng.random() < 0.15:
            found.append(around(rng.choice(traits), rng))
        else:
            found.append(question_for(draw_form(rng), rng.choice(kinds if rng.random() < 0.3 else names), rng))
    return found


def other_questions(names: Sequence[Name], plain: Sequence[str], rng: random.Random, count: int) -> list[str]:
    """Return texts beside a medium that want no yes and no no, or one that nobody can judge."""
    asking = re.compile("|".join(_pattern(form) for form in _WHOLE), re.IGNORECASE)
    traits = {re.sub(r"[{}]", "", form) for *_, table in TRAITS for form in table} | {form for form, _ in words.TRAITS}
    about = [q for q in media_questions(names, rng, 2 * count) if not asking.match(q) and q not in traits]
    fixed = [*words.UNSEEN, *words.UNHEARD, *words.CERTAIN, *words.AGAIN, *words.WHAT, *words.WHICH_KIND, *words.USE]
    texts, kinds = [name.text for name in names], kind_words()
    found = []
    for _ in range(count):
        style = rng.random()
        one, two = (rng.choice(kinds if rng.random() < 0.3 else texts) for _ in range(2))
        j, k = rng.sample(verdict_words.ATTRIBUTES, 2)
        if style < 0.15:
            form = draw_form(rng).replace("{a}", "{a} or {b}").replace("{n}", "{a} or {n}")
            found.append(form.format(a=article(one), b=article(two), n=two))
        elif style < 0.4:
            found.append(rng.choice(verdict_words.OTHER_ASKS).format(n=one, a=article(one), b=article(two)))
        elif style < 0.6:
            found.append(rng.choice(verdict_words.ATTRIBUTE_ASKS).format(n=one, j=j, k=k))
        else:
            found.append(rng.choice(rng.choice((about, about, fixed, plain))))
        if rng.random() < 0.2:
            found[-1] = rng.choice(verdict_words.BEFORE) + found[-1]
        if rng.random() < 0.1:
            found[-1] += rng.choice(verdict_words.AFTER)
    return found


def _pattern(form: str) -> str:
    return re.escape(form).replace(r"\{a\}", r"[\w' -]+").replace(r"\{n\}", r"[\w' -]+")


def kind_words() -> list[str]:
    """Return every kind and group that questions ask for."""
    kinds = {kind for kind, also in verdict_words.ALSO.items() for kind in (kind, *also)} | set(_KINDS_OF_GROUPS)
    return sorted(kinds | {kind for row in verdict_words.UNCLEAR for part in row for kind in part} - _SILENT)


def trait_words() -> dict[str, int]:
    """Return what the traits' questions ask for, each with its row in `TRAITS`."""
    return {" ".join(re.findall(r"{([^}]+)}", form)): row for row, (*_, table) in enumerate(TRAITS) for form in table}


def true_kinds(things: Iterable[Name | Thing]) -> set[str]:
    """Return the kinds and groups that hold of one of the things."""
    own = {kind for thing in things for kind in (thing.kind, *thing.groups)}
    return own | {also for kind in own for also in verdict_words.ALSO.get(kind, ())}


def is_unclear(asked: str, true: set[str]) -> bool:
    """Say whether people would differ on a kind that does not hold of a thing with these kinds."""
    if true <= verdict_words.VAGUE and asked not in _KINDS_OF_GROUPS:
        return True
    if asked in ("animal", "fish", "sea animal") and true & verdict_words.MEATLESS:
        return False
    rows = verdict_words.UNCLEAR
    return any((asked in some and others & true) or (asked in others and some & true) for some, others in rows)


class Asker:
    """Draw what to ask about a thing, with the right answer; half of the answers are yes."""

    def __init__(self, names: Sequence[Name], rng: random.Random) -> None:
        self._names, self._rng = tuple(names), rng
        self._kinds = kind_words()
        self._traits = list(trait_words().items())

    def ask(self, thing: Thing) -> tuple[str, bool] | None:
        """Return what is asked for and whether yes is right, or None where nothing fitting was drawn."""
        style = self._rng.random()
        if style < 0.56:
            return self._name(thing)
        return self._kind(thing) if style < 0.9 else self._trait(thing)

    def wording(self, asked: str) -> str:
        """Return a question that asks for this."""
        row = dict(self._traits).get(asked)
        if row is not None:
            return (
                self._rng.choice([f for f in TRAITS[row][-1] if f"{{{asked}}}" in f]).replace("{", "").replace("}", "")
            )
        return draw_form(self._rng).format(a=article(asked), n=asked)

    def _name(self, thing: Thing) -> tuple[str, bool] | None:
        if self._rng.random() < 0.5:
            others = [*thing.synonyms[:3], *(name.text for name in thing.beside)]
            return (self._rng.choice(others) if others and self._rng.random() < 0.4 else thing.name), True
        near = [name for name in thing.near if not overlap(name, thing)] if self._rng.random() < 0.4 else []
        wrong = near or [name for name in self._rng.choices(self._names, k=4) if not overlap(name, thing)]
        wrong = [name for name in wrong if name.text not in true_kinds((thing, *thing.beside))]
        return (self._rng.choice(wrong).text, False) if wrong else None

    def _kind(self, thing: Thing) -> tuple[str, bool] | None:
        true = true_kinds((thing, *thing.beside))
        if self._rng.random() < 0.5:
            said = sorted(true - _SILENT - {"object"})
            return (self._rng.choice(said), True) if said else None
        siblings = [kind for kind, also in verdict_words.ALSO.items() if true.intersection(also)]
        among = (self._kinds, _KINDS_OF_GROUPS, siblings or self._kinds)
        asked = self._rng.choice(self._rng.choice(among))
        return None if asked in true or is_unclear(asked, true) else (asked, False)

    def _trait(self, thing: Thing) -> tuple[str, bool] | None:
        asked, row = self._rng.choice(self._traits)
        groups, unclear, _ = TRAITS[row]
        true = true_kinds((thing, *thing.beside))
        if thing.beside or thing.sense == "sound" or true & set(unclear) - set(groups):
            return None
        return asked, bool(true & set(groups))
