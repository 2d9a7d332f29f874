"""The conversations that teach `mini` to talk about a condition: questions in many words, answers in a few styles.

A conversation is a list of (role, text); the loss covers every assistant turn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Conversation = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Thing:
    """What one condition shows: its nearest name, the runner-up, and whether the answer should hedge."""

    name: str
    kind: str
    groups: tuple[str, ...]
    other: str = ""
    other_groups: tuple[str, ...] = ()
    unsure: bool = False


WHAT = (
    "What is this?", "What is this?", "What is this?", "What is this?", "What is in this picture?", "What's this?",
    "What do you see?", "What is shown here?", "What is in the photo?", "What can you see in this image?",
    "Identify this.", "Identify the object in the image.", "What am I looking at?", "Can you tell me what this is?",
    "Tell me what is in the picture.", "What does the image show?", "What does this picture show?",
    "Name the main object in the photo.", "What object is this?", "What is the main subject of this photo?",
    "what is this", "whats in this picture?", "Do you know what this is?", "Please tell me what this photo shows.",
    "What is this a picture of?", "Look at the image. What is it?", "What kind of thing is this?", "What is that?",
    "Which object do you recognise?", "Can you identify this?", "I took this photo. What is it?", "Guess what this is.",
)  # fmt: skip
DESCRIBE = (
    "Describe the picture in one sentence.", "Describe this image.", "Describe what you see.", "Describe the photo.",
    "Please describe the image briefly.", "Give a short description of the picture.", "What is happening here?",
    "Summarize the image in one sentence.", "Explain what the image shows.", "Describe this photo for a blind person.",
)  # fmt: skip
CAPTION = (
    "Write a short caption.", "Write a caption for this image.", "Caption this.", "Give this photo a title.",
    "Write a one-line caption for the photo.", "Provide a caption for this picture.", "Suggest a caption.",
    "Write alt text for this image.",
)  # fmt: skip
ONE_WORD = (
    "What is this? Answer with the name only.", "In one word, what is this?", "Name it, nothing else.",
    "Answer with just the name of the object.", "What is this? Reply with one or two words.", "Label this image.",
)  # fmt: skip
OF_KIND = (
    "What {kind} is this?", "Which {kind} is this?", "What {kind} is in the photo?", "What kind of {kind} is this?",
    "What type of {kind} is shown?", "Which {kind} do you see?", "Name the {kind} in the picture.",
)  # fmt: skip
WHICH_KIND = (
    "What kind of thing is it?", "What category does it belong to?", "What sort of thing is this?",
    "What type of object is it?",
)  # fmt: skip
IS_GROUP = (
    "Is this {a}?", "Is it {a}?", "Is there {a} in the picture?", "Does the photo show {a}?",
    "Is the thing in the image {a}?", "Would you call this {a}?",
)  # fmt: skip
UNSEEN = (
    "What colour is it?", "What color is it?", "How many are there?", "How big is it?", "What is in the background?",
    "Where was this photo taken?", "Who made this?", "How old is it?", "What does the text say?",
)  # fmt: skip
CERTAIN = ("Are you sure?", "How sure are you?", "Are you certain?", "Is that right?")
NO_ONE_SAYS = frozenset({"object", "device", "structure", "instrument", "machine", "landscape", "fabric", "person"})


def article(name: str) -> str:
    """Return the name with a or an; plurals and proper names keep it bare where English does."""
    if name.endswith("s") and not name.endswith(("ss", "us", "is", "as", "os")):
        return f"some {name}" if " of " not in name else f"a {name}"
    return (
        f"{'an' if name[0].lower() in 'aeiou' and not name.lower().startswith(('uni', 'eu', 'one-')) else 'a'} {name}"
    )


def _kind_clause(thing: Thing) -> str:
    known = thing.kind not in NO_ONE_SAYS and thing.kind.split()[-1].lower() not in thing.name.lower()
    if not known:
        return ""
    return f", {article(thing.kind)}" if thing.kind.startswith("piece") else f", a kind of {thing.kind}"


def _hedge(thing: Thing) -> str:
    return f"{article(thing.name)} or {article(thing.other)}"


def say_what(thing: Thing) -> str:
    if thing.unsure:
        return f"It may be {_hedge(thing)}."
    verb = "These are" if article(thing.name).startswith("some ") else "This is"
    return f"{verb} {article(thing.name)}{_kind_clause(thing)}."


def say_description(thing: Thing) -> str:
    if thing.unsure:
        return f"The picture may show {_hedge(thing)}."
    return f"The picture shows {article(thing.name)}{_kind_clause(thing)}."


def say_caption(thing: Thing) -> str:
    return f"Perhaps {_hedge(thing)}." if thing.unsure else f"A photo of {article(thing.name)}."


def say_name(thing: Thing) -> str:
    if thing.unsure:
        return f"{thing.name[0].upper()}{thing.name[1:]} or {thing.other}."
    return f"{thing.name[0].upper()}{thing.name[1:]}."


class Interviewer:
    """Draw conversations about things; `groups` and `names` supply what to ask and what to deny."""

    def __init__(self, groups: Sequence[str], names: Sequence[str], rng: random.Random) -> None:
        self._groups = tuple(groups)
        self._names = tuple(names)
        self._rng = rng
        self._first: tuple[tuple[float, Callable[[Thing], Conversation]], ...] = (
            (0.52, lambda thing: self._ask(WHAT, say_what, thing)),
            (0.10, lambda thing: self._ask(DESCRIBE, say_description, thing)),
            (0.08, lambda thing: self._ask(CAPTION, say_caption, thing)),
            (0.06, lambda thing: self._ask(ONE_WORD, say_name, thing)),
            (0.08, self._of_kind),
            (0.10, self._group),
            (0.05, self._named),
            (0.01, self._unseen),
        )

    def naming(self, thing: Thing) -> Conversation:
        """Return one question for the name, in one of many wordings."""
        return self._ask(WHAT, say_what, thing)

    def conversation(self, thing: Thing) -> Conversation:
        """Return one conversation about `thing`, in one turn or two."""
        weights = [weight for weight, _ in self._first]
        turn = self._rng.choices([draw for _, draw in self._first], weights)[0](thing)
        if self._rng.random() < 0.12:
            follow_up = self._rng.choice(
                (self._group, self._named, self._which_kind, self._certain, self._unseen, self._what)
            )
            turn = turn + follow_up(thing)
        if self._rng.random() < 0.05:
            turn = [("system", "You are a helpful assistant."), *turn]
        return turn

    def _ask(self, questions: Sequence[str], answer: Callable[[Thing], str], thing: Thing) -> Conversation:
        return [("user", self._rng.choice(questions)), ("assistant", answer(thing))]

    def _what(self, thing: Thing) -> Conversation:
        return self._ask(("So what is it?", "What is it called?", "And what is this?"), say_what, thing)

    def _of_kind(self, thing: Thing) -> Conversation:
        options = [group for group in thing.groups if group != "food"]
        options += [thing.kind] if thing.kind not in NO_ONE_SAYS else []
        if not options or self._rng.random() < 0.12:
            asked = self._rng.choice([group for group in self._groups if group not in thing.groups])
            answer = say_what(thing) if thing.unsure else f"I see no {asked}: this is {article(thing.name)}."
            return [("user", self._rng.choice(OF_KIND).format(kind=asked)), ("assistant", answer)]
        question = self._rng.choice(OF_KIND).format(kind=self._rng.choice(options))
        return [("user", question), ("assistant", say_what(thing))]

    def _group(self, thing: Thing) -> Conversation:
        asked = (
            self._rng.choice(thing.groups)
            if thing.groups and self._rng.random() < 0.5
            else self._rng.choice(self._groups)
        )
        yes = asked in thing.groups
        doubtful = thing.unsure and (asked in thing.other_groups) != yes
        question = self._rng.choice(IS_GROUP).format(a=article(asked) if asked != "food" else "food")
        short = self._rng.random() < 0.5
        if short:
            question += self._rng.choice((" Answer yes or no.", " Yes or no?", " Answer with yes or no only."))
        word = "Yes" if yes else "No"
        full = f"I am not sure: it may be {_hedge(thing)}." if doubtful else f"{word}, {self._it_is(thing)}."
        return [("user", question), ("assistant", f"{word}." if short else full)]

    def _named(self, thing: Thing) -> Conversation:
        yes = self._rng.random() < 0.5
        asked = thing.name if yes else self._rng.choice(self._names)
        word = "Yes" if asked in (thing.name, thing.other) else "No"
        question = self._rng.choice(IS_GROUP).format(a=article(asked))
        return [("user", question), ("assistant", f"{word}, {self._it_is(thing)}.")]

    def _it_is(self, thing: Thing) -> str:
        return f"it may be {_hedge(thing)}" if thing.unsure else f"it is {article(thing.name)}"

    def _which_kind(self, thing: Thing) -> Conversation:
        kind = thing.kind if thing.kind != "person" else "human being"
        answer = f"It is {article(kind)}." if not thing.unsure else say_what(thing)
        return [("user", self._rng.choice(WHICH_KIND)), ("assistant", answer)]

    def _certain(self, thing: Thing) -> Conversation:
        answer = f"No, it may be {_hedge(thing)}." if thing.unsure else f"Yes, it looks like {article(thing.name)}."
        return [("user", self._rng.choice(CERTAIN)), ("assistant", answer)]

    def _unseen(self, thing: Thing) -> Conversation:
        answer = f"I cannot tell; I only see that {self._it_is(thing)}."
        return [("user", self._rng.choice(UNSEEN)), ("assistant", answer)]
