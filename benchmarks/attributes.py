"""Ask for the colour and the setting of pictures labelled by eye; count right, wrong and "I can't tell".

    python -m benchmarks.attributes EVERYDAY SETS --url http://127.0.0.1:8000 [--show-wrong]

EVERYDAY is what `benchmarks.everyday` wrote, SETS what `training.recipes.mini_sets` wrote; `attributes.json` says what
is true of the pictures of both. Colours: `red/orange` either is right, `black&white` two of them must be said, `+grey`
may be said too, `bw` the picture has no colours. Settings: indoors, outdoors, or none where the picture does not show
it (a thing cut out, a drawing, a product on white). For `bw` and `none` the right answer is that it cannot be told; for
a dog, a car or a man that are not shown, that or that they are not there. An
answer that says a colour or setting which is not true is wrong, whatever else it says.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mimetypes
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
from rich.progress import Progress

from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask, picture_message
from core.naming import words_of
from models.mini.assets import KINDS
from models.mini.kinds import Kinds, load_kinds

LABELS = Path(__file__).with_name("attributes.json")
COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
OTHER_WORDS = {
    **{"gray": "grey", "silver": "grey", "golden": "yellow", "gold": "yellow", "violet": "purple", "crimson": "red"},
    **{"turquoise": "blue", "teal": "blue", "tan": "beige", "cream": "beige", "beige": "beige", "maroon": "red"},
}
INDOORS = frozenset(
    {"indoors", "indoor", "inside", "room", "kitchen", "office", "studio", "house", "home", "museum",
     "restaurant", "library", "bedroom", "bathroom", "hall", "classroom", "store", "shop", "hospital", "theater",
     "theatre", "gallery", "lab", "laboratory"}
)  # fmt: skip
OUTDOORS = frozenset(
    {"outdoors", "outdoor", "outside", "park", "garden", "street", "beach", "forest", "field", "mountain",
     "mountains", "river", "lake", "sea", "ocean", "desert", "savanna", "savannah", "jungle", "woods", "wild",
     "zoo", "farm", "yard", "road", "meadow", "water", "coast", "shore", "sky", "city", "town"}
)  # fmt: skip
CANNOT_TELL = re.compile(
    r"\b(?:can(?:'|’)?t|can ?not|could(?: not|n't)|unable to|hard to|difficult to|impossible to|not possible to) "
    r"(?:tell|say|see|determine|know|identify|be told|be seen)"
    r"|\b(?:not sure|don't know|do not know|unclear|i see no)\b",
    re.IGNORECASE,
)
SEVERAL = re.compile(
    r"\b(?:several|many|different|various|multiple) colou?rs|\bmulticolou?red|\bcolou?rful", re.IGNORECASE
)
Verdict = Literal["right", "wrong", "can't tell"]
COLOUR_WORDINGS = (
    "What colour is the {n}?",
    "What color is it?",
    "What colour is this {n}?",
    "Which colour does the {n} have?",
)
SETTING_WORDINGS = ("Is this indoors or outdoors?", "Was this picture taken inside or outside?")
PLACE_WORDING = "Where was this taken?"
OTHER_THINGS = ("dog", "cat", "bird", "car", "man", "violin")
DESCRIBE = "Describe the picture in one sentence."
FIRST = "What is this?"


@dataclass(frozen=True, slots=True)
class Truth:
    """What may be said: one of `any_of` or two of `together`, and `also` besides; nothing without colours."""

    any_of: frozenset[str] = frozenset()
    together: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Truth:
        """Read `red/orange+white`, `black&white` or `bw`."""
        main, *also = text.split("+")
        if main == "bw":
            return cls()
        if "&" in main:
            return cls(together=frozenset(main.split("&")), also=frozenset(also))
        return cls(any_of=frozenset(main.split("/")), also=frozenset(also))

    @property
    def possible(self) -> frozenset[str]:
        return self.any_of | self.together | self.also


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one picture; `asked` is the colour or setting that a yes-or-no question is about."""

    kind: str
    text: str
    picture: Path
    source: str
    colours: Truth | None = None
    setting: str | None = None
    asked: str | None = None
    is_second_turn: bool = False


