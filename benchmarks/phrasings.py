"""Ask differently worded questions about photographs whose class is known and count the right answers.

    python -m benchmarks.phrasings SETS --url http://127.0.0.1:8000 [--photos 40] [--tree test] [--yes-or-no]

SETS is a folder that `training.recipes.mini_sets` wrote; the photographs come from one of its trees. A naming answer is
right when it holds the class's name or a synonym; a yes-or-no answer when its first word is the truth about the class;
a follow-up is a second turn after "What is this?" and the model's own answer to it. Where a question names a thing,
half of the photographs are asked for their own name and half for another class's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mimetypes
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.progress import Progress

from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask, picture_message
from benchmarks.naming import list_photos, percent
from core.naming import contains_name, words_of


@dataclass(frozen=True, slots=True)
class Phrasing:
    """One question. `group` restricts it to photographs of that group, or with `or_groups` decides its yes or no.

    `{a}` in the text stands for a name with its article.
    """

    text: str
    group: str = ""
    yes_no: bool = False
    follow_up: bool = False
    or_groups: tuple[str, ...] = ()

    @property
    def names_a_thing(self) -> bool:
        return "{a}" in self.text


PHRASINGS = (
    Phrasing("What is this?"),
    Phrasing("What do you see in this photo?"),
    Phrasing("Can you identify the thing in the image?"),
    Phrasing("Hey, what's in the picture?"),
    Phrasing("Write a short caption."),
    Phrasing("Please write a caption for my photo."),
    Phrasing("Describe the picture in one sentence."),
    Phrasing("Describe the image briefly, please."),
    Phrasing("What does the photograph show?"),
    Phrasing("Tell me what this is."),
    Phrasing("In one word: what is it?"),
    Phrasing("Name the object."),
    Phrasing("what am i looking at"),
    Phrasing("Which thing is shown here?"),
    Phrasing("I found this picture. Do you know what it shows?"),
    Phrasing("What would you call the thing in this image?"),
    Phrasing("What animal is in the photo?", group="animal"),
    Phrasing("Which animal do you see?", group="animal"),
    Phrasing("What kind of animal is this?", group="animal"),
    Phrasing("What kind of vehicle is this?", group="vehicle"),
    Phrasing("Which musical instrument is shown?", group="musical instrument"),
    Phrasing("Is this an animal? Answer yes or no.", group="animal", yes_no=True),
    Phrasing("Is this a vehicle? Answer yes or no.", group="vehicle", yes_no=True),
    Phrasing("Is there an animal in this picture?", group="animal", yes_no=True),
    Phrasing("Does the image show a musical instrument? Yes or no?", group="musical instrument", yes_no=True),
    Phrasing("Is it a piece of furniture?", group="piece of furniture", yes_no=True),
    Phrasing("Is it an animal?", group="animal", yes_no=True, follow_up=True),
    Phrasing("Could I ride in it? I mean: is it a vehicle?", group="vehicle", yes_no=True, follow_up=True),
    Phrasing("Is it alive?", group="animal", or_groups=("plant", "person"), yes_no=True),
    Phrasing("Is this a living thing? Yes or no?", group="animal", or_groups=("plant", "person"), yes_no=True),
    Phrasing("Is this {a}?", yes_no=True),
    Phrasing("Is this {a}? Answer yes or no.", yes_no=True),
    Phrasing("Is there {a} in the picture?", yes_no=True),
    Phrasing("Do you see {a} here?", yes_no=True),
    Phrasing("Does the photograph show {a}? Reply with yes or no.", yes_no=True),
    Phrasing("I think this is {a}. Am I right?", yes_no=True),
    Phrasing("Is it {a}?", yes_no=True, follow_up=True),
    Phrasing("So what is it called?", follow_up=True),
    Phrasing("Please repeat what it is.", follow_up=True),
)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph with the names that are right for it, the groups it belongs to, and a name to ask for.

    `asked` is its own name when `asked_is_right`, else that of a class whose names it does not share.
    """

    path: Path
    names: tuple[str, ...]
    groups: tuple[str, ...]
    asked: str
    asked_is_right: bool

    def message(self, text: str) -> dict[str, Any]:
        mime_type = mimetypes.guess_type(self.path.name)[0] or "image/webp"
        return picture_message(text, self.path.read_bytes(), mime_type)


