"""Ask "What is this?" about every shape of a `class/file` tree and count the right names.

    python -m benchmarks.shapes DIR --url http://127.0.0.1:8000 [--limit N] [--without-shape] [--cache]
    python -m benchmarks.shapes DIR --encoder-only

`python -m training.recipes.mini_shapes_sets` writes such trees. Files go through real multipart uploads.
`--encoder-only` skips the chat: the name nearest to the embedding, as the adapter sees it, and how well the confidence
is calibrated. A folder that is no class ("unfamiliar") has no right answer: what counts there is how often the answer
is hedged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from rich.progress import Progress

from benchmarks.chat_client import CHAT_PATH, REQUEST_TIMEOUT_S
from benchmarks.naming import QUESTION, Answer, judge, report
from core.errors import AppError
from core.types import DecodedMedia, Modality
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.points import decode_points
from media.sniff import resolve
from models.mini.assets import POINT_WEIGHTS
from models.mini.points import MiniPointEncoder, load_point_encoder

SUFFIXES = {".ply", ".obj", ".off", ".stl", ".xyz", ".pts", ".pcd", ".npy", ".glb"}
OTHER_NAMES: dict[str, list[str]] = {
    "airplane": ["plane", "aircraft", "airliner", "jet"], "car": ["automobile", "vehicle"], "truck": ["lorry"],
    "bicycle": ["bike"], "motorcycle": ["motorbike", "scooter"], "ship": ["boat"], "sailboat": ["boat", "ship"],
    "office chair": ["chair"], "armchair": ["chair", "sofa"], "chair": ["seat"], "desk": ["table"], "sofa": ["couch"],
    "table": ["desk"], "bookshelf": ["shelf", "bookcase"], "cabinet": ["cupboard", "dresser", "wardrobe"],
    "stairs": ["staircase", "ladder"], "mug": ["cup"], "pot": ["pan"], "wine glass": ["glass"],
    "potted plant": ["plant", "flower"], "monitor": ["screen", "television"], "cell phone": ["phone"],
    "pistol": ["gun"], "rifle": ["gun"], "person": ["human", "man", "woman"], "head": ["face"], "ball": ["sphere"],
    "ring": ["torus"], "tower": ["building"], "house": ["building"], "can": ["tin"], "pillow": ["cushion"],
}  # fmt: skip
SURE = 0.5


def list_shapes(folder: Path, limit: int | None, seed: int) -> list[Path]:
    """Return the shapes of a `class/file` tree in order; with a limit, an even random draw of that many."""
    shapes = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    if limit is None or limit >= len(shapes):
        return shapes
    return sorted(random.Random(seed).sample(shapes, limit))


async def ask_all(arguments: argparse.Namespace, shapes: Sequence[Path]) -> list[Answer]:
    """Ask about every shape over multipart, some at a time; a file that is refused counts as wrong."""
    limiter = asyncio.Semaphore(arguments.concurrency)
    form = {"prompt": arguments.question, "model": arguments.model, "temperature": "0", "max_completion_tokens": "48"}
    if arguments.cache:
        form["bind"] = json.dumps({"cache": {"enabled": True}})
    with Progress() as progress:
        bar = progress.add_task("shapes", total=len(shapes))
        async with httpx.AsyncClient(base_url=arguments.url, timeout=httpx.Timeout(REQUEST_TIMEOUT_S)) as client:

            async def ask_one(shape: Path) -> Answer:
                files = None if arguments.without_shape else part_of(shape)
                async with limiter:
                    reply = await client.post(CHAT_PATH, data=form, files=files)
                progress.advance(bar)
                if reply.is_server_error:
                    raise SystemExit(f"the server could not answer: {reply.text}")
                body = reply.json()
                text = body["choices"][0]["message"]["content"] if reply.is_success else body["error"]["message"]
                name = shape.parent.name
                return judge(f"{name}/{shape.name}", name, text, OTHER_NAMES.get(name, []))

            return await asyncio.gather(*(ask_one(shape) for shape in shapes))


def part_of(shape: Path) -> dict[str, tuple[str, bytes]]:
    """Return the multipart field of one file."""
    return {"point_cloud": (shape.name, shape.read_bytes())}


def decode(shape: Path) -> DecodedMedia:
    """Decode one file as the server does."""
    data = shape.read_bytes()
    _, container = resolve(data, declared_type=None, expected=Modality.POINT_CLOUD)
    job = DecodeJob(container=container, modality=Modality.POINT_CLOUD, limits=MediaLimits(), options=DecodeOptions())
    return decode_points(data, job)


def encode_all(shapes: Sequence[Path], encoder: MiniPointEncoder) -> tuple[list[Answer], list[float]]:
    """Name every shape by the name nearest to its embedding, and return the confidences beside."""
    answers, confidences, seconds = [], [], []
    for shape in shapes:
        try:
            row = encoder.preprocess(decode(shape))
        except AppError as error:
            print(f"{shape}: {error}")
            continue
        started = time.perf_counter()
        (embedding,) = encoder.encode([row])
        seconds.append(time.perf_counter() - started)
        nearest = encoder.names[int(np.argmax(encoder.name_vectors @ embedding.vector))]
        confidence = float(embedding.confidence or 0.0)
        said = nearest if confidence >= SURE else f"it may be {nearest}"
        answers.append(
            judge(f"{shape.parent.name}/{shape.name}", shape.parent.name, said, OTHER_NAMES.get(shape.parent.name, []))
        )
        confidences.append(confidence)
    print(f"encode               {1000 * float(np.median(seconds)):.0f} ms median")
    return answers, confidences


def print_calibration(answers: Sequence[Answer], confidences: Sequence[float]) -> None:
    """Print how often the nearest name is right in each fifth of the confidence."""
    trust, right = np.array(confidences), np.array([answer.is_right for answer in answers])
    print("confidence     shapes  mean  right")
    for low in np.arange(0, 1, 0.2):
        chosen = (trust >= low) & (trust < low + 0.2 + 1e-6)
        if chosen.any():
            share = f"{trust[chosen].mean():5.2f} {100 * right[chosen].mean():5.1f}%"
            print(f"{low:.1f} to {low + 0.2:.1f}     {chosen.sum():>6} {share}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the shapes that are named rightly.")
    parser.add_argument("folder", type=Path, help="a tree of class/file")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--encoder-only", action="store_true", help="no server: the name nearest to the embedding")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--limit", type=int, help="ask about this many shapes, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw that --limit makes")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--without-shape", action="store_true", help="the control: condition off")
    parser.add_argument("--cache", action="store_true", help="let the visual cache refine the embedding")
    parser.add_argument("--result", type=Path, help="write scores and answers here as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    shapes = list_shapes(arguments.folder, arguments.limit, arguments.seed)
    if not shapes:
        raise SystemExit(f"{arguments.folder} has no shapes; expected class/file with {sorted(SUFFIXES)}")
    if arguments.encoder_only:
        answers, confidences = encode_all(shapes, load_point_encoder(POINT_WEIGHTS))
        result = report(answers)
        print_calibration(answers, confidences)
    else:
        result = report(asyncio.run(ask_all(arguments, shapes)))
    if arguments.result:
        arguments.result.write_text(
            json.dumps({**result, "arguments": {k: str(v) for k, v in vars(arguments).items()}}, indent=1)
        )


if __name__ == "__main__":
    main()
