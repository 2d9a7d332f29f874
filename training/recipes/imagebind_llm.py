"""Train ImageBind-LLM (section 3.2): `python -m training.recipes.imagebind_llm PHASE --base LLAMA --out DIR [--help]`.

`pretrain` learns bind network, gates and prefix on captions; `finetune` goes on from its adapter and learns norms,
biases and low-rank factors on instructions with and without pictures. Pictures are encoded once. Several processes
train together under `torchrun --nproc-per-node N -m training.recipes.imagebind_llm ...`; each holds the decoder, and
the gradients of the trained part are averaged. Interrupted runs resume to the same weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from core.errors import ConfigError
from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter
from models.adapters.tuned_keys import TunedParts
from models.llama.config import LlamaConfig
from models.registry import DTYPES
from training.adapter_run import (
    ADAPTER_FILE,
    add_run_options,
    media_of,
    place,
    read_adapter,
    read_examples,
    run_config_of,
    run_phase,
    sources_of,
)
from training.adapter_trainee import AdapterTrainee, TrainableSet
from training.command import run_recipe
from training.instructions import InstructionSet
from training.loop import team_of_launcher

LORA_RANK = 16
PHASES = {
    "pretrain": TrainableSet(adapter=True),
    "finetune": TrainableSet(parts=TunedParts(biases=True, norms=True, lora_rank=LORA_RANK), adapter=False),
}


def new_adapter(config: LlamaConfig, embedding_width: int, seed: int) -> ImageBindLLMAdapter:
    """Return the untrained adapter of the published form: four times the width inside, prefixes in every layer."""
    torch.manual_seed(seed)
    bind = BindNetworkConfig(
        embedding_width=embedding_width, width=config.width, hidden_width=4 * config.width, num_blocks=3
    )
    adapter = ImageBindLLMAdapter(bind, num_layers=config.num_layers, num_heads=config.num_heads)
    torch.nn.init.normal_(adapter.prefix_query)
    return adapter


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser("training.recipes.imagebind_llm", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("phase", choices=sorted(PHASES))
    parser.add_argument("--adapter", type=Path, help="an adapter file to start from; finetune needs that of pretrain")
    add_run_options(parser)
    options = parser.parse_args(arguments)
    config, sources, team = run_config_of(options), sources_of(options, "imagebind_llm"), team_of_launcher()
    options.out.mkdir(parents=True, exist_ok=True)
    dtype = DTYPES[options.dtype]
    decoder, tokenizer = sources.load_base(dtype)
    data = InstructionSet(
        read_examples(options.captions, options.instructions),
        tokenizer,
        max_tokens=config.max_tokens,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    if data.num_too_long and team.rank == 0:
        print(f"{data.num_too_long} examples are longer than {config.max_tokens} tokens and were left out")
    media = media_of(data, sources, options.out, team)
    if options.adapter:
        adapter = ImageBindLLMAdapter.from_reference(read_adapter(options.adapter), sources.sizes.adapter)
    elif options.phase == "finetune":
        raise ConfigError("finetune goes on from a pretrained adapter; name its file with --adapter")
    else:
        width = sources.sizes.encoder.imagebind.embedding_width
        adapter = new_adapter(decoder.config, width, config.seed)
    torch.manual_seed(config.seed)  # every process of a team starts from the same low-rank factors
    trainee = AdapterTrainee(
        decoder,
        adapter,
        PHASES[options.phase],
        bf16=not options.no_autocast,
        recompute=options.recompute,
    )
    place(trainee, team, options)

    def loss_at(number: int) -> torch.Tensor:
        batch = data.batch(number)
        return trainee.loss(batch, media(batch))

    run_phase(trainee, loss_at, data.batches_per_epoch, config, options.out, team=team)
    if options.export and team.rank == 0:
        print(sources.export(options.out / ADAPTER_FILE, options.export, dtype))


if __name__ == "__main__":
    run_recipe(main)
