"""Learn the condition of replies to a prompt that tells a colour or a setting: `attributes_told.safetensors` of `mini`.

    python -m training.recipes.mini_attributes_told --out runs/attributes_told [--steps 80] [--minutes M] [--seed S]

Begins with the condition that repeats the parts of a blend. It says most such sentences too, but not that a colour
cannot be told ("The sky is blue.") nor a no against the question's own colour. Sentences are put together from names
and colours by the rules that answer (`models.mini.attribute_words`); it learns to say what it is told. Needs no data.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from models.mini.articles import article
from models.mini.assets import TOLD_WEIGHTS
from models.mini.attribute_questions import COLOURS, INDOORS, OUTDOORS, attribute_question
from models.mini.attribute_words import Attributes, answer, told
from training.recipes.mini_adapter import all_names
from training.recipes.mini_pictures import Name
from training.recipes.mini_told import arguments_of, learn
from training.recipes.mini_told_talks import Talk
from training.recipes.mini_wordings import BEFORE_YES_OR_NO, WHAT, YES_OR_NO

RATE = 0.015
EARLIER_SHARE, NAMED_SHARE, OTHER_SHARE, UNSHOWN_SHARE = 0.25, 0.6, 0.15, 0.12
COLOUR_OF_IT = (
    "What colour is this?", "what colour is it", "What's its colour?", "Colour?", "And what colour?", "What color?",
    "Which color does it have?", "Tell me its colour.", "Can you tell me what colour it is?", "Name the colour.",
    "What colour is the thing?", "What color is the object?", "What is its color?", "So what colour is it?",
)  # fmt: skip
COLOUR_OF = (
    "What color is the {n}?", "What's the colour of the {n}?", "Which colour is the {n}?", "And the colour of the {n}?",
    "Tell me the color of this {n}.", "What color does the {n} have?", "In what colour is the {n}?",
    "Can you tell me what colour the {n} is?", "What is the color of this {n}?", "what color is the {n}",
)  # fmt: skip
IS_IT = ("Is it {c}?", "Is this {c}?", "is it {c}", "Is it really {c}?", "Is it {c} or not?", "Is this {c} in colour?")
IS_THE = ("Is the {n} {c}?", "Is this {n} {c}?", "is the {n} {c}", "Is the {n} mostly {c}?", "So is the {n} {c}?")
IS_A = ("Is this a {c} {n}?", "Is it a {c} {n}?")
EITHER = ("Is it {c} or {d}?", "Is the {n} {c} or {d}?", "Is this {c} or {d}?")
PALETTE = (
    "What colors do you see?", "Which colours are there?", "What are the main colours in the picture?",
    "What colour is the picture?", "What colours are in the photo?",
)  # fmt: skip
SETTING = (
    "Indoors or outdoors?", "Was this taken indoors or outdoors?", "Is it inside or outside?",
    "Was the photo taken outside or inside?", "Is the picture indoors or outdoors?", "Outdoors or indoors?",
)  # fmt: skip
IS_SETTING = (
    "Is it {s}?", "Was this {s}?", "Was the picture taken {s}?", "Is this picture {s}?", "Was it taken {s}?",
)  # fmt: skip
PLACE = (
    "Where is this?", "Where was the picture taken?", "What is the setting?", "What kind of place is this?",
    "Where was it taken?", "Where was this photo taken?", "What place is this?",
)  # fmt: skip
PLACES = (
    "at the sea", "at a lake", "at a cliff", "in a valley", "in the mountains", "in a library", "in a restaurant",
    "in a shop", "in a cinema", "in a church", "in a greenhouse", "on a street", "in a garden", "in a forest",
)  # fmt: skip


class AttributeTeller:
    """Draw talks about one thing and its colour or setting; `names` are what it may be."""

    def __init__(self, names: Sequence[Name], rng: random.Random) -> None:
        self._names, self._rng = names, rng

    def talk(self) -> Talk:
        """Return a talk whose last turn tells the answer."""
        shown, other = (name.text for name in self._rng.sample(self._names, 2))
        attributes = self._attributes(shown)
        question = self._question(attributes, shown, other)
        asked = attribute_question(question)
        if asked is None:
            return self.talk()
        is_shown = asked.thing != other and self._rng.random() > UNSHOWN_SHARE / 3
        sentence = answer(attributes, asked, is_shown=is_shown)
        before = []
        if self._rng.random() < EARLIER_SHARE:
            before = [("user", self._rng.choice(WHAT)), ("assistant", f"This is {article(shown)}.")]
        return Talk([*before, ("user", told(sentence, question))], sentence)

    def _attributes(self, name: str) -> Attributes:
        rng = self._rng
        number = rng.choices((0, 1, 2, 3), (0.15, 0.62, 0.17, 0.06))[0]
        colours = tuple(rng.sample(COLOURS, max(2, number)))
        unclear = rng.random() < 0.3
        shares = [0.9 / max(1, number) if colour in colours[:number] else 0.0 for colour in COLOURS]
        for colour in colours[:2] if unclear or not number else ():
            shares[COLOURS.index(colour)] = 0.45
        return Attributes(
            name=name if rng.random() < NAMED_SHARE else "",
            colours=colours[:number],
            shares=tuple(shares),
            palette=tuple(rng.sample(COLOURS, rng.choice((1, 2, 3)))),
            background=tuple(rng.sample(COLOURS, 1)),
            has_colours=rng.random() > 0.1,
            setting=rng.choices((INDOORS, OUTDOORS, ""), (0.35, 0.35, 0.3))[0],
            place=rng.choice(PLACES) if rng.random() < 0.4 else "",
        )

    def _question(self, attributes: Attributes, shown: str, other: str) -> str:
        rng = self._rng
        noun = other if rng.random() < UNSHOWN_SHARE else shown
        asked = rng.choice(attributes.colours or COLOURS) if rng.random() < 0.5 else rng.choice(COLOURS)
        filled = {"n": noun, "c": asked, "d": rng.choice([colour for colour in COLOURS if colour != asked])}
        kinds: tuple[tuple[float, Sequence[str]], ...] = (
            (0.16, COLOUR_OF_IT),
            (0.22, COLOUR_OF),
            (0.24, (*IS_IT, *IS_THE, *IS_THE, *IS_A)),
            (0.03, EITHER),
            (0.04, PALETTE),
            (0.10, SETTING),
            (0.10, IS_SETTING),
            (0.09, PLACE),
            (0.02, ("What colour is the background?",)),
        )
        (wordings,) = rng.choices([own for _, own in kinds], [share for share, _ in kinds])
        text = rng.choice(wordings).format(**filled, s=rng.choice((INDOORS, OUTDOORS)))
        if text.startswith(("Is ", "Was ")) and rng.random() < 0.15:
            before = rng.random() < 0.3
            text = f"{rng.choice(BEFORE_YES_OR_NO)}{text}" if before else f"{text}{rng.choice(YES_OR_NO)}"
        return text


def main(argv: Sequence[str] | None = None) -> None:
    imagenet, nouns, others = all_names()
    names = [*imagenet, *others["everyday"], *imagenet, *nouns]
    arguments = arguments_of(__doc__, argv)
    weights = arguments.out / "attributes_told.safetensors"
    learn(lambda rng: AttributeTeller(names, rng), arguments, weights, init=TOLD_WEIGHTS, rate=RATE)


if __name__ == "__main__":
    main()
