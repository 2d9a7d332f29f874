"""The conversations that teach `mini` to talk about a condition: questions in many words, answers in a few styles.

A conversation is a list of (role, text); the loss covers every assistant turn. A thing may be seen, heard, filmed or
scanned; which of them a question supposes is in its words, since the adapter gets the same kind of vector for all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.mini.articles import article
from training.recipes import mini_wordings as words
from training.recipes.mini_pictures import Name

Conversation = list[tuple[str, str]]
Sense = Literal["picture", "sound", "video", "shape"]
IS_OF_SENSE = {
    "picture": (*words.IS_IT, *words.IS_SEEN),
    "sound": words.IS_HEARD,
    "video": words.IS_FILMED,
    "shape": words.IS_SCANNED,
}


@dataclass(frozen=True, slots=True)
class Thing:
    """What one condition holds: its nearest name, the runner-up, and whether the answer should hedge.

    `beside` are the further things of a blend, which the answer names too; `near` are names it is easily taken for.
    """

    name: str
    kind: str
    groups: tuple[str, ...]
    other: str = ""
    unsure: bool = False
    sense: Sense = "picture"
    beside: tuple[Name, ...] = ()
    near: tuple[Name, ...] = ()
    synonyms: tuple[str, ...] = ()


def _listed(thing: Thing) -> str:
    """Return the thing and what is beside it: `a beach, a dog and a car`."""
    names = [article(name) for name in (thing.name, *(name.text for name in thing.beside))]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _maybe(thing: Thing) -> str:
    """Return what a hedge says after `may be`: two candidates, or for a blend all that it may hold."""
    return _listed(thing) if thing.beside else f"{article(thing.name)} or {article(thing.other)}"


def _kind_clause(thing: Thing) -> str:
    known = thing.kind not in words.NO_ONE_SAYS and thing.kind.split()[-1].lower() not in thing.name.lower()
    if not known or thing.beside:
        return ""
    return f", {article(thing.kind)}" if thing.kind.startswith("piece") else f", a kind of {thing.kind}"


def say_what(thing: Thing) -> str:
    if thing.unsure:
        return f"It may be {_maybe(thing)}."
    verb = "These are" if article(thing.name).startswith("some ") else "This is"
    return f"{verb} {_listed(thing)}{_kind_clause(thing)}."


def say_shown(thing: Thing, medium: str) -> str:
    if thing.unsure:
        return f"The {medium} may show {_maybe(thing)}."
    return f"The {medium} shows {_listed(thing)}{_kind_clause(thing)}."


def say_description(thing: Thing, question: str) -> str:
    """Say what the picture shows, calling it what the question calls it."""
    asked = question.lower()
    return say_shown(thing, next((word for word in ("photo", "image", "scene") if word in asked), "picture"))


def say_caption(thing: Thing) -> str:
    return f"Perhaps {_maybe(thing)}." if thing.unsure else f"A photo of {_listed(thing)}."


def say_name(thing: Thing) -> str:
    joined = " and ".join((thing.name, *(name.text for name in thing.beside)))
    if thing.unsure and not thing.beside:
        joined = f"{thing.name} or {thing.other}"
    return f"{'Perhaps ' if thing.unsure and thing.beside else ''}{joined[0].upper()}{joined[1:]}."


def say_more(thing: Thing) -> str:
    """Say what is known beyond the name and its kind, a group at most, and that this is all."""
    what = say_heard(thing) if thing.sense == "sound" else say_what(thing)
    groups = [group for group in thing.groups if group not in what and group != "person"]
    if thing.unsure or thing.beside or not groups or thing.kind == "drink":
        return f"{what} I cannot tell more."
    return f"{what} It is {'food' if groups[0] == 'food' else article(groups[0])}; I cannot tell more."


def say_use(thing: Thing) -> str | None:
    """Say what people do with such things, where the groups tell."""
    use = next((words.USES[group] for group in thing.groups if group in words.USES), None)
    if use is None or thing.unsure or thing.beside or "animal" in thing.groups or thing.sense == "sound":
        return None
    verb = "drink" if thing.kind == "drink" else use
    return f"{say_what(replace(thing, kind='object')).removesuffix('.')}, which people {verb}."


def say_heard(thing: Thing) -> str:
    return f"It may be {_maybe(thing)}." if thing.unsure else f"I hear {_listed(thing)}."


def say_sound(thing: Thing) -> str:
    return f"It may be {_maybe(thing)}." if thing.unsure else f"This is the sound of {_listed(thing)}."


def say_filmed(thing: Thing) -> str:
    return say_shown(thing, "video")


class Interviewer:
    """Draw conversations about things; `groups` and `names` supply what to ask and what to deny."""

    def __init__(self, groups: Sequence[str], names: Sequence[Name], rng: random.Random) -> None:
        self._groups, self._names, self._rng = tuple(groups), tuple(names), rng
        self._answers: dict[Sense, tuple[tuple[float, Sequence[str], Callable[[Thing, str], str]], ...]] = {
            "picture": (
                (0.50, words.WHAT, lambda thing, _: say_what(thing)),
                (0.21, words.DESCRIBE, say_description),
                (0.19, words.CAPTION, lambda thing, _: say_caption(thing)),
                (0.10, words.ONE_WORD, lambda thing, _: say_name(thing)),
            ),
            "sound": (
                (0.4, words.HEAR, lambda thing, _: say_heard(thing)),
                (0.5, words.SOUND, lambda thing, _: say_sound(thing)),
                (0.1, words.WHAT, lambda thing, _: say_what(thing)),
            ),
            "video": ((1.0, words.VIDEO, lambda thing, _: say_filmed(thing)),),
            "shape": ((1.0, words.SHAPE, lambda thing, _: say_what(thing)),),
        }
        self._first: tuple[tuple[float, Callable[[Thing], Conversation]], ...] = (
            (0.60, self._named),
            (0.07, self._of_kind),
            (0.12, self._group),  # those the judge knows are taught with its verdict
            (0.12, self._is_named),
            (0.03, self._trait),
            (0.03, self._unseen),
            (0.02, self._more),
            (0.01, self._use),
        )

    def naming(self, thing: Thing) -> Conversation:
        """Return one question for the name, in one of many wordings."""
        return [("user", self._rng.choice(words.WHAT)), ("assistant", say_what(thing))]

    def conversation(self, thing: Thing) -> Conversation:
        """Return one conversation about `thing`, in one turn or two."""
        weights = [weight for weight, _ in self._first]
        turn = self._rng.choices([draw for _, draw in self._first], weights)[0](thing)
        if self._rng.random() < 0.26:
            turn = turn + self._rng.choice(
                (self._group, self._group, self._is_named, self._is_named, self._trait, self._which_kind,
                 self._certain, self._certain, self._unseen, self._again, self._again, self._more, self._more,
                 self._use)
            )(thing)  # fmt: skip
        return self.opened(turn)

    def opened(self, turn: Conversation) -> Conversation:
        """Return the conversation, sometimes behind a system turn."""
        return [("system", "You are a helpful assistant."), *turn] if self._rng.random() < 0.05 else turn

    def _named(self, thing: Thing) -> Conversation:
        """Ask what it is, in the words of the thing's sense."""
        styles = self._answers[thing.sense]
        _, questions, answer = self._rng.choices(styles, [weight for weight, _, _ in styles])[0]
        question = self._rng.choice(questions)
        return [("user", question), ("assistant", answer(thing, question))]

    def _again(self, thing: Thing) -> Conversation:
        return [("user", self._rng.choice(words.AGAIN)), ("assistant", say_what(thing))]

    def _more(self, thing: Thing) -> Conversation:
        return [("user", self._rng.choice(words.MORE)), ("assistant", say_more(thing))]

    def _use(self, thing: Thing) -> Conversation:
        """Ask what it is used for; nobody can tell where no group says it."""
        answer = say_use(thing) or (say_what(thing) if thing.unsure else self._cannot_tell(thing))
        return [("user", self._rng.choice(words.USE)), ("assistant", answer)]

    def _of_kind(self, thing: Thing) -> Conversation:
        options = [group for group in thing.groups if group not in ("food", "human sound", "music", "person")]
        options += [thing.kind] if thing.kind not in words.NO_ONE_SAYS else []
        questions = words.OF_KIND_HEARD if thing.sense == "sound" else words.OF_KIND
        if not options or self._rng.random() < 0.35:
            groups = ("animal", "vehicle", "musical instrument") if thing.sense == "sound" else self._groups
            asked = self._rng.choice([group for group in groups if group not in self._groups_of(thing)])
            verb = "hear" if thing.sense == "sound" else "see"
            answer = say_what(thing) if thing.unsure else f"I {verb} no {asked}: this is {_listed(thing)}."
            return [("user", self._rng.choice(questions).format(kind=asked)), ("assistant", answer)]
        question = self._rng.choice(questions).format(kind=self._rng.choice(options))
        return [("user", question), ("assistant", say_what(thing))]

    def _groups_of(self, thing: Thing) -> set[str]:
        return {*thing.groups, *(group for name in thing.beside for group in name.groups)}

    def _group(self, thing: Thing) -> Conversation:
        """Ask whether the thing belongs to a group; half of the answers are yes where it belongs to one."""
        own = sorted(self._groups_of(thing))
        asked = self._rng.choice(own) if own and self._rng.random() < 0.5 else self._rng.choice(self._groups)
        return self._yes_or_no("food" if asked == "food" else article(asked), asked in own, thing)

    def _is_named(self, thing: Thing) -> Conversation:
        """Ask whether the thing is what its name, its kind or a synonym says, or something else, near or far."""
        if self._rng.random() < 0.5:
            kinds = [thing.kind] if thing.kind not in words.NO_ONE_SAYS else []
            others = [*kinds, *kinds, *(name.text for name in thing.beside), *thing.synonyms[:3]]
            asked = self._rng.choice(others) if others and self._rng.random() < 0.5 else thing.name
            return self._yes_or_no(article(asked), True, thing)
        wrong = [name for name in thing.near if not overlap(name, thing)] if self._rng.random() < 0.4 else []
        while not wrong:
            wrong = [name for name in self._rng.choices(self._names, k=4) if not overlap(name, thing)]
        return self._yes_or_no(article(self._rng.choice(wrong).text), False, thing)

    def _trait(self, thing: Thing) -> Conversation:
        """Ask what it is like, which its groups tell: whatever is in none is neither alive nor eaten nor worn."""
        if thing.beside or thing.kind == "person" or thing.sense == "sound":
            return self._is_named(thing)
        question, groups = self._rng.choice(words.TRAITS)
        return self.answered(question, bool(set(groups) & set(thing.groups)), thing)

    def _yes_or_no(self, asked: str, yes: bool, thing: Thing) -> Conversation:
        question = self._rng.choice(IS_OF_SENSE[thing.sense]).format(a=asked)
        return self.answered(question, yes, thing)

    def answered(self, question: str, yes: bool, thing: Thing) -> Conversation:
        """Return a yes-or-no question with its answer, the word alone or with what the thing is."""
        word, style = "Yes" if yes else "No", self._rng.random()
        if style < 0.45:
            return [("user", question + self._rng.choice(words.YES_OR_NO)), ("assistant", f"{word}.")]
        if style < 0.5:
            asked = question[0].lower() + question[1:]
            return [("user", self._rng.choice(words.BEFORE_YES_OR_NO) + asked), ("assistant", f"{word}.")]
        return [("user", question), ("assistant", f"{word}, {self._it_is(thing)}.")]

    def _it_is(self, thing: Thing) -> str:
        if thing.unsure:
            return f"it may be {_maybe(thing)}"
        if thing.sense == "sound":
            return f"I hear {_listed(thing)}"
        several = thing.beside or _listed(thing).startswith("some ")
        return f"I see {_listed(thing)}" if several else f"it is {_listed(thing)}"

    def _which_kind(self, thing: Thing) -> Conversation:
        kind = thing.kind if thing.kind != "person" else "human being"
        answer = f"It is {article(kind)}." if not (thing.unsure or thing.beside) else say_what(thing)
        return [("user", self._rng.choice(words.WHICH_KIND)), ("assistant", answer)]

    def _certain(self, thing: Thing) -> Conversation:
        answer = f"No, it may be {_maybe(thing)}." if thing.unsure else f"Yes, it looks like {_listed(thing)}."
        if thing.sense == "sound" and not thing.unsure:
            answer = f"Yes, it sounds like {_listed(thing)}."
        return [("user", self._rng.choice(words.CERTAIN)), ("assistant", answer)]

    def _unseen(self, thing: Thing) -> Conversation:
        questions: Sequence[str] = words.UNHEARD if thing.sense == "sound" else words.UNSEEN
        if self._rng.random() < 0.4:
            questions = words.UNCOUNTED
        return [("user", self._rng.choice(questions)), ("assistant", self._cannot_tell(thing))]

    def _cannot_tell(self, thing: Thing) -> str:
        verb = "hear" if thing.sense == "sound" else "see"
        return f"I cannot tell; I only {verb} {f'what may be {_maybe(thing)}' if thing.unsure else _listed(thing)}."


def overlap(asked: Name, thing: Thing) -> bool:
    """Say whether a yes could be defended: the same words, or one is a kind of the other."""
    mine = {thing.name, thing.other if thing.unsure else "", *thing.synonyms, *(name.text for name in thing.beside)}
    kinds = {thing.kind, *thing.groups, *(name.kind for name in thing.beside)}
    spoken, text = {word.lower() for name in mine for word in name.split()}, asked.text.lower()
    if text in {kind.lower() for kind in kinds} or asked.kind.lower() in {name.lower() for name in mine}:
        return True
    own = text.split()
    return any(word in spoken for word in own) or any(
        len(word) > 3 and word in text.replace(" ", "") for word in spoken
    )
