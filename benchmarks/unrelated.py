"""Attach a picture to questions that have nothing to do with it and count those answered as without one.

    python -m benchmarks.unrelated --image FILE [--image FILE ...] --url http://127.0.0.1:8000

Each of 50 questions has a key fact. The base model's answer (no picture, greedy) either holds the key fact or not;
with a picture the answer agrees when it holds the fact in the same case. None of the questions is in the training set.
"""

from __future__ import annotations

import argparse
import asyncio
import mimetypes
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.progress import track

from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask, picture_message

QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What is the capital of Australia?", ("canberra",)), ("What is the capital of South Korea?", ("seoul",)),
    ("What is the capital of the Netherlands?", ("amsterdam",)),
    ("What is the capital of Cuba? Be brief.", ("havana",)),
    ("Which city is the capital of Scotland?", ("edinburgh",)), ("Paris is the capital of which country?", ("france",)),
    ("What is 3 plus 4?", ("7", "seven")), ("What is 10 plus 10?", ("20", "twenty")),
    ("What is 9 minus 5?", ("4", "four")),
    ("What is 6 times 6?", ("36",)), ("What is 100 divided by 4?", ("25",)), ("What is 1 plus 1?", ("2", "two")),
    ("What is the opposite of day?", ("night",)), ("What is the opposite of black?", ("white",)),
    ("What is the opposite of love?", ("hate", "hatred")), ("What is the opposite of young?", ("old",)),
    ("What is the chemical formula of carbon dioxide?", ("co2", "co₂")),
    ("What gas do we breathe to live?", ("oxygen",)),
    ("What is the freezing point of water in Celsius?", ("0",)),
    ("At what temperature does water boil?", ("100", "212")),
    ("Which planet is known as the Red Planet?", ("mars",)),
    ("What is the biggest planet of the solar system?", ("jupiter",)),
    ("What star is at the centre of our solar system?", ("sun",)),
    ("How many planets are in the solar system?", ("8", "eight")),
    ("What is the smallest prime number?", ("2", "two")), ("How many sides does a triangle have?", ("3", "three")),
    ("How many hours are in a day?", ("24",)), ("How many seconds are in a minute?", ("60",)),
    ("Which month comes after March?", ("april",)), ("What day comes after Friday?", ("saturday",)),
    ("Who wrote Romeo and Juliet?", ("shakespeare",)), ("Who wrote The Odyssey?", ("homer",)),
    ("Who developed the theory of relativity?", ("einstein",)), ("Who was the first man on the moon?", ("armstrong",)),
    ("Who discovered gravity?", ("newton",)), ("Which language do people speak in Mexico?", ("spanish",)),
    ("What language is spoken in Germany?", ("german",)), ("What is the currency of the United Kingdom?", ("pound",)),
    ("What is the currency of the United States?", ("dollar",)), ("What is the largest ocean on earth?", ("pacific",)),
    ("On which continent is Egypt?", ("africa",)), ("What do cows drink, water or petrol?", ("water",)),
    ("What colour do you get when you mix blue and yellow?", ("green",)), ("What is H2O?", ("water",)),
    ("What does CPU stand for?", ("central processing unit",)), ("What does WWW stand for?", ("world wide web",)),
    ("In what year did the Second World War end?", ("1945",)), ("What is the plural of child?", ("children",)),
    ("What is the past tense of go?", ("went",)), ("What organ pumps blood through the body?", ("heart",)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """The two answers to one question, and whether they agree about the key fact."""

    question: str
    without: str
    with_picture: str
    fact_without: bool
    fact_with: bool

    @property
    def agrees(self) -> bool:
        return self.fact_without == self.fact_with


async def compare(arguments: argparse.Namespace) -> list[Verdict]:
    """Ask every question without and with a picture; the pictures take turns."""
    verdicts = []
    pictures = [(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "image/webp") for path in arguments.image]
    settings = {"model": arguments.model, "temperature": 0, "max_completion_tokens": arguments.max_completion_tokens}
    async with httpx.AsyncClient(base_url=arguments.url, timeout=REQUEST_TIMEOUT_S) as client:
        for position, (question, facts) in enumerate(track(QUESTIONS, description="questions")):
            picture, mime_type = pictures[position % len(pictures)]
            plain, shown = picture_message(question, None), picture_message(question, picture, mime_type)
            without = await ask(client, {**settings, "messages": [plain]})
            with_picture = await ask(client, {**settings, "messages": [shown]})
            held = [any(fact in text.lower() for fact in facts) for text in (without, with_picture)]
            verdicts.append(Verdict(question, without, with_picture, held[0], held[1]))
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description="Plain questions with and without a picture attached.")
    parser.add_argument("--image", type=Path, action="append", required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--max-completion-tokens", type=int, default=48)
    verdicts = asyncio.run(compare(parser.parse_args()))
    for verdict in verdicts:
        if not verdict.agrees:
            print(f"DIFFERS  {verdict.question}\n  without: {verdict.without!r}\n  with:    {verdict.with_picture!r}")
    known = [verdict for verdict in verdicts if verdict.fact_without]
    print(f"the base model states the key fact in {len(known)} of {len(verdicts)}")
    print(f"with a picture it is stated in {sum(v.fact_with for v in known)} of those {len(known)}")
    print(f"answered as without a picture: {sum(v.agrees for v in verdicts)} of {len(verdicts)}")


if __name__ == "__main__":
    main()
