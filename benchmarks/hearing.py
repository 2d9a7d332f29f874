"""How well `mini` hears: ESC-10's test fold, or a `name/file` tree of other sounds.

    python -m benchmarks.hearing DATA --url http://127.0.0.1:8000 [--cache on|off] [--without-sound]
    python -m benchmarks.hearing DATA --encoder-only tower|yamnet [--retrieval]
    python -m benchmarks.hearing TREE ...

DATA is a folder with `esc10_16k.zip` (fold 5 is asked about, which training never read); any other folder is a tree of
`name/file`. Through chat an answer is right when it holds the class's name or a listed synonym, and hedged as in
`benchmarks.naming`. `--encoder-only` needs no server: right is the name nearest to the embedding. `--retrieval` ranks
the test photographs of `caltech101_112.zip` by their likeness to each sound of a class that has photographs; the
control shuffles which class each sound belongs to.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image
from rich.progress import Progress, track

from benchmarks.chat_client import REQUEST_TIMEOUT_S, ask
from benchmarks.naming import Answer, judge, report
from core.naming import contains_name
from core.types import DecodedMedia, FloatArray, Modality
from media.audio import decode_audio
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.sniff import sniff
from models.mini.audio import MiniAudioEncoder
from models.mini.audio_files import load_audio_encoder
from models.mini.encoder import MiniImageEncoder
from models.mini.loader import load_mini

QUESTION = "What do you hear?"
TEST_FOLD = "5"
SYNONYMS = {  # ESC-10's folder -> what counts as right
    "dog_bark": ("dog", "barking"), "rain": ("rain", "raindrops"), "sea_waves": ("sea waves", "sea", "waves", "ocean"),
    "baby_cry": ("crying baby", "baby", "crying"), "clock_tick": ("clock tick", "clock", "ticking"),
    "person_sneeze": ("sneezing", "sneeze"), "helicopter": ("helicopter",), "chainsaw": ("chainsaw", "chain saw"),
    "rooster": ("rooster", "cock", "chicken"), "fire_crackling": ("crackling fire", "fire", "crackling"),
}  # fmt: skip
PHOTOGRAPHED = {"dog_bark": "dalmatian", "helicopter": "helicopter", "rooster": "rooster"}
PHOTOGRAPHS_A_CLASS = 10
RECALL_AT = 5


@dataclass(frozen=True, slots=True)
class Sound:
    """One clip of the test set: its class, its file's name and bytes."""

    class_name: str
    name: str
    content: bytes

    @property
    def right_names(self) -> Sequence[str]:
        return SYNONYMS.get(self.class_name, (self.class_name.replace("_", " "),))


def read_sounds(folder: Path) -> list[Sound]:
    """Return ESC-10's fold 5 where `esc10_16k.zip` lies in the folder, else every file of its `name/file` tree."""
    archive = folder / "esc10_16k.zip"
    if not archive.exists():
        files = sorted(path for path in folder.glob("*/*") if path.is_file())
        return [Sound(path.parent.name, path.name, path.read_bytes()) for path in files]
    with zipfile.ZipFile(archive) as stored:
        names = sorted(n for n in stored.namelist() if n.endswith(".ogg") and Path(n).name.startswith(TEST_FOLD))
        return [Sound(Path(name).parent.name, Path(name).name, stored.read(name)) for name in names]


def decoded(sound: Sound) -> DecodedMedia:
    """Decode a clip in this process."""
    container = sniff(sound.content)
    if container is None:
        raise SystemExit(f"{sound.name} is in no format that is read")
    job = DecodeJob(container=container, modality=Modality.AUDIO, limits=MediaLimits(), options=DecodeOptions())
    return decode_audio(sound.content, job)


async def ask_all(arguments: argparse.Namespace, sounds: Sequence[Sound]) -> list[Answer]:
    """Ask a running server about every clip."""
    limiter = asyncio.Semaphore(arguments.concurrency)
    with Progress() as progress:
        bar = progress.add_task("sounds", total=len(sounds))
        async with httpx.AsyncClient(base_url=arguments.url, timeout=httpx.Timeout(REQUEST_TIMEOUT_S)) as client:

            async def ask_one(sound: Sound) -> Answer:
                async with limiter:
                    text = await ask(client, _body(arguments, sound))
                progress.advance(bar)
                return judge(f"{sound.class_name}/{sound.name}", sound.class_name, text, sound.right_names)

            return await asyncio.gather(*(ask_one(sound) for sound in sounds))


def _body(arguments: argparse.Namespace, sound: Sound) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": arguments.question}]
    if not arguments.without_sound:
        source = {"data": base64.b64encode(sound.content).decode(), "format": Path(sound.name).suffix.lstrip(".")}
        parts.insert(0, {"type": "input_audio", "input_audio": source})
    body = {
        "model": arguments.model,
        "messages": [{"role": "user", "content": parts}],
        "temperature": 0,
        "max_completion_tokens": 48,
    }
    return body if arguments.cache is None else {**body, "bind": {"cache": {"enabled": arguments.cache == "on"}}}