@dataclass(slots=True)
class Tally:
    """Verdicts by row of the report."""

    rows: dict[str, Counter[Verdict]] = field(default_factory=dict)

    def add(self, row: str, verdict: Verdict) -> None:
        self.rows.setdefault(row, Counter())[verdict] += 1

    def lines(self) -> Iterator[str]:
        yield f"{'':34s}{'asked':>6s}{'right':>8s}{'wrong':>8s}{'cannot tell':>13s}"
        for row, counts in self.rows.items():
            shares = [counts[verdict] / counts.total() for verdict in ("right", "wrong", "can't tell")]
            yield f"{row:34s}{counts.total():6d}{shares[0]:8.1%}{shares[1]:8.1%}{shares[2]:13.1%}"


def colours_in(answer: str) -> set[str]:
    """Return the basic colours, and beige, that an answer names."""
    words = (OTHER_WORDS.get(word, word) for word in words_of(answer))
    return {word for word in words if word in COLOURS or word == "beige"}


def judge_colour(truth: Truth, answer: str) -> Verdict:
    """Judge what was said of a thing's colour; of a picture without colours nothing can be told."""
    cannot = bool(CANNOT_TELL.search(answer))
    if not truth.possible:
        return "right" if cannot else "wrong"
    said = colours_in(answer) if not cannot else set()
    if cannot or (not said and not SEVERAL.search(answer)):
        return "can't tell" if cannot else "wrong"
    if said - truth.possible:
        return "wrong"
    if truth.together:
        return "right" if len(said & truth.together) >= 2 or SEVERAL.search(answer) else "wrong"
    return "right" if said & truth.any_of else "wrong"


def judge_setting(truth: str, answer: str) -> Verdict:
    """Judge what was said of where a picture was taken."""
    words = set(words_of(answer))
    cannot = bool(CANNOT_TELL.search(answer))
    said = {name for name, own in (("indoors", INDOORS), ("outdoors", OUTDOORS)) if words & own}
    if cannot and len(said) != 1:
        return "right" if truth == "none" else "can't tell"
    return "right" if said == {truth} else "wrong"


def judge_yes_or_no(is_true: bool | None, answer: str) -> Verdict:
    """Judge the first word; None: it cannot be told."""
    if CANNOT_TELL.search(answer):
        return "right" if is_true is None else "can't tell"
    return "right" if is_true is not None and words_of(answer)[:1] == ["yes" if is_true else "no"] else "wrong"


def judge(question: Question, answer: str) -> Verdict | None:
    """Judge an answer; None for a description that says nothing of colours."""
    if question.kind == "description, colours":
        if question.colours is None or not colours_in(answer):
            return None
        is_true = colours_in(answer) <= question.colours.possible and bool(question.colours.possible)
        return "right" if is_true else "wrong"
    if question.asked is not None and question.colours is not None:
        return judge_yes_or_no(question.asked in question.colours.any_of, answer)
    if question.asked is not None:
        holds = None if question.setting == "none" else question.setting == question.asked
        return judge_yes_or_no(holds, answer)
    if question.colours is not None:
        return judge_colour(question.colours, answer)
    return judge_setting(question.setting or "none", answer)


def questions(roots: Sequence[Path], seed: int) -> list[Question]:
    """Return every question; the wordings take turns, and every other yes-or-no question is to be answered with yes."""
    labels, rng, kinds = json.loads(LABELS.read_text(encoding="utf-8")), random.Random(seed), load_kinds(KINDS)
    asked: list[Question] = []
    for place, (file, label) in enumerate(sorted(labels.items())):
        tree, name, _ = file.split("/")
        picture = next((root / file for root in roots if (root / file).is_file()), None)
        if picture is None:
            raise SystemExit(f"{file} is in none of {', '.join(map(str, roots))}")
        name = name.replace("_", " ").lower().removesuffix(" side")
        if "colours" in label:
            asked += _about_colour(place, picture, tree, name, Truth.parse(label["colours"]), rng)
            other = _other_thing(place, name, kinds)
            asked.append(Question("colour, not shown", f"What colour is the {other}?", picture, tree, Truth()))
        if "setting" in label:
            asked += _about_setting(place, picture, tree, label["setting"])
    return asked


def _other_thing(place: int, name: str, kinds: Kinds) -> str:
    """Return something that a picture of `name` does not show."""
    names = (name, name.removesuffix("s"))
    is_man = name in ("faces", "buddha")
    others = [
        thing
        for thing in OTHER_THINGS
        if thing not in name and not any(kinds.is_a(one, thing) for one in names) and not (is_man and thing == "man")
    ]
    return others[place % len(others)]


