"""Choose how the visual cache of a gallery should refine one modality, on media that validate.

    python -m benchmarks.cache_choice TREE [--index models/mini/gallery] [--synonyms names.json] [--limit N]

TREE is `class/file`, of any one modality. Each medium is embedded once; then, for every k, inverse temperature and
blend, the name of the gallery nearest to the refined embedding is compared with the class and its synonyms, as
`benchmarks.naming` compares answers. `off` is the embedding as it is. Nothing is generated: what is measured is whether
the cache moves embeddings toward or away from their right names.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from cache_index.reader import IndexReader, open_index
from cache_index.visual_cache import RefineSettings, VisualCache, normalize
from core.errors import AppError
from core.naming import contains_name
from core.types import FloatArray
from engine.encoding.files import FileEmbedder
from engine.encoding.medium import LocalEncoder
from engine.encoding.runner import EncoderRunner, EncodingConfig
from engine.encoding.service import EncodingService
from engine.intake import MediaIntake
from media.decode import DecodeWorkers
from media.limits import MediaLimits
from models.registry import load_model

TOP_KS, TEMPERATURES, BLENDS = (3, 10, 30), (5.0, 20.0, 60.0), (0.2, 0.5, 0.8)


def named_rows(reader: IndexReader) -> tuple[list[str], FloatArray]:
    """Return the names `(K)` of a gallery and their embeddings `(K, E)`."""
    items = reader.page(after=-1, limit=1 << 30)
    names = {item: kept.label or "" for item, kept in items if kept.extra.get("source") == "name"}
    return list(names.values()), reader.vectors(np.array(list(names), np.int64))


def share_right(
    vectors: FloatArray, names: Sequence[str], name_rows: FloatArray, right: Sequence[Sequence[str]]
) -> float:
    """Return how often the name nearest to a vector is one of the right ones."""
    nearest = (vectors @ name_rows.T).argmax(axis=1)
    return float(np.mean([_is_right(names[place], wanted) for place, wanted in zip(nearest, right, strict=True)]))


def _is_right(name: str, wanted: Sequence[str]) -> bool:
    return any(contains_name(name, other) for other in wanted)


def embed_tree(files: Sequence[Path], model: str, audio_encoder: str) -> tuple[FloatArray, list[Path]]:
    """Return unit embeddings of the files that could be embedded, and these files."""
    bundle = load_model(model, torch.float32, audio_encoder=audio_encoder)
    limits = MediaLimits()
    service = EncodingService(LocalEncoder(DecodeWorkers(limits), EncoderRunner(bundle.encoders, EncodingConfig())))
    with FileEmbedder(service, MediaIntake(limits), encoder_id=bundle.joint_space_id) as embed:
        outcomes = embed(files)
    kept = [(path, row) for path, row in zip(files, outcomes, strict=True) if not isinstance(row, AppError)]
    return normalize(np.stack([row for _, row in kept])), [path for path, _ in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose how a gallery refines one modality.")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--index", type=Path, default=Path("models/mini/gallery"))
    parser.add_argument("--model", default="mini")
    parser.add_argument("--audio-encoder", default="auto", choices=["auto", "tower", "yamnet"])
    parser.add_argument("--synonyms", type=Path, help="JSON: class to list of further right names")
    parser.add_argument("--limit", type=int, help="take this many files, drawn at random")
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.tree.glob("*/*") if path.is_file())
    if arguments.limit is not None and arguments.limit < len(files):
        files = sorted(random.Random(0).sample(files, arguments.limit))
    synonyms: Mapping[str, list[str]] = json.loads(arguments.synonyms.read_text()) if arguments.synonyms else {}
    vectors, kept = embed_tree(files, arguments.model, arguments.audio_encoder)
    right = [[path.parent.name, *synonyms.get(path.parent.name, [])] for path in kept]
    cache = VisualCache(open_index(arguments.index, memory_map=True))
    names, name_rows = named_rows(open_index(arguments.index))
    print(f"{len(kept)} media, {len(names)} names\n{'k':>4} {'inverse temperature':>20} {'blend':>6} {'right':>7}")
    print(f"{'off':>32} {100 * share_right(vectors, names, name_rows, right):6.1f}%")
    for top_k, temperature, blend in product(TOP_KS, TEMPERATURES, BLENDS):
        settings = RefineSettings(top_k=top_k, inverse_temperature=temperature, weight=blend)
        found = share_right(cache.refine(vectors, settings), names, name_rows, right)
        print(f"{top_k:>4} {temperature:>20g} {blend:>6g} {100 * found:6.1f}%")


if __name__ == "__main__":
    main()
