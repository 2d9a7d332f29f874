"""Questions about the colour and the setting of what a picture shows, told from others by their words.

Only what can be read from pixels is recognised: what colour a thing has, whether it has a certain one, which colours a
picture holds, indoors or outdoors, and where a picture was taken. Everything else is left to the rest of the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
"""The basic colour terms of English (Berlin and Kay 1969)."""
OTHER_COLOURS = {"gray": "grey", "violet": "purple", "golden": "yellow", "silver": "grey", "turquoise": "blue"}
INDOORS, OUTDOORS = "indoors", "outdoors"
KNOWN_TO_ALL = frozenset(("sky", "sun", "moon", "sea", "ocean", "grass", "snow", "stars", "rainbow", "white house"))
MAX_CHARS = 300  # a longer text tells more than it asks

Kind = Literal["colour", "palette", "setting", "place"]

_WORDS = "|".join((*COLOURS, *OTHER_COLOURS))
_SHADE = r"(?:(?:really|mostly|mainly|more|light|dark|bright|pale|deep|all|completely|entirely|either)\s+)*"
_THE = r"(?:(?:the|this|that|these|those|its|his|her|their|my|your|a|an)\s+)?"
_END = r"\s*(?:here|(?:in|on|of)\s+(?:the|this|that|my)\s+(?:picture|image|photo|photograph|pic|snapshot|drawing))?\s*"
_DEFINITE = r"\b(?:the|this|that|these|those|its|his|her|their|my|your)\s+"
_COLOUR = r"(?:colou?rs?|hue|shade)"
_MEDIUM = r"(?:picture|image|photo|photograph|pic|shot|snapshot|scene)"
_SUBJECT = rf"(?:it|this|that|(?:the|this|that|my)\s+{_MEDIUM}|they|these)"
_TAKEN = r"(?:\s+(?:taken|shot|made|photographed|captured|recorded|set|situated|located|being))?"

_COLOUR_OF = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:what|which)\s+{_COLOUR}\s+(?:is|are|was|were)\s+{_THE}(?P<thing>.*?){_END}",
        rf"(?:what|which)\s+{_COLOUR}\s+(?:does|do|did)\s+{_THE}(?P<thing>.*?)\s+have{_END}",
        rf"(?:what|which)\s+{_COLOUR}\s+(?:has|have)\s+{_THE}(?P<thing>.*?)(?:\s+got)?{_END}",
        rf"(?:what|which)\s+{_COLOUR}\s+{_THE}(?!(?:do|does|did|is|are)\b)(?P<thing>.*?)\s+(?:is|are|was|were|has|have){_END}",
        rf"(?:what\s*(?:is|are|was|were)|(?:tell|give)\s+me|name|say)\s+(?:the|its)\s+(?:main\s+)?{_COLOUR}"
        rf"(?:\s+of\s+{_THE}(?P<thing>.*?))?{_END}",
        rf"(?:and\s+)?(?:(?:what|which)\s+|(?:the|its)\s+|in\s+(?:what|which)\s+)?{_COLOUR}(?:\s+of\s+{_THE}(?P<thing>.*?))?",
        rf"how\s+is\s+{_THE}(?P<thing>.*?)\s+colou?red{_END}",
    )
)
_PALETTE = re.compile(
    rf"(?:what|which)\s+(?:main\s+|are\s+the\s+(?:main\s+)?)?{_COLOUR}\s+(?:(?:do|can)\s+you\s+see|are\s+there|are\s+"
    rf"(?:shown|used|visible)|(?:are\s+)?in\s+(?:the|this)\s+{_MEDIUM}|(?:does|has)\s+(?:the|this)\s+{_MEDIUM}(?:\s+"
    rf"have)?|(?:is|are)\s+(?:the|this)\s+{_MEDIUM}){_END}"
)
_IS_COLOUR = re.compile(
    rf"(?:is|are|was|were)\s+(?P<thing>it|this|that|they|these|those|(?:the|this|that|these|those|its|his|her|my)\s+(?!an?\b).*?)\s+"
    rf"{_SHADE}(?P<one>{_WORDS})(?:\s*(?P<join>,|or|and|and/or|or\s+rather)\s*{_SHADE}(?P<two>{_WORDS}))?"
    rf"(?:\s+in\s+colou?r|\s+one|\s+ones|\s+colou?red)?{_END}"
)
_IS_COLOURED_THING = re.compile(
    rf"(?:is|was)\s+(?:it|this|that)\s+an?\s+{_SHADE}(?P<one>{_WORDS})(?:\s+(?P<join>and)\s+(?P<two>{_WORDS}))?\s+"
    rf"(?P<thing>(?!.*\bor\b)(?!and\b)[\w' -]+?){_END}"
)
_SETTING = re.compile(
    rf"(?:(?:is|was|are|were)\s+{_SUBJECT}{_TAKEN}\s+|(?:.*?\b)?)"
    r"(?:an?\s+)?(?P<one>indoors?|outdoors?|inside|outside)(?:\s+(?:or|and)\s+(?P<two>indoors?|outdoors?|inside|outside))?"
    rf"(?:\s+(?:scene|shot|setting|{_MEDIUM}))?{_END}"
)
_IS_SETTING = re.compile(
    rf"(?:is|was|are|were)\s+{_SUBJECT}{_TAKEN}\s+(?:an?\s+)?(?:indoors?|outdoors?|inside|outside)\b.*"
)
_PLACE = re.compile(
    rf"(?:and\s+)?(?:where\s+(?:is|was|were|are)\s+{_SUBJECT}(?:\s+(?:taken|shot|made|photographed|from))?|where\s+am\s+i|"
    rf"(?:what|which)\s+(?:kind\s+of\s+)?(?:place|setting|location|surroundings?|environment)\s+(?:is|was|are|does)\s+.*|"
    rf"what(?:\s+is|\s+are)?\s+(?:the\s+)?(?:place|setting|location|surroundings?|environment)(?:\s+of\s+.*)?|"
    rf"(?:in\s+|at\s+)?(?:what|which)\s+(?:kind\s+of\s+)?(?:place|setting|location)\s+.*(?:taken|shot|made|is\s+this|was\s+this)"
    rf"(?:\s+(?:in|at))?|where\s+(?:did|do)\s+.*(?:take|shoot)\s+(?:this|the)\s*{_MEDIUM}?){_END}"
)

_OPENING = re.compile(
    r"^(?:(?:please|so|and|ok|okay|hey|hi|hello|well|now|yes or no|tell me|say|do you (?:know|think)|i wonder|then|if|"
    r"whether|(?:can|could|would) you (?:please )?(?:tell me|say))\b[ ,]*)+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeQuestion:
    """What is asked: of `thing`, empty for whatever is shown; `asked` are the colours or the setting of a yes or no.

    `is_choice`: one of `asked` is wanted rather than a yes or a no. `names_thing`: yes only if it is that thing, too.
    `points`: at something in front of the asker, who says "it" or "the car", not at the sky that everybody knows.
    """

    kind: Kind
    thing: str = ""
    asked: tuple[str, ...] = ()
    is_choice: bool = False
    names_thing: bool = False
    points: bool = False

    @property
    def is_yes_or_no(self) -> bool:
        return bool(self.asked) and not self.is_choice


def attribute_question(text: str) -> AttributeQuestion | None:
    """Return what the last sentence that asks for a colour or setting wants to know, or None where none does."""
    if len(text) > MAX_CHARS:
        return None
    for sentence in reversed(re.findall(r"[^.?!\n]+", text)):
        words = plain_words(sentence)
        if found := _read(words):
            return replace(found, thing=_as_written(found.thing, sentence), points=_points(found, words))
    return None


def _points(question: AttributeQuestion, words: str) -> bool:
    """Say whether the words themselves point; a question for a setting that does not concern the picture cannot."""
    if question.kind != "colour" or not question.thing:
        return question.kind == "colour"
    noun = re.escape(question.thing)
    return (
        question.thing not in KNOWN_TO_ALL
        and " of " not in question.thing
        and bool(re.search(rf"{_DEFINITE}{noun}", words))
    )


def _as_written(thing: str, sentence: str) -> str:
    """Return the noun with the capitals it has in the sentence."""
    place = sentence.replace("’", "'").lower().find(thing)
    return sentence[place : place + len(thing)].replace("’", "'") if place >= 0 else thing


def plain_words(sentence: str) -> str:
    """Return a sentence in lower case without what is polite or asks for brevity."""
    words = " ".join(re.sub(r"[\"“”()*:;]", " ", sentence.lower().replace("’", "'")).split())
    words = re.sub(r"\b(what|where|that|it)'s\b", r"\1 is", words)
    words = _OPENING.sub("", words)
    words = re.sub(r"[ ,]*\b(?:please|yes or no|do you think|would you say|exactly|in one word|or not)$", "", words)
    return words.strip(" ,-")


def _read(words: str) -> AttributeQuestion | None:
    return _setting(words) or _palette(words) or _colour_verdict(words) or _colour(words)


def _setting(words: str) -> AttributeQuestion | None:
    if _PLACE.fullmatch(words):
        return AttributeQuestion(kind="place")
    found = _SETTING.fullmatch(words)
    if found is None:
        return None
    one, two = _setting_of(found["one"]), _setting_of(found["two"])
    if two and one != two:
        return AttributeQuestion(kind="setting")
    return AttributeQuestion(kind="setting", asked=(one,)) if _IS_SETTING.fullmatch(words) else None


def _setting_of(word: str | None) -> str:
    return "" if not word else INDOORS if word.startswith("in") else OUTDOORS


def _palette(words: str) -> AttributeQuestion | None:
    return AttributeQuestion(kind="palette") if _PALETTE.fullmatch(words) else None


def _colour_verdict(words: str) -> AttributeQuestion | None:
    found, is_thing = _IS_COLOUR.fullmatch(words), False
    if found is None:
        found, is_thing = _IS_COLOURED_THING.fullmatch(words), True
    if found is None:
        return None
    asked = tuple(OTHER_COLOURS.get(word, word) for word in (found["one"], found["two"]) if word)
    return AttributeQuestion(
        kind="palette" if re.search(rf"\b{_MEDIUM}$", found["thing"]) else "colour",
        thing=_thing(found["thing"]),
        asked=asked,
        is_choice=not is_thing and found["join"] is not None and found["join"] != "and",
        names_thing=is_thing and bool(_thing(found["thing"])),
    )


def _colour(words: str) -> AttributeQuestion | None:
    for pattern in _COLOUR_OF:
        if found := pattern.fullmatch(words):
            return AttributeQuestion(kind="colour", thing=_thing(found["thing"] or ""))
    return None


_POINTING = re.compile(
    r"(?:it|this|that|they|these|those|them|one|thing|things|object|objects|subject|item|"
    r"main (?:thing|object|subject)|thing shown|object shown|picture|image|photo|photograph)"
)


def _thing(words: str) -> str:
    """Return the noun that is asked about, without its article; nothing for a word that only points."""
    noun = re.sub(r"^(?:the|this|that|these|those|its|his|her|their|my|your|a|an)\s+", "", words.strip())
    return "" if _POINTING.fullmatch(noun) else noun