def _about_colour(
    place: int, picture: Path, tree: str, name: str, truth: Truth, rng: random.Random
) -> Iterator[Question]:
    kind = "colour" if truth.any_of else "colours together" if truth.together else "colour, grey-scale picture"
    wording = COLOUR_WORDINGS[place % len(COLOUR_WORDINGS)].format(n=name)
    yield Question(kind, wording, picture, tree, truth)
    yield Question("description, colours", DESCRIBE, picture, tree, truth)
    if not truth.any_of:
        return
    if place % 3 == 0:
        yield Question("colour, second turn", "What colour is it?", picture, tree, truth, is_second_turn=True)
    others = [colour for colour in COLOURS if colour not in truth.possible]
    asked = rng.choice(sorted(truth.any_of)) if rng.random() < 0.5 else rng.choice(others)
    subject = ("the " + name) if place % 2 else "it"
    yield Question("colour, yes or no", f"Is {subject} {asked}?", picture, tree, truth, asked=asked)


def _about_setting(place: int, picture: Path, tree: str, setting: str) -> Iterator[Question]:
    end = ", not shown" if setting == "none" else ""
    wording = SETTING_WORDINGS[place % len(SETTING_WORDINGS)]
    yield Question(f"setting{end}", wording, picture, tree, setting=setting)
    yield Question(f"place{end}", PLACE_WORDING, picture, tree, setting=setting)
    asked = ("indoors", "outdoors")[place % 2]
    yield Question(f"setting, yes or no{end}", f"Is this {asked}?", picture, tree, setting=setting, asked=asked)


async def answer_to(client: httpx.AsyncClient, model: str, question: Question) -> str:
    """Return the answer, in a second turn after "What is this?" where the question wants it."""
    mime_type = mimetypes.guess_type(question.picture.name)[0] or "image/webp"
    settings: dict[str, Any] = {"model": model, "temperature": 0, "max_completion_tokens": 48}
    first = picture_message(
        FIRST if question.is_second_turn else question.text, question.picture.read_bytes(), mime_type
    )
    answer = await ask(client, {**settings, "messages": [first]})
    if not question.is_second_turn:
        return answer
    turns = [first, {"role": "assistant", "content": answer}, {"role": "user", "content": question.text}]
    return await ask(client, {**settings, "messages": turns})


async def run(arguments: argparse.Namespace, asked: Sequence[Question]) -> list[str]:
    """Ask everything, a few at a time, and return the answers in order."""
    limiter = asyncio.Semaphore(arguments.concurrency)
    with Progress() as progress:
        bar = progress.add_task("questions", total=len(asked))
        async with httpx.AsyncClient(base_url=arguments.url, timeout=REQUEST_TIMEOUT_S) as client:

            async def one(question: Question) -> str:
                async with limiter:
                    answer = await answer_to(client, arguments.model, question)
                progress.advance(bar)
                return answer

            return list(await asyncio.gather(*map(one, asked)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask for colours and settings of pictures labelled by eye.")
    parser.add_argument("folders", type=Path, nargs="+", help="EVERYDAY and SETS")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--every", type=int, default=1, help="ask only every n-th question of a kind")
    parser.add_argument("--kinds", nargs="+", help="ask only questions of these kinds, the rows of the table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--by-source", action="store_true", help="rows by where the pictures come from")
    parser.add_argument("--show-wrong", action="store_true", help="print every wrong answer")
    arguments = parser.parse_args()
    asked = sorted(questions(arguments.folders, arguments.seed), key=lambda question: question.kind)
    asked = [one for one in asked if not arguments.kinds or one.kind in arguments.kinds][:: arguments.every]
    tally, num_silent = Tally(), 0
    answers = asyncio.run(run(arguments, asked))
    for question, answer in zip(asked, answers, strict=True):
        verdict = judge(question, answer)
        if verdict is None:
            num_silent += 1
            continue
        tally.add(f"{question.kind}, {question.source}" if arguments.by_source else question.kind, verdict)
        if arguments.show_wrong and verdict != "right":
            print(f"{verdict}: {question.text!r} {question.picture.parent.name}/{question.picture.name}: {answer!r}")
    print("\n".join(tally.lines()))
    print(f"{num_silent} descriptions name no colour")


if __name__ == "__main__":
    main()
