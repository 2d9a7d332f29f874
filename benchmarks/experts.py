"""Questions about text in pictures, and spoken questions, answered with and without the expert for them.

    python -m benchmarks.experts --url http://127.0.0.1:8000 [--pictures 200] [--seed 2026] [--show-wrong]
    python -m benchmarks.experts --spoken --url http://127.0.0.1:8000
    python -m benchmarks.experts --objects caltech101_112.zip --url http://127.0.0.1:8000

Pictures are those of `benchmarks.rendered_text`. An answer is right when it holds the words asked for, letter case,
punctuation and thousands separators aside. Spoken questions are those of `benchmarks.unrelated`, said by three voices
of flite (`apt-get install flite`) and sent as sound alone; right is an answer that holds the key fact. Each is asked
greedily: without the expert, with it, and, the spoken ones, also typed.

Questions about number and place are those of `benchmarks.object_scenes`. A number is right when it is the first in the
answer, a place or a name when no other one stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.chat_client import CHAT_PATH, REQUEST_TIMEOUT_S, picture_message
from benchmarks.object_scenes import CLASSES, NUMBERS, ObjectScene, object_scenes
from benchmarks.rendered_text import TextPicture, text_pictures
from benchmarks.unrelated import QUESTIONS

VOICES = ("slt", "rms", "awb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One question with its answers by the way of asking, and what the expert read in how many milliseconds."""

    kind: str
    question: str
    right: Sequence[str]
    replies: dict[str, str]
    expert_text: str
    expert_ms: float
    excluded: Sequence[str] = ()
    found: Counter[str] = field(default_factory=Counter)  # names in the expert's objects
    shown: Counter[str] = field(default_factory=Counter)  # names of what the picture holds

    def is_right(self, way: str) -> bool:
        reply = first_number(self.replies[way]) if self.kind == "how many" else self.replies[way]
        return holds(reply, self.right) and not holds(reply, self.excluded)


def holds(reply: str, right: Sequence[str]) -> bool:
    """Say whether a reply holds one of the right answers, whole words in their order."""
    return any(f" {plain(words)} " in f" {plain(reply)} " for words in right)


def plain(text: str) -> str:
    """Return lower-case words and numbers, `1,234.50` as `1234.50`."""
    joined = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.lower())
    return " ".join(re.findall(r"\d+(?:\.\d+)*|[^\W\d_]+", joined))


def first_number(reply: str) -> str:
    """Return the first number of a reply, in digits or as a word, or nothing."""
    return next((word for word in plain(reply).split() if word.isdigit() or word in NUMBERS), "")


async def ask(client: httpx.AsyncClient, message: dict[str, Any], expert: str | None) -> tuple[str, dict[str, Any]]:
    """Return the reply and the expert's report, an empty one without an expert. Raises on a refusal."""
    bind = {"experts": [] if expert is None else [expert], "trace": True}
    body = {"messages": [message], "temperature": 0, "max_completion_tokens": 64, "bind": bind}
    response = await client.post(CHAT_PATH, json=body)
    response.raise_for_status()
    answer = response.json()
    reports = answer["bind"].get("experts", [{}])
    return str(answer["choices"][0]["message"]["content"]), reports[0]


async def ask_about_picture(client: httpx.AsyncClient, picture: TextPicture) -> Answer:
    """Ask a picture's question without and with OCR."""
    message = picture_message(picture.question, picture.content, picture.media_type)
    without, _ = await ask(client, message, None)
    with_ocr, report = await ask(client, message, "ocr")
    return Answer(
        kind=picture.kind,
        question=picture.question,
        right=(picture.answer,),
        replies={"without": without, "with ocr": with_ocr},
        expert_text=report["text"],
        expert_ms=report["elapsed_ms"],
    )


async def ask_about_objects(client: httpx.AsyncClient, scene: ObjectScene) -> Answer:
    """Ask a scene's question without and with the detector."""
    message = picture_message(scene.question, scene.content, "image/jpeg")
    without, _ = await ask(client, message, None)
    with_detect, report = await ask(client, message, "detect")
    return Answer(
        kind=scene.kind,
        question=scene.question,
        right=scene.answer,
        excluded=scene.excluded,
        replies={"without": without, "with detect": with_detect},
        expert_text=report["text"],
        expert_ms=report["elapsed_ms"],
        found=Counter(found["name"] for found in report["objects"]),
        shown=Counter(CLASSES[folder][0] for folder, _, _ in scene.objects),
    )


