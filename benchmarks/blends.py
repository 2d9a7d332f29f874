"""Ask about pairs of unlike media and count the answers that name both; yes-or-no questions about what is in a pair.

    python -m benchmarks.blends SETS DATA --url http://127.0.0.1:8000 [--pairs 40] [--seed 0] [--result out.json]

SETS is a folder that `training.recipes.mini_sets` wrote, DATA one with `esc10_16k.zip`, whose fold 5 is heard. Half as
many photographs again as pairs are drawn; a pair is two photographs of unlike classes, or a photograph and a clip.
An answer is right when it holds a name or synonym of both; to "Which animals are there?" of each that is one. Every
medium is also asked about alone: a pair of which one alone is not named cannot be named whole, so the share of pairs
with both right is the ceiling. The yes-or-no questions ask for either half of a pair, and for a thing in neither.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.progress import Progress

from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask
from benchmarks.hearing import read_sounds
from benchmarks.naming import percent
from benchmarks.phrasings import alike, load_photos, with_article
from core.naming import contains_name, words_of

NAMING = (
    "What is this?", "What are these?", "What do you see and hear?", "Describe the pictures in one sentence.",
    "What is in the pictures?", "Tell me what you notice.",
)  # fmt: skip
ANIMALS = "Which animals are there?"
ANIMAL_SOUNDS = {"dog_bark", "rooster"}
YES_NO = "Is there {a}?"
Asker = Callable[[str, Sequence["Medium"]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Medium:
    """A photograph or clip as a content part, what a question calls it, and the names that are right for it."""

    part: dict[str, Any]
    called: str
    names: tuple[str, ...]
    is_animal: bool
    is_sound: bool = False

    def is_named_in(self, answer: str) -> bool:
        return any(contains_name(answer, name) for name in self.names)


Pair = tuple[Medium, Medium]


def read_media(sets: Path, data: Path, count: int, seed: int) -> tuple[list[Medium], list[Medium]]:
    """Return photographs and clips."""
    photos = [
        Medium(photo.message("")["content"][0], photo.names[1], photo.names, "animal" in photo.groups)
        for photo in load_photos(sets, count, seed)
    ]
    sounds = []
    for sound in read_sounds(data):
        source = {"data": base64.b64encode(sound.content).decode(), "format": Path(sound.name).suffix.lstrip(".")}
        part = {"type": "input_audio", "input_audio": source}
        names = tuple(sound.right_names)
        sounds.append(Medium(part, names[0], names, sound.class_name in ANIMAL_SOUNDS, is_sound=True))
    return photos, sounds


def draw_pairs(photos: Sequence[Medium], others: Sequence[Medium], count: int, rng: random.Random) -> list[Pair]:
    """Return pairs of a photograph and something whose names it does not share."""
    pairs: list[Pair] = []
    while len(pairs) < count:
        one, other = rng.choice(photos), rng.choice(others)
        if not alike(one.names, other.names):
            pairs.append((one, other))
    return pairs


async def score_naming(ask_about: Asker, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the ceiling and, of each question, the share of answers that name all they should, and the answers."""
    alone = await asyncio.gather(*(_alone(ask_about, pair) for pair in pairs))
    firsts, seconds = ([row[side] for row in alone] for side in (0, 1))
    found: dict[str, Any] = {
        "one alone": sum(firsts) / len(pairs),
        "other alone": sum(seconds) / len(pairs),
        "ceiling": sum(map(all, alone)) / len(pairs),
    }
    for question in (*NAMING, ANIMALS):
        asked = [pair for pair in pairs if question != ANIMALS or any(medium.is_animal for medium in pair)]
        answers = await asyncio.gather(*(ask_about(question, pair) for pair in asked))
        right = [
            all(m.is_named_in(answer) for m in pair if question != ANIMALS or m.is_animal)
            for pair, answer in zip(asked, answers, strict=True)
        ]
        told = [[pair[0].called, pair[1].called, answer] for pair, answer in zip(asked, answers, strict=True)]
        found[question] = {"share": sum(right) / len(right), "answers": told} if right else None
    return found


async def _alone(ask_about: Asker, pair: Pair) -> list[bool]:
    questions = ["What do you hear?" if medium.is_sound else "What is this?" for medium in pair]
    answers = await asyncio.gather(
        *(ask_about(text, [medium]) for text, medium in zip(questions, pair, strict=True))
    )  # fmt: skip
    return [medium.is_named_in(answer) for medium, answer in zip(pair, answers, strict=True)]


async def score_yes_no(ask_about: Asker, pairs: Sequence[Pair], rng: random.Random) -> dict[str, Any]:
    """Return the shares of right verdicts when asked for the first half, the other one, and a thing in neither."""
    found: dict[str, Any] = {}
    for what in ("one", "other", "neither"):
        questions = [_asked(what, pair, pairs, rng) for pair in pairs]
        answers = await asyncio.gather(*(ask_about(text, pair) for text, pair in zip(questions, pairs, strict=True)))
        truth = "no" if what == "neither" else "yes"
        right = [words_of(answer)[:1] == [truth] for answer in answers]
        told = [[*pair] for pair in zip(questions, answers, strict=True)]
        found[f"asked for {what}"] = {"share": sum(right) / len(right), "answers": told}
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
    photos, sounds = read_media(arguments.sets, arguments.data, arguments.pairs * 3 // 2, arguments.seed)
    kinds = {
        "photograph and photograph": draw_pairs(photos, photos, arguments.pairs, rng),
        "photograph and sound": draw_pairs(photos, sounds, arguments.pairs, rng),
    }
    limiter = asyncio.Semaphore(arguments.concurrency)
    with Progress() as progress:
        bar = progress.add_task("answers", total=None)
        async with httpx.AsyncClient(base_url=arguments.url, timeout=REQUEST_TIMEOUT_S) as client:

            async def ask_about(text: str, media: Sequence[Medium]) -> str:
                content = [*(medium.part for medium in media), {"type": "text", "text": text}]
                body = {
                    "model": arguments.model,
                    "messages": [{"role": "user", "content": content}],
                    "temperature": 0,
                    "max_completion_tokens": 48,
                }
                async with limiter:
                    answer = await ask(client, body)
                progress.advance(bar)
                return answer

            return {
                kind: {**await score_naming(ask_about, pairs), **await score_yes_no(ask_about, pairs, rng)}
                for kind, pairs in kinds.items()
            }


def show(found: dict[str, Any]) -> None:
    """Print one line per question."""
    for kind, rows in found.items():
        for name, row in rows.items():
            share = row["share"] if isinstance(row, dict) else row
            print(f"{percent(share)}  {kind}: {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the answers that name both of two unlike media.")
    parser.add_argument("sets", type=Path, help="a folder that training.recipes.mini_sets wrote")
    parser.add_argument("data", type=Path, help="a folder with esc10_16k.zip")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pairs", type=int, default=40, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--result", type=Path, help="write shares and answers here as JSON")
    arguments = parser.parse_args()
    found = asyncio.run(run(arguments))
    show(found)
    if arguments.result:
        arguments.result.write_text(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
