"""What is known of a picture's colour and setting, as the sentence that answers a question about it.

The sentence is told to the decoder as the text of an expert is (LLaMA-Adapter V2, section 3.4), and what cannot be told
is said to be so: a grey-scale picture has no colours, and of a thing cut out nobody knows where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.mini.articles import article
from models.mini.attribute_questions import COLOURS, AttributeQuestion
from models.mini.part_names import CONTEXT

SURE_NO_BELOW = 0.15  # of a colour's probability; from here on a no would be too bold
BACKGROUND = frozenset({"background", "backdrop", "ground", "surroundings"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What one picture tells: `name` of what it shows, empty when unsure, and the colours it is said to have.

    `colours` are one, or two or three that stand side by side, none where it is unclear; `shares` are the probabilities
    of `COLOURS`. `palette` are the colours of the whole picture, `background` those behind the thing. Without
    `has_colours` the picture is in shades of grey. `setting` is `indoors`, `outdoors` or empty, `place` says where
    ("at a lake").
    """

    name: str = ""
    colours: tuple[str, ...] = ()
    shares: tuple[float, ...] = field(default=(0.0,) * len(COLOURS))
    palette: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    has_colours: bool = True
    setting: str = ""
    place: str = ""

    @property
    def likeliest(self) -> tuple[str, str]:
        """Return the two likeliest colours of the thing."""
        best, second = sorted(range(len(COLOURS)), key=lambda i: -self.shares[i])[:2]
        return COLOURS[best], COLOURS[second]


def facts(attributes: Attributes) -> str:
    """Return everything that is known, a sentence a line, for a prompt whose question is not known."""
    shown = AttributeQuestion(kind="colour")
    lines = [_colour_of(attributes, _subject(attributes, shown))]
    if attributes.setting:
        lines.append(_setting(attributes, AttributeQuestion(kind="place")))
    return "\n".join(lines)


def answer(
    attributes: Attributes, question: AttributeQuestion, *, is_shown: bool = True, is_rival: bool = False
) -> str:
    """Return the sentence that answers; `is_shown` False: what is asked about is not what the picture shows.

    `is_rival`: because that is another thing of the same realm, a cat and no dog.
    """
    if question.kind in ("setting", "place"):
        return _setting(attributes, question)
    if question.kind == "palette":
        return _palette(attributes, question)
    subject = _subject(attributes, question)
    if question.thing in BACKGROUND:
        said = attributes.background if attributes.has_colours else ()
        return _has(subject, said) if said else _unknown(attributes, subject)
    if not is_shown and question.names_thing:
        return f"No, it is {article(attributes.name)}." if attributes.name else f"No, I see no {question.thing}."
    if not is_shown and is_rival:
        return f"I see no {question.thing}; it is {article(attributes.name)}."
    if not is_shown:
        return _unknown(attributes, subject)
    return _verdict(attributes, question, subject) if question.is_yes_or_no else _colour_of(attributes, subject)


def told(sentence: str, question: str) -> str:
    """Return the user's turn with what is known before its question, as the parts of a blend are told."""
    return CONTEXT.format(told=sentence, question=question.strip())


def listed(words: Sequence[str]) -> str:
    """Return `red, white and blue`."""
    *most, end = words
    return f"{', '.join(most)} and {end}" if most else end


def _subject(attributes: Attributes, question: AttributeQuestion) -> str:
    """Return what a sentence is about: the thing by the asker's word, or by the picture's, or it."""
    noun = question.thing or attributes.name
    return f"the {noun}" if noun else "it"


def _has(subject: str, colours: Sequence[str]) -> str:
    if len(colours) > 2:
        return _sentence(f"{subject} {'have' if _is_plural(subject) else 'has'} several colours: {listed(colours)}")
    return _sentence(f"{subject} {'are' if _is_plural(subject) else 'is'} {listed(colours)}")


def _colour_of(attributes: Attributes, subject: str) -> str:
    if not attributes.has_colours or not attributes.colours:
        return _unknown(attributes, subject, *(attributes.likeliest if attributes.has_colours else ()))
    return _has(subject, attributes.colours)


def _verdict(attributes: Attributes, question: AttributeQuestion, subject: str) -> str:
    said = attributes.colours
    if not attributes.has_colours:
        return _unknown(attributes, subject)
    if set(question.asked) <= set(said):
        return f"Yes, {_after_comma(_has(subject, said))}"
    unclear = max(attributes.shares[COLOURS.index(colour)] for colour in question.asked) >= SURE_NO_BELOW
    if not said or unclear:
        return _unknown(attributes, subject, *attributes.likeliest)
    return f"No, {_after_comma(_has(subject, said))}"


def _unknown(attributes: Attributes, subject: str, *maybe: str) -> str:
    """Say that a colour cannot be told, and what it may be."""
    owned = "its colour" if subject == "it" else f"the colour of {subject}"
    if not attributes.has_colours:
        return f"The picture is black and white, so I cannot tell {owned}."
    guess = f"; {'they' if _is_plural(subject) else 'it'} may be {' or '.join(maybe)}" if maybe else ""
    return f"I cannot tell {owned}{guess}."


def _palette(attributes: Attributes, question: AttributeQuestion) -> str:
    if not attributes.has_colours:
        no = question.is_yes_or_no and not set(question.asked) <= {"black", "white", "grey"}
        return f"{'No, t' if no else 'Yes, t' if question.is_yes_or_no else 'T'}he picture is black and white."
    if question.is_yes_or_no and attributes.palette:
        is_grey_scale = set(question.asked) == {"black", "white"}
        yes = not is_grey_scale and set(question.asked) <= set(attributes.palette)
        return f"{'Yes' if yes else 'No'}, the picture is mostly {listed(attributes.palette)}."
    return (
        f"The picture is mostly {listed(attributes.palette)}." if attributes.palette else "I cannot tell its colours."
    )


def _setting(attributes: Attributes, question: AttributeQuestion) -> str:
    setting = attributes.setting
    if not setting:
        if question.kind == "place":
            return "I cannot tell where the picture was taken."
        return "I cannot tell whether the picture was taken indoors or outdoors."
    if question.is_yes_or_no:
        return f"{'Yes' if setting in question.asked else 'No'}, the picture was taken {setting}."
    if question.kind == "setting":
        return f"The picture was taken {setting}."
    where = attributes.place or "but I cannot tell where"
    return f"The picture was taken {setting}, {where}."


def _is_plural(subject: str) -> bool:
    noun = subject.removeprefix("the ")
    return subject != "it" and article(noun).startswith("some ")


def _after_comma(sentence: str) -> str:
    return f"{sentence[0].lower()}{sentence[1:]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
