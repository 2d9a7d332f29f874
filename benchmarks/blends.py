"""Ask about pairs of unlike media: how many answers name both, and make sense; yes-or-no questions about such pairs.

    python -m benchmarks.blends SETS DATA --url http://127.0.0.1:8000 [--shapes DIR] [--pairs 40] [--seed 0]

SETS is a folder that `training.recipes.mini_sets` wrote, DATA one with `esc10_16k.zip`, whose fold 5 is heard, and
`--shapes` a `class/file` tree of point clouds and meshes. Half as many photographs again as pairs are drawn; a pair is
two media of unlike classes, or a photograph and the words for another one as `bind_text`.
An answer names both when it holds a name or synonym of each; to "Which animals are there?" of those that are, and of
no other. It is clean by `benchmarks.sense`: what the server called the parts, ordinary words around it, nothing else.
Every medium is also asked about alone: the share of pairs with both right is the ceiling. The follow-up is a second
turn after "What is this?" and its answer. The yes-or-no questions ask for either half, and for a thing in neither.
`--sampled` leaves temperature and the rest as the server has them; else answers are greedy.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from rich.progress import Progress

from benchmarks.chat_client import CHAT_PATH, REQUEST_TIMEOUT_S
from benchmarks.hearing import read_sounds
from benchmarks.naming import percent
from benchmarks.phrasings import alike, load_photos, with_article
from benchmarks.sense import is_clean
from benchmarks.shapes import OTHER_NAMES, list_shapes
from core.naming import contains_name, words_of

NAMING = (
    "What is this?", "What are these?", "What do you see and hear?", "Describe the pictures in one sentence.",
    "What is in the pictures?", "Tell me what you notice.", "Write a short caption.",
)  # fmt: skip
ANIMALS = "Which animals are there?"
FOLLOW_UP = "Please say again what it is."
ANIMAL_SOUNDS = {"dog_bark", "rooster"}
YES_NO = "Is there {a}?"


@dataclass(frozen=True, slots=True)
class Medium:
    """A photograph, clip, shape or text as a content part, what a question calls it, and the names right for it."""

    part: dict[str, Any]
    called: str
    names: tuple[str, ...]
    is_animal: bool = False
    question: str = NAMING[0]  # about it alone

    def is_named_in(self, answer: str) -> bool:
        return any(contains_name(answer, name) for name in self.names)

    @property
    def as_words(self) -> Medium:
        """The same thing as a text of the sum."""
        return replace(self, part={"type": "bind_text", "text": self.called})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and what the server called the parts: names and runners-up."""

    text: str
    told: tuple[str, ...]


Pair = tuple[Medium, Medium]
Asker = Callable[[str, Sequence[Medium], Sequence[str]], Awaitable[Reply]]


def read_photos(sets: Path, count: int, seed: int) -> list[Medium]:
    """Return photographs of the test tree."""
    photos = load_photos(sets, count, seed)
    return [
        Medium(photo.message("")["content"][0], photo.names[1], photo.names, "animal" in photo.groups)
        for photo in photos
    ]  # fmt: skip


def read_clips(data: Path) -> list[Medium]:
    """Return the clips of the test fold."""
    clips = []
    for sound in read_sounds(data):
        source = {"data": base64.b64encode(sound.content).decode(), "format": Path(sound.name).suffix.lstrip(".")}
        names = tuple(sound.right_names)
        part = {"type": "input_audio", "input_audio": source}
        clips.append(Medium(part, names[0], names, sound.class_name in ANIMAL_SOUNDS, "What do you hear?"))
    return clips


def read_shapes(folder: Path, count: int, seed: int) -> list[Medium]:
    """Return shapes of a `class/file` tree."""
    shapes = []
    for path in list_shapes(folder, count, seed):
        name, encoded = path.parent.name, base64.b64encode(path.read_bytes()).decode()
        part = {"type": "input_point_cloud", "input_point_cloud": {"data": encoded, "format": path.suffix[1:]}}
        shapes.append(Medium(part, name, (name, *OTHER_NAMES.get(name, []))))
    return shapes


def draw_pairs(ones: Sequence[Medium], others: Sequence[Medium], count: int, rng: random.Random) -> list[Pair]:
    """Return pairs of two media that share no name."""
    pairs: list[Pair] = []
    while len(pairs) < count:
        one, other = rng.choice(ones), rng.choice(others)
        if not alike(one.names, other.names):
            pairs.append((one, other))
    return pairs


