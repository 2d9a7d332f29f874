"""Parity of ImageBind-LLM: fusion, visual cache, bind network, conditioned decoder, greedy ids and loss.

B rows, E embedding width, k neighbours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.parity_families import Output
from benchmarks.parity_families.decoding import (
    Decoding,
    Reader,
    decoder_outputs,
    max_steps_of,
    training_outputs,
    uncovered,
)
from benchmarks.parity_families.merged import merged_decoder, overlay
from cache_index.index import FaissIndex, read_index
from cache_index.visual_cache import RefineSettings, VisualCache, normalize, softmax
from core.types import FloatArray
from engine.encoding.fusion import fuse
from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.llama.model import Llama

EMBEDDING_TOLERANCE = 1e-4
_WEIGHT = re.compile(r"([A-Z][a-z]+) (-?\d+\.?\d*)")  # "Image 0.7 (image_emb) + Audio 0.3"


def broadcast_refine(queries: FloatArray, index: FaissIndex, settings: RefineSettings) -> FloatArray:
    """Return `(B, B, E)`: the cache as the reference computes it, right for B = 1 only.

    Every row of attention is multiplied with every row's neighbours; kept to reproduce the reference's numbers.
    """
    similarities, ids = index.search(queries, settings.top_k)
    neighbours = index.vectors(ids.ravel()).reshape(*ids.shape, -1)  # (B, k, E)
    attention = softmax(similarities * np.float32(settings.inverse_temperature))  # (B, k)
    prototypes = normalize(np.einsum("rk,bke->bre", attention, neighbours))  # (B, B, E)
    return normalize((1 - settings.weight) * queries + settings.weight * prototypes)


class Scene:
    """One fixture: its adapter, index, named mixtures of inputs and the refine settings their names carry."""

    def __init__(self, folder: Path) -> None:
        self.config: Mapping[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.state = load_file(folder / "weights.safetensors")
        self.inputs = load_file(folder / "inputs.safetensors")
        self.expected = load_file(folder / "outputs.safetensors")
        self.adapter = ImageBindLLMAdapter.from_reference(self.state)
        self.index = read_index(folder / "knn.index") if (folder / "knn.index").is_file() else None

    def shares(self, name: str) -> dict[str, float]:
        """Return modality to weight of a mixture, read from the fixture's prose; a bare `image_only` has weight 1."""
        if name.endswith("_only"):
            return {name.removesuffix("_only"): 1.0}
        prose = self.config["weights_used"]
        found = _WEIGHT.findall(prose.get(name, "")) or _WEIGHT.findall(prose["mix"])
        return {kind.lower(): float(weight) for kind, weight in found}

    def settings(self, name: str) -> RefineSettings:
        """Return the fixture's refine settings, with `_k3_t5_w0.2` in a name taking precedence."""
        knn = self.config["knn"]
        values = {"k": knn["cache_size"], "t": knn["cache_t"], "w": knn["cache_weight"]}
        values |= dict(re.findall(r"_([ktw])(\d+\.?\d*)", name))
        k, t, w = int(values["k"]), float(values["t"]), float(values["w"])
        return RefineSettings(top_k=k, inverse_temperature=t, weight=w)

    def fused(self, name: str) -> FloatArray:
        """Return the embedding that enters the bind network, `(B, 1, E)`, or `(B, B, 1, E)` through the cache."""
        batch, _, rest = name.partition("_") if name.startswith("batch") else ("", "", name)
        suffix = f"_emb_b{batch.removeprefix('batch')}" if batch else "_emb"
        mixture = re.sub(r"_k\d.*$", "", rest.removeprefix("knn_"))
        shares = self.shares(mixture)
        vectors = [self.inputs[kind + suffix].numpy() for kind in shares]  # M of (B, E)
        rows = np.stack([fuse(row, list(shares.values())) for row in zip(*vectors, strict=True)])  # (B, E)
        if not rest.startswith("knn_"):
            return rows[:, None]
        assert self.index is not None
        settings = self.settings(name)
        if len(rows) > 1:
            return broadcast_refine(rows, self.index, settings)[:, :, None]
        return VisualCache(self.index).refine(rows, settings)[None, :, None]

    def reader(self, decoder: Llama, name: str) -> Reader:
        """Return a reader under the condition of one mixture."""
        vectors = torch.from_numpy(self.fused(name)).flatten(0, -2)
        return Reader(decoder, decoder.project_condition(self.adapter.prompts(vectors)))


def _visual_outputs(scene: Scene) -> Iterator[Output]:
    """Yield the fused vector, the tokens after each stage of the bind network, and the neighbours."""
    names = {match[1] for name in scene.expected if (match := re.match(r"visual\.(.+)\.fused$", name))}
    for name in sorted(names):
        fused = scene.fused(name)
        stages = {f"visual.{name}.fused": torch.from_numpy(fused)}
        x = stages[f"visual.{name}.after_proj"] = scene.adapter.bind.proj(stages[f"visual.{name}.fused"])
        for number, block in enumerate(scene.adapter.bind.blocks, start=1):
            x = block(x)
            last = number == len(scene.adapter.bind.blocks)
            stages[f"visual.{name}" if last else f"visual.{name}.after_bridge{number}"] = x
        for stage, value in stages.items():
            if stage in scene.expected:
                yield stage, value.numpy(), scene.expected[stage].numpy(), EMBEDDING_TOLERANCE
    if scene.index is not None and "knn.topk_ids" in scene.expected:
        scores, ids = scene.index.search(scene.fused("mix")[:, 0], scene.settings("mix").top_k)
        yield "knn.topk_ids", ids, scene.expected["knn.topk_ids"].numpy(), 0.0
        yield "knn.topk_sims", scores, scene.expected["knn.topk_sims"].numpy(), EMBEDDING_TOLERANCE


def _training_outputs(scene: Scene, decoder: Llama) -> Iterator[Output]:
    """Yield the teacher-forced loss and the logits of the recorded row, conditioned on the image alone."""
    images = re.search(r"\w+_emb\w*", scene.config["weights_used"]["train"])
    assert images is not None, "the fixture says which embeddings its training rows used"
    rows = np.stack([fuse([row], [1.0]) for row in scene.inputs[images[0]].numpy()])
    reader = Reader(decoder, decoder.project_condition(scene.adapter.prompts(torch.from_numpy(rows))))
    yield from training_outputs(reader, scene.inputs, scene.expected)


@torch.inference_mode()
def outputs(folder: Path) -> Iterator[Output]:
    """Yield every output of one ImageBind-LLM fixture."""
    scene = Scene(folder)
    decoder = merged_decoder(overlay(scene.state), scene.config["llama_params"], scene.adapter)
    decoding = Decoding(
        reader_of=lambda name: scene.reader(decoder, name or "mix"),
        prompts={name: ids for name, ids in scene.inputs.items() if "prompt" in name},
        batch_of=lambda batch: scene.reader(decoder, f"{batch}_mix"),
        max_steps=max_steps_of(scene.config, scene.expected),
    )
    covered = set()
    for part in (
        _visual_outputs(scene),
        decoder_outputs(decoding, scene.expected),
        _training_outputs(scene, decoder),
    ):
        for output in part:
            covered.add(output[0])
            yield output
    yield from uncovered(scene.expected, covered)
