"""LLaMA-Adapter's recipes: disjoint groups that no gradient crosses, early fusion, and folders that a server loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import ConfigError
from core.types import Modality
from models.adapters.llama_adapter_v2 import LlamaAdapterV2, VisualQueryConfig
from models.adapters.options import AdapterOptions
from models.convert import ConversionSizes
from models.llama.condition import ConditionView
from models.registry import load_model
from models.released_encoders import EncoderSizes
from models.tiny import load_tiny
from tests.support.released_files import GOLDEN, split_fixture
from training.adapter_run import read_adapter, run_phase
from training.adapter_trainee import AdapterTrainee, TrainableSet, make_optimizer
from training.instructions import Batch, Example, InstructionSet, alpaca_prompt, embed_images
from training.loop import LoopState
from training.recipes import llama_adapter
from training.recipes.llama_adapter import TUNED, DisjointGroups, disjoint_loss

ROOT = Path(__file__).parents[3]


def early_fusion(num_visual: int = 1, num_static: int = 1) -> AdapterTrainee:
    decoder = load_tiny(torch.float32).decoder
    torch.manual_seed(0)
    config = VisualQueryConfig(
        clip_width=12, width=16, depth=1, num_heads=2, mlp_width=32, num_tokens=3, decoder_width=32,
        num_decoder_layers=2, num_static_layers=num_static, num_visual_layers=num_visual,
    )  # fmt: skip
    trainee = AdapterTrainee(decoder, LlamaAdapterV2(config), TrainableSet(parts=TUNED))
    with torch.no_grad():
        for gate in trainee.gates:
            gate.fill_(0.3)  # at their zero start, prompts behind them would get no gradient
    return trainee


def batch(*, with_images: bool) -> Batch:
    tokens = torch.arange(5, 14)[None].repeat(2, 1)
    return Batch(tokens, tokens.clone(), torch.tensor([0, 1]) if with_images else None)


def media() -> Tensor:
    return torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(1))


def test_no_gradient_crosses_between_the_groups() -> None:
    trainee = early_fusion()
    groups = DisjointGroups(trainee)
    everything = {id(parameter) for parameter in trainee.trained.values()}
    captions, instructions = ({id(p) for p in group} for group in (groups.captions, groups.instructions))
    assert captions | instructions == everything
    assert not captions & instructions
    disjoint_loss(trainee, groups, batch(with_images=True), media()).backward()  # type: ignore[no-untyped-call]
    touched = {id(p) for p in trainee.parameters() if p.grad is not None}
    assert touched == captions
    trainee.zero_grad(set_to_none=True)
    disjoint_loss(trainee, groups, batch(with_images=False), None).backward()  # type: ignore[no-untyped-call]
    touched = {id(p) for p in trainee.parameters() if p.grad is not None}
    assert touched == instructions


def test_gradients_of_two_accumulated_batches_stay_in_their_groups() -> None:
    mixed, pure = early_fusion(), early_fusion()
    groups = DisjointGroups(mixed)
    losses = [disjoint_loss(mixed, groups, batch(with_images=True), media())]
    losses += [disjoint_loss(mixed, groups, batch(with_images=False), None)]
    sum(losses).backward()  # type: ignore[union-attr]
    disjoint_loss(pure, DisjointGroups(pure), batch(with_images=True), media()).backward()  # type: ignore[no-untyped-call]
    for one, two in zip(groups.captions, DisjointGroups(pure).captions, strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert torch.equal(one.grad, two.grad)


def test_mixing_lets_every_batch_change_what_it_uses() -> None:
    trainee = early_fusion()
    disjoint_loss(trainee, None, batch(with_images=True), media()).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in trainee.trained.values())


def test_a_step_on_captions_moves_no_parameter_of_the_instructions() -> None:
    trainee = early_fusion()
    groups = DisjointGroups(trainee)
    optimizer = make_optimizer(trainee.trained.values(), 1e-2, 0.1)
    before = [parameter.detach().clone() for parameter in groups.instructions]
    for _ in range(2):
        disjoint_loss(trainee, groups, batch(with_images=True), media()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert all(torch.equal(a, b) for a, b in zip(before, groups.instructions, strict=True))


def test_overlapping_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        DisjointGroups(early_fusion(num_visual=2, num_static=1))


def test_zero_gates_leave_the_frozen_decoder_as_it_is() -> None:
    trainee = early_fusion()
    with torch.no_grad():
        for gate in trainee.gates:
            gate.zero_()
    tokens = batch(with_images=True).token_ids
    plain = load_tiny(torch.float32).decoder.score(tokens)
    assert trainee.decoder.score(tokens, trainee.condition(media())).allclose(plain, atol=1e-5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    split_fixture("llama_adapter_v1", folder)
    state = load_file(GOLDEN / "llama_adapter_v2_multimodal/lora_bias_newgate/weights.safetensors")
    save_file(
        {key: value for key, value in state.items() if key.startswith("clip.visual.")}, folder / "clip.safetensors"
    )
    sizes = ConversionSizes(adapter=AdapterOptions(), encoder=EncoderSizes(clip_heads=3))
    (folder / "sizes.json").write_text(json.dumps(asdict(sizes)))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(folder / "cat.png")
    entries = [{"instruction": "Say yes.", "output": "yes"}, {"instruction": "Say no.", "output": "no"}]
    (folder / "instructions.json").write_text(json.dumps(entries))
    (folder / "captions.tsv").write_text("url\tcaption\ncat.png\ta cat\n")
    return folder


@pytest.mark.parametrize("form", ["v1", "v2", "v2-chat"])
def test_the_exported_folder_answers_as_the_trainee(
    form: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[AdapterTrainee] = []

    def keeping(trainee: AdapterTrainee, *arguments: Any, **named: Any) -> LoopState:
        kept.append(trainee)
        return run_phase(trainee, *arguments, **named)

    monkeypatch.setattr(llama_adapter, "run_phase", keeping)
    seen = ["--encoder", str(files / "clip.safetensors"), "--captions", str(files / "captions.tsv")]
    sizes = "--num-tokens 4 --num-static-layers 2 --visual-width 12 --visual-depth 1 --visual-heads 3"
    run = "--rate 0.02 --num-epochs 5 --warmup-epochs 0 --batch-size 1 --dtype float32 --no-autocast --device cpu"
    llama_adapter.main([
        form, "--base", str(files / "base"), "--sizes", str(files / "sizes.json"), "--out", str(tmp_path / "run"),
        "--instructions", str(files / "instructions.json"), "--export", str(tmp_path / "served"),
        *(seen if form == "v2" else []), *sizes.split(), *run.split(),
    ])  # fmt: skip
    bundle = load_model(str(tmp_path / "served"), torch.float32)
    example = Example(alpaca_prompt("Say yes."), "yes")
    batch = InstructionSet([example], bundle.tokenizer, max_tokens=512, batch_size=1, seed=0).batch(0)
    vector = None
    if form == "v2":
        flat = embed_images([files / "cat.png"], bundle.encoders[Modality.IMAGE], tmp_path / "cache.safetensors")
        vector = flat
    condition = bundle.adapter.condition(None if vector is None else vector[0].numpy())
    view = None
    if condition is not None:
        prompts = torch.from_numpy(condition.prompts)[None]
        counts = torch.tensor(condition.token_counts or [prompts.shape[2]] * prompts.shape[1])
        mask = (torch.arange(prompts.shape[2]) < counts[:, None])[:, None]  # (L, 1, P)
        table = bundle.decoder.project_condition(prompts, mask=mask)
        view = ConditionView(table, torch.zeros(1, 1, dtype=torch.long))
    logits = bundle.decoder.score(batch.token_ids, view)
    served = torch.nn.functional.cross_entropy(logits[0, :-1], batch.targets[0, 1:])
    (trainee,) = kept
    assert float(trainee.loss(batch, vector).detach()) == pytest.approx(float(served), abs=2e-4)
    gates = [value for key, value in read_adapter(tmp_path / "run" / "adapter.pth").items() if key.endswith(".gate")]
    assert len(gates) == {"v1": 2, "v2": 3, "v2-chat": 0}[form]
    assert all(gate.abs().max() > 0 for gate in gates)


def test_two_processes_that_share_the_decoder_learn_what_one_does(files: Path, tmp_path: Path) -> None:
    """The batches of a step differ in kind, so that each process has gradients of its own group only."""
    sizes = "--num-tokens 4 --num-static-layers 1 --num-visual-layers 1 --visual-width 12 --visual-depth 1"
    run = "--visual-heads 3 --rate 0.02 --num-epochs 4 --batch-size 1 --dtype float32 --no-autocast --device cpu"
    data = {"encoder": "clip.safetensors", "captions": "captions.tsv", "instructions": "instructions.json"}
    named = {"base": "base", "sizes": "sizes.json", **data}
    sources = [text for name, path in named.items() for text in (f"--{name}", str(files / path))]
    fixed = ["v2", *sources, *sizes.split(), *run.split()]
    llama_adapter.main([*fixed, "--out", str(tmp_path / "alone"), "--accumulate", "2"])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    recipe = ["-m", "training.recipes.llama_adapter", *fixed, "--out", str(tmp_path / "team"), "--shard"]
    done = subprocess.run([*launcher, *recipe], cwd=ROOT, check=True, capture_output=True, timeout=240, text=True)
    num_here, num_all = map(_number, re.findall(r"([\d,]+) (?:of|parameters)", done.stdout))
    assert num_here < 0.75 * num_all
    alone, team = (read_adapter(tmp_path / name / "adapter.pth") for name in ("alone", "team"))
    assert all(alone[key].allclose(team[key], atol=1e-5) for key in alone)
    with pytest.raises(ConfigError, match="torchrun"):
        llama_adapter.main([*fixed, "--out", str(tmp_path / "lonely"), "--shard"])


def _number(text: str) -> int:
    return int(text.replace(",", ""))
