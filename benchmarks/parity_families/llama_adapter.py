"""Parity of LLaMA-Adapter V1, V2 multimodal and V2 chat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity_families import Output
from benchmarks.parity_families.decoding import (
    LOGITS_TOLERANCE,
    Decoding,
    Reader,
    decoder_outputs,
    max_steps_of,
    training_outputs,
    uncovered,
)
from benchmarks.parity_families.merged import merged_decoder, overlay
from models.adapters.llama_adapter_v1 import StaticPromptAdapter
from models.adapters.llama_adapter_v2 import LlamaAdapterV2
from models.adapters.options import AdapterOptions
from models.clip import ClipVisualTower

EMBEDDING_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Fixture:
    """The files of one fixture."""

    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> Fixture:
        tensors = (load_file(folder / f"{name}.safetensors") for name in ("weights", "inputs", "outputs"))
        return cls(json.loads((folder / "config.json").read_text(encoding="utf-8")), *tensors)

    def decoding(self, reader: Reader) -> Decoding:
        """Describe decoder outputs whose only condition is that of `reader`."""
        prompts = {name: ids for name, ids in self.inputs.items() if "prompt" in name}
        return Decoding(lambda _: reader, prompts, lambda _: reader, max_steps_of(self.config, self.expected))

    def static_reader(self, *, raw_gates: bool) -> Reader:
        """Return the decoder under its static prompts, two equal rows; no table where nothing is adapted."""
        args = self.config["model_args"]
        options = AdapterOptions(num_static_tokens=int(args["adapter_len"]))
        adapter = StaticPromptAdapter.from_reference(self.state, options)
        decoder = merged_decoder(overlay(self.state), args, adapter, raw_gates=raw_gates)
        if not adapter.num_tokens:
            return Reader(decoder)
        rows = max(len(self.inputs["train_tokens"]), sum("prompt" in name for name in self.inputs))
        return Reader(decoder, decoder.project_condition(adapter.prompts().expand(rows, -1, -1, -1)))


def _complete(fixture: Fixture, parts: Iterator[Output]) -> Iterator[Output]:
    """Pass the outputs on, then fail every recorded output that was not among them."""
    covered = set()
    for output in parts:
        covered.add(output[0])
        yield output
    yield from uncovered(fixture.expected, covered)


@torch.inference_mode()
def v1_outputs(folder: Path) -> Iterator[Output]:
    """Yield V1's outputs: raw gates for what the inference code made, tanh for what the training code made."""
    fixture = Fixture.read(folder)
    yield from _complete(fixture, _v1_parts(fixture))


def _v1_parts(fixture: Fixture) -> Iterator[Output]:
    inference, training = (fixture.static_reader(raw_gates=raw) for raw in (True, False))
    yield from decoder_outputs(fixture.decoding(inference), fixture.expected, prefix="infer_")
    yield from training_outputs(training, fixture.inputs, fixture.expected)
    for name, value in fixture.expected.items():
        if name.startswith("train_logits."):
            ids = fixture.inputs[name.removeprefix("train_logits.")]
            yield name, training.full_logits(ids).numpy(), value.numpy(), LOGITS_TOLERANCE
        elif name == "check.infer_with_tanh_gate_vs_train_max_diff":
            difference = _tanh_gate_difference(inference, training, fixture.inputs["prompt2"])
            yield name, np.full(value.shape, difference), value.numpy(), LOGITS_TOLERANCE


def _tanh_gate_difference(inference: Reader, training: Reader, ids: Tensor) -> float:
    """Return how far the inference form is from the training form once its raw gates are replaced by their tanh."""
    assert inference.table is not None and inference.table.gates is not None
    squashed = replace(inference.table, gates=inference.table.gates.tanh())
    logits = Reader(inference.decoder, squashed).full_logits(ids)
    return float((logits - training.full_logits(ids)).abs().max())


@torch.inference_mode()
def chat_outputs(folder: Path) -> Iterator[Output]:
    """Yield V2 chat's outputs: scale and bias merged, with or without static prompts."""
    fixture = Fixture.read(folder)
    reader = fixture.static_reader(raw_gates=False)
    yield from _complete(fixture, _decoder_parts(fixture, reader))


def _decoder_parts(fixture: Fixture, reader: Reader) -> Iterator[Output]:
    yield from decoder_outputs(fixture.decoding(reader), fixture.expected)
    yield from training_outputs(reader, fixture.inputs, fixture.expected)


@torch.inference_mode()
def v2_multimodal_outputs(folder: Path) -> Iterator[Output]:
    """Yield V2 multimodal's outputs from the images on."""
    fixture = Fixture.read(folder)
    yield from _complete(fixture, _v2_parts(fixture))


def _v2_parts(fixture: Fixture) -> Iterator[Output]:
    config = fixture.config
    options = AdapterOptions(
        num_visual_heads=int(config["constructor_kwargs"]["v_num_heads"]),
        num_decoder_layers=int(config["llama_params"]["n_layers"]),
    )
    tower = ClipVisualTower.from_reference(
        fixture.state, num_heads=int(config["tiny_clip_visual"]["heads"]), prefix="clip.visual."
    )
    adapter = LlamaAdapterV2.from_reference(fixture.state, options)
    clip_tokens = tower(fixture.inputs["images"])
    x = adapter.clip_proj_norm(adapter.clip_proj(clip_tokens))
    stages = {"visual.clip_feats": clip_tokens, "visual.clip_proj_norm": x}
    x = torch.cat((adapter.visual_query.expand(len(x), -1, -1), x), dim=1)
    for number, block in enumerate(adapter.visual_blocks):
        x = stages[f"visual.block{number}_out"] = block(x)
    stages["visual.query"] = adapter.visual_tokens(clip_tokens)
    for name in sorted(stages.keys() & fixture.expected.keys()):
        yield name, stages[name].numpy(), fixture.expected[name].numpy(), EMBEDDING_TOLERANCE
    decoder = merged_decoder(overlay(fixture.state), config["llama_params"], adapter)
    reader = Reader(decoder, decoder.project_condition(adapter.prompts(clip_tokens)))
    yield from _decoder_parts(fixture, reader)
