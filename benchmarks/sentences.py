"""Ask about photographs for more than a name: are the answers whole, plain sentences, and is nothing made up?

    python -m benchmarks.sentences SETS --url http://127.0.0.1:8000 [--photos 60] [--tree test] [--show-wrong]

SETS is a folder that `training.recipes.mini_sets` wrote. Captions, descriptions and a second turn ("Tell me more about
it.") are right when they hold a right name and are clean: one or two finished sentences of everyday words
(`benchmarks.sense`) and words of `vocabulary.json`'s names and kinds, none twice in a row. A number is asked for that
mini cannot count, and an animal where there is none: right is to say so. Wordings with * are neither trained on nor
were they looked at while rules were written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import httpx
from rich.progress import Progress

from benchmarks.attributes import CANNOT_TELL
from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask
from benchmarks.naming import percent
from benchmarks.phrasings import Photo, load_photos
from benchmarks.sense import CAPTION_WORDS, MAX_SENTENCES
from core.naming import contains_name, singular_forms, words_of

VOCABULARY = Path(__file__).parents[1] / "models" / "mini" / "vocabulary.json"
OTHER_WORDS = frozenset(("kind", "which", "people", "cannot", "tell", "more", "title", "my", "your", "good", "short"))
NO_ANIMAL = re.compile(r"\b(?:no|not an?|isn't an?) animals?\b|\bno \w+ animal", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask, after "What is this?" and its answer for a second turn, and what is right."""

    text: str
    wants: Literal["sentence", "cannot tell", "no animal"]
    is_second: bool = False
    is_new: bool = False


QUESTIONS = (
    Question("Write a short caption.", "sentence"),
    Question("Please write a caption for my photo.", "sentence", is_new=True),
    Question("Describe the picture in one sentence.", "sentence"),
    Question("Describe the image briefly, please.", "sentence", is_new=True),
    Question("Describe the photo in detail.", "sentence"),
    Question("Tell me more about it.", "sentence", is_second=True),
    Question("Could you say a little more about that?", "sentence", is_second=True, is_new=True),
    Question("How many are there?", "cannot tell"),
    Question("How many of these can you count?", "cannot tell"),
    Question("Can you tell me the number of them?", "cannot tell", is_new=True),
    Question("Count the things in this picture.", "cannot tell", is_new=True),
    Question("What animal is in the photo?", "no animal"),
    Question("Which animals live here?", "no animal"),
    Question("Name the animal in this picture.", "no animal", is_new=True),
    Question("What sort of animal do you see?", "no animal", is_new=True),
)


def known_words() -> frozenset[str]:
    """Return the words of all names, kinds and groups that mini may say, in the singular."""
    stored = json.loads(VOCABULARY.read_text(encoding="utf-8"))
    said = (
        text for part in ("imagenet", "nouns") for n in stored[part] for text in (n["name"], n["kind"], *n["groups"])
    )
    return frozenset(form for text in said for word in words_of(text) for form in singular_forms(word))


def is_plain(answer: str, known: frozenset[str]) -> bool:
    """Say whether an answer is a sentence or two of known words, none of them twice in a row."""
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", answer.strip()) if part]
    if not 0 < len(sentences) <= MAX_SENTENCES or answer.strip()[-1] not in ".!?":
        return False
    words = words_of(answer)
    allowed = CAPTION_WORDS | OTHER_WORDS
    strange = [word for word in words if word not in allowed and not known.intersection(singular_forms(word))]
    return not strange and all(one != other for one, other in pairwise(words))


def is_right(question: Question, photo: Photo, answer: str, known: frozenset[str]) -> bool:
    """Judge one answer."""
    if question.wants == "cannot tell":
        return CANNOT_TELL.search(answer) is not None
    if question.wants == "no animal":
        return NO_ANIMAL.search(answer) is not None
    own_words = known | {form for name in photo.names for word in words_of(name) for form in singular_forms(word)}
    return any(contains_name(answer, name) for name in photo.names) and is_plain(answer, own_words)


async def reply(client: httpx.AsyncClient, model: str, question: Question, photo: Photo) -> str:
    """Return the answer to a question, greedily."""
    settings = {"model": model, "temperature": 0, "max_completion_tokens": 48}
    if not question.is_second:
        return await ask(client, {**settings, "messages": [photo.message(question.text)]})
    first = photo.message("What is this?")
    answer = await ask(client, {**settings, "messages": [first]})
    turns = [first, {"role": "assistant", "content": answer}, {"role": "user", "content": question.text}]
    return await ask(client, {**settings, "messages": turns})


async def run(arguments: argparse.Namespace, photos: Sequence[Photo]) -> Mapping[Question, list[bool]]:
    """Ask everything, a few at a time, and return what was right."""
    pairs = [
        (question, photo) for question in QUESTIONS for photo in photos
        if question.wants != "no animal" or not {"animal", "person"} & set(photo.groups)
    ]  # fmt: skip
    limiter, known = asyncio.Semaphore(arguments.concurrency), known_words()
    right: dict[Question, list[bool]] = {question: [] for question in QUESTIONS}
    with Progress() as progress:
        bar = progress.add_task("questions", total=len(pairs))
        async with httpx.AsyncClient(base_url=arguments.url, timeout=REQUEST_TIMEOUT_S) as client:

            async def one(question: Question, photo: Photo) -> None:
                async with limiter:
                    answer = await reply(client, arguments.model, question, photo)
                right[question].append(is_right(question, photo, answer, known))
                if arguments.show_wrong and not right[question][-1]:
                    progress.console.print(f"{photo.path.parent.name}: {question.text} -> {answer}", markup=False)
                progress.advance(bar)

            await asyncio.gather(*(one(question, photo) for question, photo in pairs))
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description="Count whole sentences and honest answers about photographs.")
    parser.add_argument("sets", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--tree", default="test", choices=("test", "validation", "unseen"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--show-wrong", action="store_true")
    arguments = parser.parse_args()
    photos = load_photos(arguments.sets, arguments.photos, arguments.seed, arguments.tree)
    right = asyncio.run(run(arguments, photos))
    for question, found in right.items():
        notes = f"{' (second turn)' if question.is_second else ''}{' *' if question.is_new else ''}"
        print(f"{percent(sum(found) / max(len(found), 1))} of {len(found):>3}  {question.text}{notes}")
    for wants in ("sentence", "cannot tell", "no animal"):
        found = [each for question, each_found in right.items() if question.wants == wants for each in each_found]
        print(f"{percent(sum(found) / len(found))} of {len(found):>3}  ALL {wants}")


if __name__ == "__main__":
    main()