def load_photos(sets: Path, count: int, seed: int, tree: str = "test") -> list[Photo]:
    """Return photographs of one tree with what is true of them."""
    table = json.loads((sets / "synonyms.json").read_text(encoding="utf-8"))
    groups = json.loads((sets / "groups.json").read_text(encoding="utf-8"))
    photos, rng = list_photos(sets / tree, count, seed), random.Random(seed)
    loaded = []
    for place, path in enumerate(photos):
        own = path.parent.name
        asked = own if place % 2 == 0 else rng.choice([name for name in table if not alike(table[name], table[own])])
        names = (own, *table[own])
        loaded.append(Photo(path, names, tuple(groups[own]), table[asked][0], asked == own))
    return loaded


def alike(names: Sequence[str], others: Sequence[str]) -> bool:
    """Say whether one of the names holds one of the others: a yes to both could be defended."""
    return any(contains_name(one, other) or contains_name(other, one) for one in names for other in others)


def wording(phrasing: Phrasing, photo: Photo) -> str:
    """Return the question about this photograph."""
    return phrasing.text.format(a=with_article(photo.asked))


def with_article(name: str) -> str:
    """Return a name as a question asks for it."""
    if name.endswith(("scissors", "binoculars")):
        return f"a pair of {name}"
    return f"{'an' if name[0].lower() in 'aeiou' and not name.startswith('eu') else 'a'} {name}"


def is_right(phrasing: Phrasing, photo: Photo, answer: str) -> bool:
    """Judge one answer."""
    if phrasing.yes_no:
        in_group = bool({phrasing.group, *phrasing.or_groups} & set(photo.groups))
        truth = photo.asked_is_right if phrasing.names_a_thing else in_group
        return words_of(answer)[:1] == ["yes" if truth else "no"]
    return any(contains_name(answer, name) for name in photo.names)


def applies(phrasing: Phrasing, photo: Photo) -> bool:
    """Say whether a question makes sense for a photograph."""
    return phrasing.yes_no or not phrasing.group or phrasing.group in photo.groups


async def ask_phrasing(client: httpx.AsyncClient, model: str, phrasing: Phrasing, photo: Photo) -> str:
    """Return the answer to one question about one photograph, after a first turn when it is a follow-up."""
    settings = {"model": model, "temperature": 0, "max_completion_tokens": 48}
    if not phrasing.follow_up:
        return await ask(client, {**settings, "messages": [photo.message(wording(phrasing, photo))]})
    first = photo.message("What is this?")
    answer = await ask(client, {**settings, "messages": [first]})
    turns = [first, {"role": "assistant", "content": answer}, {"role": "user", "content": wording(phrasing, photo)}]
    return await ask(client, {**settings, "messages": turns})


async def run(arguments: argparse.Namespace, photos: Sequence[Photo]) -> Mapping[Phrasing, list[bool]]:
    """Ask everything, a few at a time, and return the verdicts of each phrasing."""
    phrasings = [phrasing for phrasing in PHRASINGS if phrasing.yes_no or not arguments.yes_or_no]
    pairs = [(phrasing, photo) for phrasing in phrasings for photo in photos if applies(phrasing, photo)]
    verdicts: dict[Phrasing, list[bool]] = {phrasing: [] for phrasing in phrasings}
    limiter = asyncio.Semaphore(arguments.concurrency)
    with Progress() as progress:
        bar = progress.add_task("questions", total=len(pairs))
        async with httpx.AsyncClient(base_url=arguments.url, timeout=REQUEST_TIMEOUT_S) as client:

            async def one(phrasing: Phrasing, photo: Photo) -> None:
                async with limiter:
                    answer = await ask_phrasing(client, arguments.model, phrasing, photo)
                verdicts[phrasing].append(is_right(phrasing, photo, answer))
                progress.advance(bar)

            await asyncio.gather(*(one(phrasing, photo) for phrasing, photo in pairs))
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description="Count right answers over many phrasings.")
    parser.add_argument("sets", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--tree", default="test", choices=("test", "validation", "unseen"))
    parser.add_argument("--yes-or-no", action="store_true", help="ask those questions alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=8)
    arguments = parser.parse_args()
    photos = load_photos(arguments.sets, arguments.photos, arguments.seed, arguments.tree)
    verdicts = asyncio.run(run(arguments, photos))
    for phrasing, right in verdicts.items():
        turn = " (second turn)" if phrasing.follow_up else ""
        print(f"{percent(sum(right) / max(len(right), 1))} of {len(right):>3}  {phrasing.text}{turn}")
    for title, chosen in (("yes or no", True), ("names and captions", False)):
        some = [verdict for phrasing, right in verdicts.items() if phrasing.yes_no == chosen for verdict in right]
        print(f"{percent(sum(some) / max(len(some), 1))} of {len(some):>3}  ALL {title}")
    everything = [verdict for right in verdicts.values() for verdict in right]
    print(f"{percent(sum(everything) / len(everything))} of {len(everything):>3}  ALL")


if __name__ == "__main__":
    main()
