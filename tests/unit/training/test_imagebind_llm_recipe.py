"""ImageBind-LLM's recipe on tiny real files: two phases, exact resumption, two processes, a servable folder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.errors import ConfigError
from core.types import Modality
from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.adapters.options import AdapterOptions
from models.convert import ConversionSizes
from models.llama.condition import ConditionView
from models.llama.meta import load_meta_llama
from models.registry import load_model
from tests.support.released_files import TINY_ENCODER, split_fixture, write_imagebind
from training.adapter_run import read_adapter, read_examples
from training.adapter_trainee import AdapterTrainee
from training.instructions import Batch, InstructionSet, embed_images
from training.recipes import imagebind_llm

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Meta LLaMA of width 32, an ImageBind, three pictures, captions and instructions."""
    folder = tmp_path_factory.mktemp("recipe")
    split_fixture("imagebind_llm/pretrain", folder)
    write_imagebind(folder / "imagebind.pth", with_points=False)
    sizes = ConversionSizes(adapter=AdapterOptions(), encoder=TINY_ENCODER)
    (folder / "sizes.json").write_text(json.dumps(asdict(sizes)))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "sun"):
        Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    captions = "".join(f"{name}.png\ta picture of a {name}\n" for name in ("cat", "dog", "sun"))
    (folder / "captions.tsv").write_text(f"url\tcaption\n{captions}")
    entries = [
        {"instruction": "Say yes.", "input": "", "output": "yes"},
        {"instruction": "Say no.", "input": "please", "output": "no"},
        {"image": "cat.png", "conversations": [{"value": "What is it?"}, {"value": "a cat"}]},
        {"image": "dog.png", "conversations": [{"value": "What is it?"}, {"value": "a dog"}]},
    ]
    (folder / "instructions.json").write_text(json.dumps(entries))
    return folder


def options(files: Path, out: Path, *more: str) -> list[str]:
    named = {"base": "base", "encoder": "imagebind.pth", "sizes": "sizes.json"}
    sources = [text for name, path in named.items() for text in (f"--{name}", str(files / path))]
    precise = ["--dtype", "float32", "--no-autocast", "--device", "cpu", "--batch-size", "1"]
    return [*sources, "--out", str(out), *precise, *more]


def pretrain(files: Path, out: Path, *more: str) -> dict[str, Tensor]:
    data = ["--captions", str(files / "captions.tsv"), "--rate", "1e-2", "--num-epochs", "4"]
    imagebind_llm.main(["pretrain", *options(files, out, *data, *more)])
    return read_adapter(out / "adapter.pth")


def losses(out: Path) -> list[float]:
    return list(torch.load(out / "checkpoint.pt", weights_only=True)["losses"])


def test_both_phases_learn_and_the_exported_folder_answers_as_the_trainee(files: Path, tmp_path: Path) -> None:
    pretrain(files, tmp_path / "one", "--num-epochs", "20")
    first = losses(tmp_path / "one")
    assert sum(first[-6:]) < 0.8 * sum(first[:6])
    data = ["--instructions", str(files / "instructions.json"), "--rate", "5e-3", "--num-epochs", "6"]
    start = ["--adapter", str(tmp_path / "one" / "adapter.pth"), "--export", str(tmp_path / "served")]
    imagebind_llm.main(["finetune", *options(files, tmp_path / "two", *data, *start)])
    second = losses(tmp_path / "two")
    assert sum(second[-4:]) < sum(second[:4])
    before, after = (read_adapter(tmp_path / name / "adapter.pth") for name in ("one", "two"))
    assert all(torch.equal(before[key], after[key]) for key in before if "image_bind" in key or key.endswith(".gate"))

    bundle = load_model(str(tmp_path / "served"), torch.float32)
    examples = [e for e in read_examples([], [files / "instructions.json"]) if e.image]
    batch = InstructionSet(examples, bundle.tokenizer, max_tokens=512, batch_size=1, seed=0).batch_of([0])
    encoder = bundle.encoders[Modality.IMAGE]
    vector = embed_images([files / "cat.png"], encoder, tmp_path / "cache.safetensors")
    condition = bundle.adapter.condition(vector[0].numpy())
    assert condition is not None
    table = bundle.decoder.project_condition(torch.from_numpy(condition.prompts)[None])
    served = answer_loss(
        bundle.decoder.score(batch.token_ids, ConditionView(table, torch.zeros(1, 1, dtype=torch.long))), batch
    )

    trainee = finetuned(files, tmp_path / "two")
    assert float(trainee.loss(batch, vector).detach()) == pytest.approx(float(served), abs=2e-4)
    untuned = finetuned(files, None, tmp_path / "one")
    assert abs(float(untuned.loss(batch, vector).detach()) - float(served)) > 1e-2


