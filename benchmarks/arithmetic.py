"""Embedding arithmetic against a running server: what blends mean, in neighbours and in chat.

    bindchat serve &
    python -m benchmarks.arithmetic --draw docs/images/arithmetic.png

Each case is a sum of media. Its embedding comes from `/v1/embeddings` with `blend`, its nearest names from the same
server's embeddings of a vocabulary, and its answer from `/v1/chat/completions` with the same parts. The name tests are
sums of words; they are right when the expected word is nearest among the candidates, the summands left out. Chat, which
knows thousands of words, is asked about them too: its answer is right when it holds the expected word.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from core.naming import contains_name

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "docs" / "samples"
VOCABULARY = ROOT / "models" / "mini" / "vocabulary.json"
QUESTION = "What is this?"
BATCH = 64
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Term:
    """One medium of a sum: a file of docs/samples by its name, or words in quotes."""

    what: str
    weight: float = 1.0

    @property
    def part(self) -> dict[str, Any]:
        """Return the content part."""
        if self.what.startswith('"'):
            return {"type": "bind_text", "text": self.what.strip('"'), "weight": self.weight}
        kind = {".ogg": "audio_url", ".mp4": "video_url"}.get(Path(self.what).suffix, "image_url")
        encoded = base64.b64encode((SAMPLES / self.what).read_bytes()).decode("ascii")
        return {"type": kind, kind: {"url": f"data:application/octet-stream;base64,{encoded}"}, "weight": self.weight}


def term(text: str) -> Term:
    """Return the term that `-0.5*coffee.jpg`, `cat.jpg` or `-"tea"` writes."""
    sign = -1.0 if text.startswith("-") else 1.0
    factor, star, what = text.removeprefix("-").partition("*")
    return Term(what, sign * float(factor)) if star else Term(factor, sign)


CASES: tuple[tuple[str, tuple[str, ...]], ...] = (  # the sum, and the words that a good answer holds
    ("beach.webp dog_bark.ogg", ("beach|sea|shore", "dog")),
    ('beach.webp "dog"', ("beach|sea|shore", "dog")),
    ("cat.jpg coffee.jpg", ("cat", "espresso|coffee|cup")),
    ('cat.jpg "piano"', ("cat", "piano")),
    ("cat_then_coffee.mp4", ("cat", "espresso|coffee|cup")),
    ('dog.webp -"dog" "cat"', ("cat",)),
    ('"king" -"man" "woman"', ("queen",)),
)
NAME_TESTS: tuple[tuple[str, str], ...] = (
    ('"king" -"man" "woman"', "queen"), ('"prince" -"man" "woman"', "princess"), ('"actor" -"man" "woman"', "actress"),
    ('"uncle" -"man" "woman"', "aunt"), ('"boy" -"man" "woman"', "girl"), ('"bull" -"man" "woman"', "cow"),
    ('"puppy" -"dog" "cat"', "kitten"), ('"calf" -"cow" "horse"', "foal"), ('"lamb" -"sheep" "goat"', "kid goat"),
    ('"Paris" -"France" "Italy"', "Rome"), ('"Tokyo" -"Japan" "China"', "Beijing"),
    ('"sushi" -"Japan" "Italy"', "pizza"), ('"car" -"road" "water"', "boat"), ('"boat" -"water" "air"', "airplane"),
    ('"helmet" -"head" "hand"', "glove"), ('"shoe" -"foot" "hand"', "glove"), ('"violin" -"bow" "key"', "piano"),
    ('"bee" -"honey" "silk"', "silkworm"), ('"cup" -"coffee" "wine"', "wine glass"), ('"snow" -"cold" "warm"', "rain"),
)  # fmt: skip


class Server:
    """The endpoints that a sum is asked about."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def embed(self, inputs: Sequence[Any], *, blend: bool = False) -> Rows:
        """Return one row `(n, E)` per input, or one for all when they are blended."""
        body = {"input": list(inputs), "blend": blend}
        answer = self._client.post("/v1/embeddings", json=body).raise_for_status().json()
        return np.array([row["embedding"] for row in answer["data"]], dtype=np.float32)

    def answer(self, parts: Sequence[dict[str, Any]]) -> str:
        """Return what the chat says."""
        content = [{"type": "text", "text": QUESTION}, *parts]
        body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 40}
        answer = self._client.post("/v1/chat/completions", json=body).raise_for_status().json()
        return str(answer["choices"][0]["message"]["content"])


