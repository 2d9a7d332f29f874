"""Ask a running server "What is this?" about every photo of a `class/file` tree and count the right names.

    python -m benchmarks.naming DIR --url http://127.0.0.1:8000 [--synonyms names.json] [--limit N] [--result out.json]

An answer is right when it contains the class's name (its folder's name, underscores as spaces) or a listed synonym as
whole words, in any case, singular or plural. An answer with "may be", "might be", "could be" or "or" is hedged. The
synonyms file maps a class to a list of names. `--without-picture` is the control: the same questions with the
condition off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mimetypes
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.progress import Progress

from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask, picture_message
from core.naming import HEDGE, contains_name

QUESTION = "What is this?"
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said about one photo."""

    photo: str
    class_name: str
    text: str
    is_right: bool
    is_hedged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Shares over some answers; `unhedged_accuracy` is None when every answer is hedged."""

    photos: int
    accuracy: float
    hedge_share: float
    unhedged_accuracy: float | None


def judge(photo: str, class_name: str, text: str, synonyms: Sequence[str]) -> Answer:
    """Compare one answer with the names that count as right."""
    is_right = any(contains_name(text, name) for name in (class_name, *synonyms))
    return Answer(
        photo=photo, class_name=class_name, text=text, is_right=is_right, is_hedged=HEDGE.search(text) is not None
    )


def score(answers: Sequence[Answer]) -> Score:
    """Return the shares over a non-empty list of answers."""
    plain = [answer for answer in answers if not answer.is_hedged]
    return Score(
        photos=len(answers),
        accuracy=sum(answer.is_right for answer in answers) / len(answers),
        hedge_share=1 - len(plain) / len(answers),
        unhedged_accuracy=sum(answer.is_right for answer in plain) / len(plain) if plain else None,
    )


def list_photos(folder: Path, limit: int | None, seed: int) -> list[Path]:
    """Return the photos of a `class/file` tree in order; with a limit, an even random draw of that many."""
    photos = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if limit is None or limit >= len(photos):
        return photos
    return sorted(random.Random(seed).sample(photos, limit))


async def ask_all(arguments: argparse.Namespace, photos: list[Path], synonyms: Mapping[str, list[str]]) -> list[Answer]:
    """Ask about every photo, some at a time, under one progress bar."""
    limiter = asyncio.Semaphore(arguments.concurrency)
    timeout = httpx.Timeout(REQUEST_TIMEOUT_S)
    with Progress() as progress:
        bar = progress.add_task("photos", total=len(photos))
        async with httpx.AsyncClient(base_url=arguments.url, timeout=timeout) as client:

            async def ask_one(photo: Path) -> Answer:
                async with limiter:
                    text = await ask(client, _body(arguments, photo))
                progress.advance(bar)
                name = photo.parent.name
                return judge(f"{name}/{photo.name}", name, text, synonyms.get(name, []))

            return await asyncio.gather(*(ask_one(photo) for photo in photos))


def _body(arguments: argparse.Namespace, photo: Path) -> dict[str, Any]:
    mime_type = mimetypes.guess_type(photo.name)[0] or f"image/{photo.suffix.lower().lstrip('.')}"
    picture = None if arguments.without_picture else photo.read_bytes()
    return {
        "model": arguments.model,
        "messages": [picture_message(arguments.question, picture, mime_type)],
        "temperature": 0,
        "max_completion_tokens": arguments.max_completion_tokens,
    }


def percent(share: float | None) -> str:
    """Return a share as a percentage in a column of fixed width."""
    return "     -" if share is None else f"{100 * share:5.1f}%"


def report(answers: Sequence[Answer]) -> dict[str, Any]:
    """Print one line per class and one in total; return the same as JSON-ready values."""
    by_class: dict[str, list[Answer]] = {}
    for answer in answers:
        by_class.setdefault(answer.class_name, []).append(answer)
    scores = {name: score(group) for name, group in sorted(by_class.items())}
    scores["TOTAL"] = score(answers)
    print(f"{'class':<28} {'photos':>6} {'right':>6} {'hedged':>6} {'right, unhedged':>15}")
    for name, row in scores.items():
        shares = f"{percent(row.accuracy)} {percent(row.hedge_share)} {percent(row.unhedged_accuracy):>15}"
        print(f"{name:<28} {row.photos:>6} {shares}")
    return {
        "scores": {name: asdict(row) for name, row in scores.items()},
        "answers": [asdict(answer) for answer in answers],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the photos that a running server names rightly.")
    parser.add_argument("folder", type=Path, help="a tree of class/photo files")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--synonyms", type=Path, help="JSON: class to list of further right names")
    parser.add_argument("--limit", type=int, help="ask about this many photos, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw that --limit makes")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--max-completion-tokens", type=int, default=48)
    parser.add_argument("--without-picture", action="store_true", help="the control: condition off")
    parser.add_argument("--result", type=Path, help="write scores and answers here as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    photos = list_photos(arguments.folder, arguments.limit, arguments.seed)
    if not photos:
        raise SystemExit(f"{arguments.folder} has no photos; expected class/file with {sorted(PICTURE_SUFFIXES)}")
    synonyms = json.loads(arguments.synonyms.read_text()) if arguments.synonyms else {}
    result = report(asyncio.run(ask_all(arguments, photos, synonyms)))
    if arguments.result:
        arguments.result.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