def answer_loss(logits: Tensor, batch: Batch) -> Tensor:
    return torch.nn.functional.cross_entropy(logits[0, :-1], batch.targets[0, 1:])


def finetuned(files: Path, tuned: Path | None, adapter: Path | None = None) -> AdapterTrainee:
    """Put the trained file back into an unmerged decoder."""
    state = read_adapter((tuned or adapter or files) / "adapter.pth")
    decoder = load_meta_llama(files / "base", torch.float32)
    trainee = AdapterTrainee(decoder, ImageBindLLMAdapter.from_reference(state), imagebind_llm.PHASES["finetune"])
    if tuned is not None:
        trainee.load_tuned(state, prefix="llama.")
    return trainee


def test_fine_tuning_without_a_pretrained_adapter_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--adapter"):
        imagebind_llm.main(["finetune", *options(files, tmp_path, "--instructions", str(files / "instructions.json"))])


def test_an_interrupted_phase_ends_with_the_same_adapter(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving = ("--checkpoint-every", "2", "--accumulate", "2")
    whole = pretrain(files, tmp_path / "whole", *saving)

    class Interrupted(Exception):
        pass

    original, calls = AdapterTrainee.loss, list[int]()

    def stopping(self: AdapterTrainee, batch: Batch, media: Tensor | None) -> Tensor:
        calls.append(1)
        if len(calls) == 7:  # in the fourth step, after the checkpoint of the second
            raise Interrupted
        return original(self, batch, media)

    with monkeypatch.context() as patch:
        patch.setattr(AdapterTrainee, "loss", stopping)
        with pytest.raises(Interrupted):
            pretrain(files, tmp_path / "parts", *saving)
    parts = pretrain(files, tmp_path / "parts", *saving)
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_two_processes_learn_what_one_with_two_batches_a_step_learns(files: Path, tmp_path: Path) -> None:
    alone = pretrain(files, tmp_path / "alone", "--accumulate", "2")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    data = ["--captions", str(files / "captions.tsv"), "--rate", "1e-2", "--num-epochs", "4"]
    recipe = ["-m", "training.recipes.imagebind_llm", "pretrain", *options(files, tmp_path / "team", *data)]
    subprocess.run([*launcher, *recipe], cwd=ROOT, check=True, capture_output=True, timeout=240)
    team = read_adapter(tmp_path / "team" / "adapter.pth")
    assert all(alone[key].allclose(team[key], atol=1e-5) for key in alone)
    assert len(losses(tmp_path / "team")) == len(losses(tmp_path / "alone"))


def test_recomputed_activations_and_half_precision_change_the_loss_little(files: Path) -> None:
    state = read_adapter(files / "adapter.pth")
    tokens = torch.arange(3, 12)[None]
    batch = Batch(tokens, tokens.clone(), torch.tensor([0]))
    vector = torch.nn.functional.normalize(torch.ones(1, 40), dim=-1)
    losses, gradients = [], []
    for settings in ({}, {"recompute": True}, {"bf16": True}):
        decoder = load_meta_llama(files / "base", torch.float32)
        adapter = ImageBindLLMAdapter.from_reference(state)
        trainee = AdapterTrainee(decoder, adapter, imagebind_llm.PHASES["pretrain"], **settings)
        loss = trainee.loss(batch, vector)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        assert adapter.prefix_query.grad is not None
        gradients.append(adapter.prefix_query.grad)
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert gradients[1].allclose(gradients[0], atol=1e-6)
    assert losses[2] == pytest.approx(losses[0], rel=0.02)
    assert losses[2] != losses[0]
