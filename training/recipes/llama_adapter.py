"""Train LLaMA-Adapter: `python -m training.recipes.llama_adapter FORM --base LLAMA --out DIR [--help]`.

`v1`: zero-initialised gated prompts in the last layers, on instructions. `v2-chat`: biases, scales and norms only.
`v2`: visual tokens in the first layers (early fusion, section 3.3 of V2), static prompts in the last, and joint
training of disjoint parameters (section 3.2): batches with pictures change the visual projection and the early gates
only, batches without change late prompts, late gates, norms, biases and scales only. `--mix-groups` lets every batch
change all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from models.adapters.llama_adapter_v1 import StaticPromptAdapter
from models.adapters.llama_adapter_v2 import LlamaAdapterV2, VisualQueryConfig
from models.adapters.tuned_keys import TunedParts
from models.convert import ConversionSizes
from models.llama.config import LlamaConfig
from models.registry import DTYPES
from training.adapter_run import (
    ADAPTER_FILE,
    Sources,
    add_run_options,
    media_of,
    place,
    read_examples,
    run_config_of,
    run_phase,
    sources_of,
)
from training.adapter_trainee import AdapterTrainee, TrainableAdapter, TrainableSet
from training.command import run_recipe
from training.instructions import Batch, InstructionSet
from training.loop import team_of_launcher

TUNED = TunedParts(scales=True, norms=True)  # a scale and a bias for every matrix, and the norms
FAMILIES = {"v1": "llama_adapter_v1", "v2": "llama_adapter_v2", "v2-chat": "llama_adapter_v2_chat"}


class DisjointGroups:
    """The two groups of parameters of V2's joint training and the one that a batch may change."""

    def __init__(self, trainee: AdapterTrainee) -> None:
        adapter = trainee.adapter
        if not isinstance(adapter, LlamaAdapterV2) or not adapter.config.num_visual_layers:
            raise ConfigError("disjoint groups need the early fusion of LLaMA-Adapter V2; set num_visual_layers")
        config = adapter.config
        if config.num_visual_layers > config.static_layers.start:
            raise ConfigError(
                f"{config.num_visual_layers} visual and {config.num_static_layers} static layers of "
                f"{config.num_decoder_layers} overlap; their gates would belong to both groups"
            )
        placed = list(zip(trainee.layers, trainee.gates, strict=True))
        early = [gate for layer, gate in placed if layer < config.num_visual_layers]
        late = [gate for layer, gate in placed if layer in config.static_layers]
        visual = [value for name, value in adapter.named_parameters() if name != "adapter_query"]
        self.captions: list[nn.Parameter] = [*visual, *early]
        self.instructions: list[nn.Parameter] = [adapter.adapter_query, *late, *trainee.tuned.values()]

    @contextmanager
    def of(self, batch: Batch) -> Iterator[None]:
        """Let gradients reach only the group of this batch inside, for forward and backward pass alike."""
        still = self.instructions if batch.images is not None else self.captions
        for parameter in still:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in still:
                parameter.requires_grad_(True)


def new_adapter(form: str, options: argparse.Namespace, config: LlamaConfig, image_width: int) -> TrainableAdapter:
    """Return the untrained adapter of a form; layers and tokens as the options say."""
    torch.manual_seed(options.seed)
    if form != "v2":
        num_tokens = options.num_tokens if form == "v1" else 0
        num_layers = options.num_static_layers if form == "v1" else 0
        return StaticPromptAdapter(num_layers=num_layers, num_tokens=num_tokens, width=config.width)
    return LlamaAdapterV2(
        VisualQueryConfig(
            clip_width=image_width,
            width=options.visual_width,
            depth=options.visual_depth,
            num_heads=options.visual_heads,
            mlp_width=4 * options.visual_width,
            num_tokens=options.num_tokens,
            decoder_width=config.width,
            num_decoder_layers=config.num_layers,
            num_static_layers=options.num_static_layers,
            num_visual_layers=options.num_visual_layers,
        )
    )


def disjoint_loss(trainee: AdapterTrainee, groups: DisjointGroups | None, batch: Batch, media: Tensor | None) -> Tensor:
    """Return the loss of a batch whose graph reaches its own group only, all parameters where `groups` is None.

    Parameters that are still while the graph is built get no gradient from it, whenever it is walked back.
    """
    if groups is None:
        return trainee.loss(batch, media)
    with groups.of(batch):
        return trainee.loss(batch, media)


def add_adapter_options(add: argparse._ActionsContainer) -> None:
    """Add the dimensions of the adapter; the defaults are those of the released 7B files."""
    numbers = {
        "num-tokens": (10, "adapter tokens of each layer"),
        "num-static-layers": (30, "last layers with static prompts"),
        "num-visual-layers": (1, "first layers with visual tokens (v2)"),
        "visual-width": (768, "width of the visual projection (v2)"),
        "visual-depth": (8, "blocks of the visual projection (v2)"),
        "visual-heads": (16, "heads of the visual projection (v2)"),
    }
    for name, (default, text) in numbers.items():
        add.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text}; {default}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("training.recipes.llama_adapter", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("form", choices=sorted(FAMILIES))
    parser.add_argument("--mix-groups", action="store_true", help="v2: every batch changes every parameter")
    add_adapter_options(parser)
    add_run_options(parser)
    options = parser.parse_args(arguments)
    config, team = run_config_of(options), team_of_launcher()
    sources = sources_of(options, FAMILIES[options.form])
    options.out.mkdir(parents=True, exist_ok=True)
    decoder, tokenizer = sources.load_base(DTYPES[options.dtype])
    examples = read_examples(options.captions, options.instructions)
    data = InstructionSet(
        examples, tokenizer, max_tokens=config.max_tokens, batch_size=config.batch_size, seed=config.seed
    )
    media = media_of(data, sources, options.out, team)
    image_width = sources.image_token_width() if options.form == "v2" else 0
    adapter = new_adapter(options.form, options, decoder.config, image_width)
    phase = TrainableSet(parts=TunedParts() if options.form == "v1" else TUNED)
    trainee = AdapterTrainee(
        decoder,
        adapter,
        phase,
        bf16=not options.no_autocast,
        recompute=options.recompute,
    )
    place(trainee, team, options)
    groups = DisjointGroups(trainee) if options.form == "v2" and not options.mix_groups else None

    def loss_at(number: int) -> Tensor:
        batch = data.batch(number)
        return disjoint_loss(trainee, groups, batch, media(batch))

    run_phase(trainee, loss_at, data.batches_per_epoch, config, options.out, team=team)
    if options.export and team.rank == 0:
        print(exported(sources, options))


def exported(sources: Sources, options: argparse.Namespace) -> str:
    """Write the servable folder with the adapter's dimensions among its sizes, and return where it is."""
    adapter = replace(
        sources.sizes.adapter,
        num_static_tokens=options.num_tokens,
        num_visual_heads=options.visual_heads,
        num_visual_layers=options.num_visual_layers,
    )
    sizes: ConversionSizes = replace(sources.sizes, adapter=adapter)
    target = replace(sources, sizes=sizes).export(options.out / ADAPTER_FILE, options.export, DTYPES[options.dtype])
    return str(target)


if __name__ == "__main__":
    run_recipe(main)