def nearest(sums: Rows, vectors: Rows, names: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
    """Return the k nearest names of each row with their cosines, `vectors` `(K, E)` being of unit norm."""
    unit = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    scores = unit @ vectors.T  # (n, K)
    order = np.argsort(-scores, axis=1)[:, :k]
    return [
        [(names[place], float(row[place])) for place in places] for row, places in zip(scores, order, strict=True)
    ]  # fmt: skip


def run_cases(server: Server, names: Sequence[str], vectors: Rows) -> list[dict[str, Any]]:
    """Return each case with its neighbours and its answer; a refused one holds the server's sentence."""
    found = []
    for written, wanted in CASES:
        parts = [term(text).part for text in written.split(" ")]
        try:
            (close,) = nearest(server.embed(parts, blend=True), vectors, names, 5)
            answer = server.answer(parts)
        except httpx.HTTPStatusError as error:
            found.append({"sum": written, "refused": error.response.json()["error"]["message"]})
            continue
        text, near = answer.lower(), " ".join(name for name, _ in close).lower()
        named, neighbours = ([any(w in place for w in word.split("|")) for word in wanted] for place in (text, near))
        found.append({"sum": written, "answer": answer, "nearest": close, "named": named, "in_nearest": neighbours})
    return found


def run_name_tests(server: Server) -> list[dict[str, Any]]:
    """Return each sum of words with the candidate it is nearest to and what the chat says about it."""
    summands = sorted({term(text).what.strip('"') for written, _ in NAME_TESTS for text in written.split(" ")})
    candidates = sorted({expected for _, expected in NAME_TESTS} | set(summands))
    vectors = server.embed(candidates)
    found = []
    for written, expected in NAME_TESTS:
        terms = [term(text) for text in written.split(" ")]
        own = {t.what.strip('"') for t in terms}
        kept = [place for place, name in enumerate(candidates) if name not in own]
        total = server.embed([t.part for t in terms], blend=True)
        ((best, cosine),) = nearest(total, vectors[kept], [candidates[place] for place in kept], 1)[0]
        said = server.answer([t.part for t in terms])
        found.append({"sum": written, "expected": expected, "found": best, "cosine": cosine, "said": said})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--names", type=int, default=1000, help="how many names of the vocabulary are neighbours")
    parser.add_argument("--draw", type=Path, help="where to draw the cases")
    options = parser.parse_args()
    with httpx.Client(base_url=options.url, timeout=300) as client:
        server = Server(client)
        stored = json.loads(VOCABULARY.read_text(encoding="utf-8"))
        names = list(dict.fromkeys(entry["name"] for entry in (*stored["nouns"], *stored["imagenet"])))[
            -options.names :
        ]
        vectors = np.concatenate([server.embed(names[at : at + BATCH]) for at in range(0, len(names), BATCH)])
        cases = run_cases(server, names, vectors)
        tests = run_name_tests(server)
    for case in cases:
        print(json.dumps(case, ensure_ascii=False))
    for test in tests:
        print(f"{test['sum']:34} -> {test['found']:14} (wanted {test['expected']})  {test['said']}")
    right = sum(test["found"] == test["expected"] for test in tests)
    said = sum(contains_name(test["said"], test["expected"]) for test in tests)
    print(f"sums of words: {right} of {len(tests)}, said in chat: {said} of {len(tests)}; answers that name all: "
          f"{sum(all(case.get('named', [False])) for case in cases)} of {len(cases)}")  # fmt: skip
    if options.draw:
        draw(cases, options.draw)


def draw(cases: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw each sum, its nearest names and its answer as one row of a picture."""
    import matplotlib.pyplot as plt
    from PIL import Image

    shown = [case for case in cases if "answer" in case]
    figure, axes = plt.subplots(len(shown), 1, figsize=(9, 1.5 * len(shown)))
    for axis, case in zip(np.atleast_1d(axes), shown, strict=True):
        axis.set(xlim=(0, 9), ylim=(0, 1))
        axis.axis("off")
        for place, text in enumerate(case["sum"].split(" ")):
            one = term(text)
            sign = "−" if one.weight < 0 else "+" if place else ""
            axis.text(place * 1.2, 0.5, sign, ha="right", va="center", fontsize=16)
            if Path(one.what).suffix in (".jpg", ".webp"):
                picture = Image.open(SAMPLES / one.what).convert("RGBA")
                axis.imshow(picture, extent=(place * 1.2 + 0.05, place * 1.2 + 1.05, 0.02, 0.98), aspect="auto")
            else:
                axis.text(place * 1.2 + 0.55, 0.5, one.what, ha="center", va="center", fontsize=9, wrap=True)
        near = ", ".join(f"{name} {score:.2f}" for name, score in case["nearest"][:4])
        axis.text(3.9, 0.68, case["answer"], va="center", fontsize=11)
        axis.text(3.9, 0.3, f"nearest: {near}", va="center", fontsize=8, color="0.35")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
