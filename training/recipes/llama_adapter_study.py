"""Compare ways to train LLaMA-Adapter V2: `python -m training.recipes.llama_adapter_study PICTURES --out DIR [--help]`.

Three arms on SmolLM2 with the same batches: early fusion with disjoint groups, early fusion with every parameter in
every batch, late fusion with every parameter. Captions name photographs, instructions ask for the kind of a noun; both
losses are measured on photographs and nouns held out. An image is one token, the log-probabilities of a frozen ImageNet
network.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from core.types import Tokenizer
from models.adapters.llama_adapter_v2 import LlamaAdapterV2, VisualQueryConfig
from models.llama.gguf import load_gguf_llama
from models.llama.tokenizer_files import load_gguf_tokenizer
from models.mini.assets import VOCABULARY, decoder_file
from training.adapter_trainee import AdapterTrainee, TrainableSet
from training.command import run_recipe
from training.instructions import Example, InstructionSet
from training.labelled_pictures import read_labelled_pictures
from training.loop import LoopConfig, run_loop
from training.recipes.illama import teach
from training.recipes.llama_adapter import TUNED, DisjointGroups, disjoint_loss
from training.recipes.mini_pictures import read_vocabulary

FEATURE_SIZE = 112
NUM_HELD_OUT = 96
MAX_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Arm:
    """How visual tokens enter and which parameters a batch may change."""

    num_visual_layers: int
    disjoint: bool


ARMS = {
    "early fusion, disjoint groups": Arm(10, disjoint=True),
    "early fusion, mixed groups": Arm(10, disjoint=False),
    "late fusion, mixed groups": Arm(0, disjoint=False),
}


@dataclass(frozen=True, slots=True)
class StudyData:
    """Training batches, held-out captions and instructions, and the image tokens by picture number."""

    train: InstructionSet
    captions: InstructionSet
    instructions: InstructionSet
    features: Tensor

    def media(self, data: InstructionSet, images: Tensor | None) -> Tensor | None:
        """Return the image tokens `(B, 1, E)` of a batch of `data`."""
        if images is None:
            return None
        numbers = [int(data.image_paths[i].name) for i in images.tolist()]
        return self.features[numbers][:, None]


def make_data(pictures: Path, out: Path, tokenizer: Tokenizer, *, batch_size: int, seed: int) -> StudyData:
    """Return captions of the photographs of the training split and questions about nouns, parts of both held out."""
    labelled = read_labelled_pictures(pictures, FEATURE_SIZE)
    pixels, labels = labelled.of("train")
    features = teach(pixels, out / "teacher.pt").clamp(min=-10) / 10 + 1  # (N, 1000) in [0, 1]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    captions = [
        Example("Describe the picture.\nAnswer:", f" A photo of {_with_article(name)}.", Path(str(number)))
        for number in order
        for name in [labelled.class_names[int(labels[number])]]
    ]
    nouns = read_vocabulary(VOCABULARY)[1]
    shuffled = torch.randperm(len(nouns), generator=torch.Generator().manual_seed(seed + 1)).tolist()
    questions = [
        Example(f"What kind of thing is {name.text}?\nAnswer:", f" {name.text} is a kind of {name.kind}.")
        for name in (nouns[i] for i in shuffled[: len(captions)])
    ]

    def batches(examples: Sequence[Example]) -> InstructionSet:
        return InstructionSet(examples, tokenizer, max_tokens=MAX_TOKENS, batch_size=batch_size, seed=seed)

    held_out, rest = slice(None, NUM_HELD_OUT), slice(NUM_HELD_OUT, None)
    train = batches([*captions[rest], *questions[rest]])
    return StudyData(train, batches(captions[held_out]), batches(questions[held_out]), features)


def _with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def new_trainee(arm: Arm, seed: int) -> AdapterTrainee:
    """Return SmolLM2 with an untrained V2 adapter whose static prompts fill the last twenty layers."""
    decoder = load_gguf_llama(decoder_file(), torch.bfloat16)
    torch.manual_seed(seed)
    config = VisualQueryConfig(
        clip_width=1000,
        width=192,
        depth=2,
        num_heads=3,
        mlp_width=768,
        num_tokens=4,
        decoder_width=decoder.config.width,
        num_decoder_layers=decoder.config.num_layers,
        num_static_layers=20,
        num_visual_layers=arm.num_visual_layers,
    )
    return AdapterTrainee(decoder, LlamaAdapterV2(config), TrainableSet(parts=TUNED), bf16=True)


@torch.no_grad()
def held_out_loss(trainee: AdapterTrainee, data: StudyData, examples: InstructionSet) -> float:
    """Return the mean cross-entropy of held-out answers, in nats per token, over batches."""
    batches = [examples.batch(i) for i in range(examples.batches_per_epoch)]
    losses = [trainee.loss(batch, data.media(examples, batch.images)) for batch in batches]
    return float(torch.stack(losses).mean())


def run_arm(arm: Arm, data: StudyData, out: Path, *, num_steps: int, seed: int) -> list[dict[str, float]]:
    """Train one arm and return both held-out losses at the start, half way and at the end."""
    trainee = new_trainee(arm, seed)
    groups = DisjointGroups(trainee) if arm.disjoint else None
    rest = [value for key, value in trainee.trained.items() if not key.startswith("gates/")]
    parts = [{"params": rest, "lr": 1e-3, "initial_lr": 1e-3}]
    parts.append({"params": list(trainee.gates), "lr": 2e-2, "initial_lr": 2e-2})
    optimizer = torch.optim.AdamW(parts, betas=(0.9, 0.95), weight_decay=0.0)
    history: list[dict[str, float]] = []

    def measure(step: int, metrics: Mapping[str, float]) -> None:
        if step % (num_steps // 2) == 0:
            pairs = {"captions": data.captions, "instructions": data.instructions}
            losses = {name: held_out_loss(trainee, data, examples) for name, examples in pairs.items()}
            history.append({"step": step, **losses})

    def loss_at(number: int) -> Tensor:
        batch = data.train.batch(number)
        return disjoint_loss(trainee, groups, batch, data.media(data.train, batch.images))

    measure(0, {})
    loop = LoopConfig(num_steps=num_steps, warmup_steps=10, decay="cosine", checkpoint_every=num_steps, report=measure)
    run_loop(trainee.trained, optimizer, loss_at, loop, out)
    return history


def plot(results: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], path: Path) -> None:
    """Draw both held-out losses against the step, one line per arm and seed."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), dpi=120)
    for panel, part in zip(panels, ("captions", "instructions"), strict=True):
        for i, (name, runs) in enumerate(results.items()):
            for seed, run in enumerate(runs):
                steps, losses = [point["step"] for point in run], [point[part] for point in run]
                panel.plot(steps, losses, "o-", color=f"C{i}", alpha=0.8, label=None if seed else name)
        panel.set(xlabel="step", ylabel="nats per answer token", title=f"held-out {part}", yscale="log")
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("training.recipes.llama_adapter_study", description=__doc__)
    parser.add_argument("pictures", type=Path, help="a folder or zip of class/file pictures")
    parser.add_argument("--out", type=Path, required=True, help="where runs, measures and the plot go")
    parser.add_argument("--num-steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args(arguments)
    results: dict[str, list[list[dict[str, float]]]] = {name: [] for name in ARMS}
    for seed in options.seeds:
        for place, (name, arm) in enumerate(ARMS.items()):
            folder = options.out / f"arm{place}-seed{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            tokenizer = load_gguf_tokenizer(decoder_file())
            data = make_data(options.pictures, options.out, tokenizer, batch_size=options.batch_size, seed=seed)
            results[name].append(run_arm(arm, data, folder, num_steps=options.num_steps, seed=seed))
            (options.out / "study.json").write_text(json.dumps({"seeds": options.seeds, "arms": results}, indent=1))
            plot(results, options.out / "study.png")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_recipe(main)
