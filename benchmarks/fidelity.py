"""Measure what the adapter of `mini` loses: the name the decoder says against the name nearest to its embedding.

    python -m benchmarks.fidelity [SETS] [--limit N] [--names training/recipes/mini_names.json]

SETS is a folder that `training.recipes.mini_sets` wrote; its photographs go through the encoder and the decoder in this
process. Without it only the names run: each of the 1000 ImageNet names from its own text embedding. `said` counts
answers to "What is this?" that contain a right name; `nearest` counts embeddings whose nearest name is right; `below`
is the share whose calibrated confidence is below the threshold, `hedged` that of answers which hedge; `gate 0` is the
control with the condition off. `--names` adds the sounds and shapes of that file, each from its text embedding and
asked for in its own words, ImageNet's names asked for as in a film, and blends of two of those names, where `said`
counts answers that hold both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from benchmarks.naming import Answer, judge, list_photos, percent, score
from core.naming import contains_name
from core.types import Condition, DecodedMedia, DecodeRequest, FloatArray, Modality, SamplingParams
from engine.backends import BACKENDS, DecodingConfig
from engine.encoding.fusion import fuse
from models.bundle import ModelBundle
from models.mini.assets import VOCABULARY
from models.mini.encoder import MiniImageEncoder
from models.mini.loader import DOUBT_BELOW, load_mini

QUESTION = "What is this?"
BATCH = 16


@dataclass(frozen=True, slots=True)
class Case:
    """One embedding, the names that are right for it, and the name nearest to it with the words for that one."""

    label: str
    right: tuple[str, ...]
    vector: FloatArray
    nearest: tuple[str, ...]
    confidence: float | None = None
    also_right: tuple[str, ...] = ()  # what a blend holds besides


def name_cases(encoder: MiniImageEncoder, vectors: FloatArray) -> list[Case]:
    """Return the thousand ImageNet names, each with its own text embedding."""
    names = encoder.names[:1000]
    return [Case(name, (name,), vectors[i], (name,)) for i, name in enumerate(names)]


def photo_cases(encoder: MiniImageEncoder, folder: Path, table: dict[str, list[str]], limit: int | None) -> list[Case]:
    """Return the photographs of a tree with what the encoder makes of them."""
    stored = json.loads(VOCABULARY.read_text(encoding="utf-8"))
    words = {name["name"]: name["synonyms"] for name in stored["imagenet"]}
    photos = list_photos(folder, limit, seed=0)
    cases = []
    for start in track(range(0, len(photos), BATCH), description=f"encode {folder.name}"):
        batch = photos[start : start + BATCH]
        pixels = [np.asarray(Image.open(BytesIO(path.read_bytes())).convert("RGB")) for path in batch]
        blended = encoder.blend([encoder.preprocess(DecodedMedia(container="webp", array=array)) for array in pixels])
        for row, path in enumerate(batch):
            name = encoder.names[int(blended.nearest[row, 0])]
            right = (path.parent.name, *table.get(path.parent.name, ()))
            nearest, sureness = (name, *words.get(name, ())), float(blended.confidence[row])
            label = f"{path.parent.name}/{path.name}"
            cases.append(Case(label, right, blended.vectors[row].numpy(), nearest, sureness))
    return cases


def text_cases(bundle: ModelBundle, names: Sequence[str]) -> list[Case]:
    """Return names with the embeddings of their words, as media of other senses come near them."""
    encoder = bundle.encoders[Modality.TEXT]
    media = [DecodedMedia(container="text", array=np.frombuffer(name.encode(), dtype=np.uint8)) for name in names]
    rows = encoder.encode([encoder.preprocess(medium) for medium in media])
    return [Case(name, (name,), row.vector, (name,)) for name, row in zip(names, rows, strict=True)]


def blend_cases(cases: Sequence[Case], count: int) -> list[Case]:
    """Return equal blends of two names each, drawn with a seed, as the engine makes them."""
    rng = random.Random(0)
    pairs = [rng.sample(list(cases), 2) for _ in range(count)]
    return [
        Case(f"{a.label} + {b.label}", a.right, fuse([a.vector, b.vector], [1.0, 1.0]), a.nearest, None, b.right)
        for a, b in pairs
    ]


async def answers_of(bundle: ModelBundle, conditions: Sequence[Condition], question: str) -> list[str]:
    """Return the greedy answers to the question under each condition."""
    tokenizer = bundle.conditioned_tokenizer or bundle.tokenizer
    prompt = tuple(tokenizer.apply_chat_template([{"role": "user", "content": question}]))
    backend = BACKENDS.load("native")(bundle, DecodingConfig(max_slots=32, max_queue=len(conditions), max_context=128))
    await backend.start()
    sampling = SamplingParams(max_tokens=32, temperature=0.0)

    async def answer(position: int, condition: Condition) -> str:
        request = DecodeRequest(request_id=str(position), token_ids=prompt, sampling=sampling, condition=condition)
        return "".join([event.text async for event in backend.generate(request)])

    try:
        return await asyncio.gather(*(answer(i, condition) for i, condition in enumerate(conditions)))
    finally:
        await backend.stop()


def measure(bundle: ModelBundle, title: str, cases: Sequence[Case], gate: float, question: str = QUESTION) -> None:
    """Decode every case and print one row of shares."""
    conditions = [bundle.adapter.condition(case.vector, confidence=case.confidence) if gate else None for case in cases]
    fresh = load_mini(torch.bfloat16)  # a backend rewrites the decoder that it starts on
    texts = asyncio.run(answers_of(fresh, conditions, question))
    said: list[Answer] = [judge(c.label, c.right[0], text, c.right) for c, text in zip(cases, texts, strict=True)]
    said = [
        replace(a, is_right=a.is_right and (not c.also_right or any(contains_name(a.text, n) for n in c.also_right)))
        for a, c in zip(said, cases, strict=True)
    ]
    near = sum(any(contains_name(word, name) for word in c.nearest for name in c.right) for c in cases) / len(cases)
    row = score(said)
    below = sum(c.confidence is not None and c.confidence < DOUBT_BELOW for c in cases) / len(cases)
    shares = " ".join(map(percent, (near, row.accuracy, below, row.hedge_share, row.unhedged_accuracy)))
    print(f"{title:<22} {len(cases):>6}  {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What the decoder says against the name nearest to its embedding.")
    parser.add_argument("sets", type=Path, nargs="?", help="a folder that training.recipes.mini_sets wrote")
    parser.add_argument("--limit", type=int, help="photographs per tree")
    parser.add_argument("--names", type=Path, help="training/recipes/mini_names.json: other senses and blends")
    arguments = parser.parse_args()
    bundle = load_mini(torch.bfloat16)
    encoder = next(iter(bundle.encoders.values()))
    assert isinstance(encoder, MiniImageEncoder)
    print(f"{'set':<22} {'cases':>6}  nearest   said  below hedged right unhedged")
    names = name_cases(encoder, encoder.name_vectors)
    measure(bundle, "1000 names", names, 1.0)
    measure(bundle, "1000 names, gate 0", names[:200], 0.0)
    if arguments.sets:
        table = json.loads((arguments.sets / "synonyms.json").read_text(encoding="utf-8"))
        for tree in ("test", "unseen"):
            measure(bundle, tree, photo_cases(encoder, arguments.sets / tree, table, arguments.limit), 1.0)
    if arguments.names:
        stored = json.loads(arguments.names.read_text(encoding="utf-8"))
        for part, question in (("sounds", "What do you hear?"), ("shapes", "What object is this point cloud?")):
            measure(bundle, part, text_cases(bundle, [entry["name"] for entry in stored[part]]), 1.0, question)
        measure(bundle, "1000 names, filmed", names, 1.0, "What happens in the video?")
        measure(bundle, "200 blends of two", blend_cases(names, 200), 1.0)


if __name__ == "__main__":
    main()