def draw_kinds(arguments: argparse.Namespace, rng: random.Random) -> dict[str, list[Pair]]:
    """Return the pairs of each kind; of point clouds where some are given."""
    count = arguments.pairs
    photos = read_photos(arguments.sets, count * 3 // 2, arguments.seed)
    sounds = read_clips(arguments.data)
    kinds = {
        "photograph and photograph": draw_pairs(photos, photos, count, rng),
        "photograph and sound": draw_pairs(photos, sounds, count, rng),
        "photograph and words": draw_pairs(photos, [photo.as_words for photo in photos], count, rng),
    }
    if arguments.shapes:
        shapes = read_shapes(arguments.shapes, count * 3 // 2, arguments.seed)
        kinds["photograph and shape"] = draw_pairs(photos, shapes, count, rng)
        kinds["sound and shape"] = draw_pairs(sounds, shapes, count, rng)
    return {kind: pairs for kind, pairs in kinds.items() if kind in (arguments.kinds or kinds)}


async def score_naming(ask_about: Asker, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the ceiling and, of each question, the shares of answers that name all they should, and are clean."""
    alone = await asyncio.gather(*(_alone(ask_about, pair) for pair in pairs))
    firsts, seconds = ([row[side] for row in alone] for side in (0, 1))
    found: dict[str, Any] = {
        "one alone": {"named": sum(firsts) / len(pairs)},
        "other alone": {"named": sum(seconds) / len(pairs)},
        "ceiling": {"named": sum(map(all, alone)) / len(pairs)},
    }
    first_answers: list[Reply] = []
    for question in (*NAMING, ANIMALS, FOLLOW_UP):
        asked = [pair for pair in pairs if question != ANIMALS or any(medium.is_animal for medium in pair)]
        before = [(NAMING[0], reply.text) for reply in first_answers] if question == FOLLOW_UP else [()] * len(asked)
        answers = await asyncio.gather(
            *(ask_about(question, pair, earlier) for pair, earlier in zip(asked, before, strict=True))
        )
        first_answers = answers if question == NAMING[0] else first_answers
        found[question] = judge(question, asked, answers) if asked else None
    return found


def judge(question: str, pairs: Sequence[Pair], replies: Sequence[Reply]) -> dict[str, Any]:
    """Return the shares of replies that name both, are clean, and do both, and each reply."""
    rows = []
    for pair, reply in zip(pairs, replies, strict=True):
        wanted = [medium for medium in pair if question != ANIMALS or medium.is_animal]
        is_named = all(medium.is_named_in(reply.text) == (medium in wanted) for medium in pair)
        names = reply.told or tuple(name for medium in pair for name in medium.names)
        rows.append((pair[0].called, pair[1].called, is_named, is_clean(reply.text, names, question), reply.text))
    return {
        "named": sum(row[2] for row in rows) / len(rows),
        "clean": sum(row[3] for row in rows) / len(rows),
        "both": sum(row[2] and row[3] for row in rows) / len(rows),
        "answers": rows,
    }


async def _alone(ask_about: Asker, pair: Pair) -> list[bool]:
    replies = await asyncio.gather(*(ask_about(medium.question, [medium], ()) for medium in pair))
    return [
        medium.is_named_in(reply.text) or medium.part["type"] == "bind_text"
        for medium, reply in zip(pair, replies, strict=True)
    ]


async def score_yes_no(ask_about: Asker, pairs: Sequence[Pair], rng: random.Random) -> dict[str, Any]:
    """Return the shares of right verdicts when asked for the first half, the other one, and a thing in neither."""
    found: dict[str, Any] = {}
    for what in ("one", "other", "neither"):
        questions = [_asked(what, pair, pairs, rng) for pair in pairs]
        replies = await asyncio.gather(
            *(ask_about(text, pair, ()) for text, pair in zip(questions, pairs, strict=True))
        )
        truth = "no" if what == "neither" else "yes"
        right = [words_of(reply.text)[:1] == [truth] for reply in replies]
        told = [(question, reply.text) for question, reply in zip(questions, replies, strict=True)]
        found[f"asked for {what}"] = {"named": sum(right) / len(right), "answers": told}
    return found


def _asked(what: str, pair: Pair, pairs: Sequence[Pair], rng: random.Random) -> str:
    own = [*pair[0].names, *pair[1].names]
    if what != "neither":
        return YES_NO.format(a=with_article(pair[what == "other"].called))
    names = [medium.called for other in pairs for medium in other]
    return YES_NO.format(a=with_article(rng.choice([name for name in names if not alike([name], own)])))


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Ask everything, some at a time, under one progress bar."""
    rng = random.Random(arguments.seed)
    kinds = draw_kinds(arguments, rng)
    options = {"model": arguments.model, "max_completion_tokens": 48, "bind": {"trace": True}}
    options |= {"seed": arguments.seed} if arguments.sampled else {"temperature": 0}
    limiter = asyncio.Semaphore(arguments.concurrency)
    with Progress() as progress:
        bar = progress.add_task("answers", total=None)
        async with httpx.AsyncClient(base_url=arguments.url, timeout=REQUEST_TIMEOUT_S) as client:

            async def ask_about(text: str, media: Sequence[Medium], earlier: Sequence[str]) -> Reply:
                async with limiter:
                    response = await client.post(CHAT_PATH, json={**options, "messages": turns(text, media, earlier)})
                body = response.raise_for_status().json()
                progress.advance(bar)
                parts = body.get("bind", {}).get("parts", [])
                told = tuple(name for part in parts for name in (part["name"], part["other"]) if name)
                return Reply(body["choices"][0]["message"]["content"], told)

            return {
                kind: {**await score_naming(ask_about, pairs), **await score_yes_no(ask_about, pairs, rng)}
                for kind, pairs in kinds.items()
            }


def turns(text: str, media: Sequence[Medium], earlier: Sequence[str]) -> list[dict[str, Any]]:
    """Return the messages: the question beside the media, or after an earlier question about them and its answer."""
    parts = [medium.part for medium in media]
    if not earlier:
        return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
    question, answer = earlier
    return [
        {"role": "user", "content": [*parts, {"type": "text", "text": question}]},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": text},
    ]


def show(found: dict[str, Any]) -> None:
    """Print one line per question: named, clean, and both."""
    print(" named   clean    both")
    for kind, rows in found.items():
        for name, row in rows.items():
            shares = (percent(row[key]) if row and key in row else " " * 6 for key in ("named", "clean", "both"))
            print(f"{'  '.join(shares)}  {kind}: {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, help="a folder that training.recipes.mini_sets wrote")
    parser.add_argument("data", type=Path, help="a folder with esc10_16k.zip")
    parser.add_argument("--shapes", type=Path, help="a class/file tree of point clouds and meshes")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--kinds", nargs="+", help="these alone, such as 'photograph and sound'")
    parser.add_argument("--pairs", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampled", action="store_true", help="sample as the server does by default")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--result", type=Path, help="write shares and answers here as JSON")
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments))
    show(found)
    if arguments.result:
        arguments.result.write_text(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