def name_all(encoder: MiniAudioEncoder, sounds: Sequence[Sound]) -> tuple[list[Answer], FloatArray]:
    """Return the nearest name of every clip as an answer, hedged where the confidence is under one half."""
    answers, vectors = [], []
    for sound in track(sounds, "sounds"):
        embedding = encoder.encode([encoder.preprocess(decoded(sound))])[0]
        name = encoder.names[int((encoder.name_vectors @ embedding.vector).argmax())]
        is_right = any(contains_name(name, right) for right in sound.right_names)
        trust = embedding.confidence or 0.0
        answers.append(
            Answer(
                photo=f"{sound.class_name}/{sound.name}",
                class_name=sound.class_name,
                text=f"{name} ({trust:.2f})",
                is_right=is_right,
                is_hedged=trust < 0.5,
            )
        )
        vectors.append(embedding.vector)
    return answers, np.stack(vectors)


def read_gallery(archive: Path, encoder: MiniImageEncoder) -> tuple[list[str], FloatArray]:
    """Return the classes and embeddings of the first test photographs of every class."""
    with zipfile.ZipFile(archive) as stored:
        by_class: dict[str, list[str]] = {}
        for name in sorted(n for n in stored.namelist() if n.endswith(".webp")):
            if int(re.findall(r"\d+", Path(name).stem)[-1]) % 5 == 0:
                by_class.setdefault(Path(name).parent.name, []).append(name)
        chosen = [name for names in by_class.values() for name in names[:PHOTOGRAPHS_A_CLASS]]
        rows = []
        for name in track(chosen, "photographs"):
            pixels = np.asarray(Image.open(io.BytesIO(stored.read(name))).convert("RGB"))
            row = encoder.preprocess(DecodedMedia(container="webp", array=pixels))
            rows.append(encoder.encode([row])[0].vector)
    return [Path(name).parent.name for name in chosen], np.stack(rows)


def recall(queries: FloatArray, wanted: Sequence[str], gallery: FloatArray, classes: Sequence[str]) -> float:
    """Return the share of queries with a picture of the wanted class among the nearest five."""
    nearest = np.argsort(-(queries @ gallery.T), axis=1)[:, :RECALL_AT]
    hits = [any(classes[i] == name for i in row) for row, name in zip(nearest, wanted, strict=True)]
    return float(np.mean(hits))


def retrieve(data: Path, sounds: Sequence[Sound], vectors: FloatArray, seed: int) -> dict[str, float]:
    """Print and return recall@5 from sound to photograph, and of the shuffled control."""
    encoder = load_mini(torch.bfloat16).encoders[Modality.IMAGE]
    if not isinstance(encoder, MiniImageEncoder):
        raise SystemExit("mini has another picture encoder; this benchmark must be adapted")
    classes, gallery = read_gallery(data / "caltech101_112.zip", encoder)
    rows = [i for i, sound in enumerate(sounds) if sound.class_name in PHOTOGRAPHED]
    wanted = [PHOTOGRAPHED[sounds[i].class_name] for i in rows]
    shuffled = random.Random(seed).sample(wanted, len(wanted))
    figures = {
        "recall": recall(vectors[rows], wanted, gallery, classes),
        "shuffled": recall(vectors[rows], shuffled, gallery, classes),
    }
    print(
        f"sound -> photograph, {len(rows)} sounds, {len(gallery)} photographs of {len(set(classes))} classes: recall@"
        f"{RECALL_AT} {figures['recall']:.1%}, shuffled control {figures['shuffled']:.1%}"
    )
    return figures


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--encoder-only", choices=("tower", "yamnet"), help="no server: names nearest to embeddings")
    parser.add_argument("--retrieval", action="store_true", help="with --encoder-only: sound to photograph")
    parser.add_argument("--cache", choices=("on", "off"), help="ask for or against the visual cache; default: neither")
    parser.add_argument("--without-sound", action="store_true", help="the control: condition off")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the shuffled control")
    parser.add_argument("--result", type=Path, help="write scores and answers here as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    sounds = read_sounds(arguments.data)
    if not sounds:
        raise SystemExit(f"{arguments.data} has neither esc10_16k.zip nor name/file sounds")
    if arguments.encoder_only is None:
        result = report(asyncio.run(ask_all(arguments, sounds)))
    else:
        answers, vectors = name_all(load_audio_encoder(arguments.encoder_only), sounds)
        result = report(answers)
        if arguments.retrieval:
            result["retrieval"] = retrieve(arguments.data, sounds, vectors, arguments.seed)
    if arguments.result:
        arguments.result.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