async def ask_aloud(client: httpx.AsyncClient, place: int) -> Answer:
    """Ask a general question typed, spoken, and spoken with speech recognition; the voices take turns."""
    (question, facts), voice = QUESTIONS[place], VOICES[place % len(VOICES)]
    typed, _ = await ask(client, picture_message(question, None), None)
    message = sound_message(await asyncio.to_thread(spoken, question, voice))
    without, _ = await ask(client, message, None)
    heard, report = await ask(client, message, "transcribe")
    return Answer(
        kind=voice,
        question=question,
        right=facts,
        replies={"typed": typed, "without": without, "with transcribe": heard},
        expert_text=report["text"],
        expert_ms=report["elapsed_ms"],
    )


def spoken(text: str, voice: str) -> bytes:
    """Return a WAV file of flite saying the text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(file)], check=True)
        return file.read_bytes()


def sound_message(wav: bytes) -> dict[str, Any]:
    """Return one user message that is a sound alone."""
    audio = {"data": base64.b64encode(wav).decode("ascii"), "format": "wav"}
    return {"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}


def print_report(answers: Sequence[Answer], *, show_wrong: bool) -> None:
    """Print how many answers are right by kind and way of asking, and how long the expert took."""
    ways, last = list(answers[0].replies), list(answers[0].replies)[-1]
    print(f"{'':12s}{'asked':>6s}" + "".join(f"{way:>17s}" for way in ways))
    for kind in [*dict.fromkeys(answer.kind for answer in answers), "all"]:
        rows = [answer for answer in answers if kind in (answer.kind, "all")]
        counts = [sum(answer.is_right(way) for answer in rows) for way in ways]
        print(f"{kind:12s}{len(rows):6d}" + "".join(f"{n:8d} {n / len(rows):7.1%}" for n in counts))
    if shown := sum((answer.shown for answer in answers), Counter[str]()):
        found = sum((answer.found for answer in answers), Counter[str]())
        hits = sum((answer.found & answer.shown for answer in answers), Counter[str]())
        print(f"found {hits.total()} of {shown.total()} objects, and {found.total() - hits.total()} that are not there")
        print(", ".join(f"{name} {hits[name]}/{count}" for name, count in sorted(shown.items())))
        exact = [answer for answer in answers if answer.found == answer.shown]
        print(
            f"where it found just what is there: {sum(answer.is_right(last) for answer in exact)} of {len(exact)} right"
        )
    else:
        read = [holds(answer.expert_text, (*answer.right, answer.question)) for answer in answers]
        print(f"the expert's text holds the answer (of a spoken question, the question) in {sum(read)} of {len(read)}")
    print(f"the expert took {median(answer.expert_ms for answer in answers):.0f} ms (median)")
    for answer in answers if show_wrong else ():
        if not answer.is_right(last):
            print(
                f"WRONG {answer.question} {answer.right}\n  text: {answer.expert_text!r}\n"
                f"  said: {answer.replies[last]!r}"
            )


async def run(arguments: argparse.Namespace) -> None:
    slots = asyncio.Semaphore(arguments.concurrency)

    async def in_turn(work: Coroutine[Any, Any, Answer]) -> Answer:
        async with slots:
            return await work

    async with httpx.AsyncClient(base_url=arguments.url, timeout=REQUEST_TIMEOUT_S) as client:
        if arguments.objects:
            scenes = object_scenes(arguments.objects, arguments.pictures, arguments.seed)
            asked = [ask_about_objects(client, scene) for scene in scenes]
        elif arguments.spoken:
            asked = [ask_aloud(client, place) for place in range(len(QUESTIONS))]
        else:
            pictures = text_pictures(arguments.pictures, arguments.seed)
            asked = [ask_about_picture(client, picture) for picture in pictures]
        answers = await asyncio.gather(*map(in_turn, asked))
    print_report(answers, show_wrong=arguments.show_wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description="Questions with and without the expert for them.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--concurrency", type=int, default=1, help="pictures or questions asked about at once")
    parser.add_argument("--objects", type=Path, help="scenes of photographs instead: Caltech-101 as a zip of folders")
    parser.add_argument("--spoken", action="store_true", help="spoken questions instead of pictures")
    parser.add_argument("--show-wrong", action="store_true", help="print every wrong answer")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
