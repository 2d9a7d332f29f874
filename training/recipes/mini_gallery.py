"""Build the gallery that `mini` ships: an index of pictures and names in its joint space, for search and for the cache.

    python -m training.recipes.mini_gallery DATA [--out models/mini/gallery]

DATA holds `caltech101_112.zip`, `fluent_emoji_3d_112.zip` and `fluent_emoji_names.json`. The gallery holds embeddings:
of every Fluent emoji, of the first training photographs of each Caltech-101 class that `mini` was trained on (none that
validates or tests it, none of the classes left out), each with a thumbnail, and of every name that an encoder of `mini`
knows. Run it again whenever a picture encoder has changed: a minute or two on two cores.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from cache_index.index import train_index
from cache_index.reader import ItemMetadata
from cache_index.store import IndexStore, unit_rows
from core.types import DecodedMedia, FloatArray, Modality, ModalityEncoder
from media.thumbnail import thumbnail_uri
from models.bundle import ModelBundle
from models.mini.assets import GALLERY, VOCABULARY
from models.mini.loader import load_mini
from training.recipes.mini_pictures import choose_unseen, read_vocabulary, split_of, spoken

PHOTOS_PER_CLASS = 12
BATCH = 16
Picture = tuple[DecodedMedia, ItemMetadata]


def emoji(data: Path) -> Iterator[Picture]:
    """Yield every Fluent emoji with its name; the code point finds its picture again."""
    names = json.loads((data / "fluent_emoji_names.json").read_text(encoding="utf-8"))
    with zipfile.ZipFile(data / "fluent_emoji_3d_112.zip") as stored:
        for file in sorted(stored.namelist()):
            codepoint = Path(file).stem
            extra = {"source": "fluent-emoji", "codepoint": codepoint, "emoji": _characters(codepoint)}
            yield _decoded(stored.read(file)), ItemMetadata(file=file, label=names[codepoint]["name"], extra=extra)


def photographs(data: Path, per_class: int, seed: int = 0) -> Iterator[Picture]:
    """Yield the first training photographs of each class that `mini` was trained on; `seed` as in training."""
    imagenet, _ = read_vocabulary(VOCABULARY)
    with zipfile.ZipFile(data / "caltech101_112.zip") as stored:
        files = sorted(name for name in stored.namelist() if name.endswith(".webp"))
        classes = sorted({Path(name).parent.name for name in files}, key=str.lower)
        unseen = set(choose_unseen(classes, imagenet, seed))
        for class_name in (name for name in classes if name not in unseen):
            own = (file for file in files if Path(file).parent.name == class_name and _is_for_training(file))
            for file in islice(own, per_class):
                content = stored.read(file)
                small = thumbnail_uri(io.BytesIO(content))
                extra = {"source": "caltech-101"} | ({"thumbnail": small} if small else {})
                yield _decoded(content), ItemMetadata(file=file, label=spoken(class_name), extra=extra)


def known_names(bundle: ModelBundle) -> list[str]:
    """Return every name that an encoder of the model may give, each once."""
    names = (name for encoder in bundle.encoders.values() for name in getattr(encoder, "names", ()))
    return list(dict.fromkeys(names))


def embed_pictures(encoder: ModalityEncoder, pictures: Iterable[Picture]) -> tuple[FloatArray, list[ItemMetadata]]:
    """Return the embeddings `(N, E)` of pictures, and what is known of each."""
    rows: list[FloatArray] = []
    items: list[ItemMetadata] = []
    waiting = iter(tqdm(pictures, unit=" pictures"))
    while batch := list(islice(waiting, BATCH)):
        rows += [found.vector for found in encoder.encode([encoder.preprocess(media) for media, _ in batch])]
        items += [item for _, item in batch]
    return np.stack(rows), items


def embed_names(encoder: ModalityEncoder, names: Sequence[str]) -> FloatArray:
    """Return the embeddings `(N, E)` of bare names."""
    rows: list[FloatArray] = []
    for start in tqdm(range(0, len(names), BATCH), unit=" batches of names"):
        texts = [np.frombuffer(name.encode(), np.uint8) for name in names[start : start + BATCH]]
        batch = [encoder.preprocess(DecodedMedia(container="text", array=text)) for text in texts]
        rows += [found.vector for found in encoder.encode(batch)]
    return np.stack(rows)


def build_gallery(bundle: ModelBundle, data: Path, out: Path, per_class: int, every: int = 1) -> dict[str, int]:
    """Write the gallery, or each n-th picture and name of it, and return how many items each source has."""
    parts = [
        embed_pictures(bundle.encoders[Modality.IMAGE], islice(source, 0, None, every))
        for source in (emoji(data), photographs(data, per_class))
    ]
    names = known_names(bundle)[::every]
    parts.append(
        (
            embed_names(bundle.encoders[Modality.TEXT], names),
            [ItemMetadata(label=name, extra={"source": "name"}) for name in names],
        )
    )
    rows = unit_rows(np.concatenate([vectors for vectors, _ in parts]))
    items = [item for _, group in parts for item in group]
    index = train_index("flat_fp16", len(rows), rows.shape[1], rows)
    index.add(rows)
    IndexStore(out).replace(bundle.joint_space_id, "flat_fp16", index, items)
    return {str(group[0].extra["source"]): len(group) for _, group in parts}


def _decoded(content: bytes) -> DecodedMedia:
    return DecodedMedia(container="webp", array=np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def _is_for_training(file: str) -> bool:
    return split_of(int(re.findall(r"\d+", Path(file).stem)[-1])) == "train"


def _characters(codepoint: str) -> str:
    return "".join(chr(int(piece, 16)) for piece in codepoint.split("-"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Build the gallery that mini ships.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=GALLERY)
    parser.add_argument("--photos-per-class", type=int, default=PHOTOS_PER_CLASS)
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture and name alone")
    arguments = parser.parse_args(argv)
    model = load_mini(torch.float32)
    counts = build_gallery(model, arguments.data, arguments.out, arguments.photos_per_class, arguments.every)
    size_bytes = sum(path.stat().st_size for path in arguments.out.iterdir())
    for source, count in counts.items():
        print(f"{source:<14} {count:>6}")
    print(f"{arguments.out} has {size_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
