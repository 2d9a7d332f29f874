"""Run one phase of an adapter's training, and turn its end into a folder that a server loads."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from core.errors import ConfigError
from core.types import Modality, ModalityEncoder, Tokenizer
from models.checkpoints import read_checkpoint, tensors_of
from models.convert import ConversionPlan, ConversionSizes, convert
from models.llama.gguf import load_gguf_llama
from models.llama.hf import load_hf_llama
from models.llama.meta import load_meta_llama
from models.llama.model import Llama
from models.llama.tokenizer_files import load_gguf_tokenizer, load_tokenizer
from models.registry import DTYPES
from models.released_encoders import LOADERS, EncoderFile
from training.adapter_trainee import AdapterTrainee, make_optimizer, save_adapter
from training.instructions import Batch, Example, InstructionSet, embed_images, read_captions, read_instructions
from training.loop import ALONE, LoopConfig, LoopState, Team, run_loop
from training.metrics import tensorboard
from training.sharding import shard_frozen

ADAPTER_FILE = "adapter.pth"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How long and how fast a phase learns; the defaults are those of ImageBind-LLM's fine-tuning."""

    num_epochs: int = 4
    warmup_epochs: float = 1.0
    batch_size: int = 4
    accumulate: int = 1
    rate: float = 1e-4
    weight_decay: float = 0.02
    max_tokens: int = 512
    max_steps: int = 0
    checkpoint_every: int = 200
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The files a run starts from; `tokenizer` is a folder, by default beside the base."""

    family: str
    base: Path
    encoder: Path | None = None
    tokenizer: Path | None = None
    sizes: ConversionSizes

    def load_base(self, dtype: torch.dtype) -> tuple[Llama, Tokenizer]:
        """Load the frozen decoder, a GGUF file, a Meta folder or a Hugging Face folder, and its tokenizer."""
        if self.base.is_file():
            decoder = load_gguf_llama(self.base, dtype)
            tokenizer = load_tokenizer(self.tokenizer) if self.tokenizer else load_gguf_tokenizer(self.base)
            return decoder, tokenizer
        is_meta = (self.base / "params.json").is_file()
        home = self.base.parent if is_meta and not (self.base / "tokenizer.model").is_file() else self.base
        tokenizer = load_tokenizer(self.tokenizer or home)
        if is_meta:
            return load_meta_llama(self.base, dtype, num_tokenizer_tokens=tokenizer.vocab_size), tokenizer
        return load_hf_llama(self.base, dtype), tokenizer

    def image_encoder(self) -> ModalityEncoder:
        """Load the frozen encoder of pictures in float32. Raises `ConfigError` when none was named."""
        if self.encoder is None:
            raise ConfigError("the data holds pictures; name the encoder's file with --encoder")
        return LOADERS[self.family](EncoderFile(self.encoder, self.sizes.encoder), torch.float32)[Modality.IMAGE]

    def image_token_width(self) -> int:
        """Return E of the image tokens `(T, E)` that CLIP's file gives. Raises `ConfigError` without one."""
        if self.encoder is None:
            raise ConfigError("LLaMA-Adapter V2 reads CLIP's tokens; name CLIP's file with --encoder")
        return EncoderFile(self.encoder, self.sizes.encoder).clip(torch.float32).config.output_width

    def export(self, adapter: Path, target: Path, dtype: torch.dtype) -> Path:
        """Write the folder that `bindchat serve --model` takes."""
        plan = ConversionPlan(
            family=self.family,
            adapter=adapter,
            base=self.base,
            target=target,
            name=target.name,
            encoder=self.encoder,
            tokenizer=self.tokenizer,
            dtype=dtype,
            sizes=self.sizes,
        )
        return convert(plan)


def read_adapter(path: Path) -> dict[str, Tensor]:
    """Return the tensors of an adapter file, bare or under `model`."""
    checkpoint = read_checkpoint(path)
    return tensors_of(path, checkpoint.get("model", checkpoint))


def read_examples(captions: Sequence[Path], instructions: Sequence[Path]) -> list[Example]:
    """Read every data file. Raises `ConfigError` when there is none."""
    examples = [example for path in captions for example in read_captions(path)]
    examples += [example for path in instructions for example in read_instructions(path)]
    if not examples:
        raise ConfigError("there is nothing to learn; name data with --captions or --instructions")
    return examples


def media_of(data: InstructionSet, sources: Sources, out: Path, team: Team) -> Callable[[Batch], Tensor | None]:
    """Encode every picture of the data once and return how to look a batch's embeddings up.

    Each process of a team keeps a cache file of its own, so that none reads what another is writing.
    """
    if not data.image_paths:
        return lambda batch: None
    cache = out / f"embeddings-{team.rank}.safetensors"
    embedded = embed_images(data.image_paths, sources.image_encoder(), cache)
    return lambda batch: None if batch.images is None else embedded[batch.images]


def place(trainee: AdapterTrainee, team: Team, options: argparse.Namespace) -> None:
    """Move what trains and what is frozen to the device, split among the team with `--shard`."""
    if options.shard:
        num_here, num_all = shard_frozen(trainee, team, torch.device(options.device).type)
        if team.rank == 0:
            print(f"{team.size} processes share the decoder: {num_here:,} of {num_all:,} parameters lie in each")
    trainee.to(options.device)


def run_phase(
    trainee: AdapterTrainee,
    loss_at: Callable[[int], Tensor],
    num_batches: int,
    config: RunConfig,
    out: Path,
    *,
    team: Team = ALONE,
) -> LoopState:
    """Minimise `loss_at(i)` over the batches of all epochs, shared among the team; resumes from `out`.

    The first process writes checkpoints, TensorBoard events and, at the end, `adapter.pth` in the released layout.
    """
    per_step = config.accumulate * team.size
    steps_per_epoch = max(1, num_batches // per_step)
    num_steps = min(config.num_epochs * steps_per_epoch, config.max_steps or config.num_epochs * steps_per_epoch)
    optimizer = make_optimizer(trainee.trained.values(), config.rate, config.weight_decay)
    with tensorboard(out / "events", writes=team.rank == 0) as report:
        loop = LoopConfig(
            num_steps=num_steps,
            model_name=type(trainee.adapter).__name__,
            warmup_steps=min(round(config.warmup_epochs * steps_per_epoch), num_steps),
            checkpoint_every=config.checkpoint_every,
            decay="cosine",
            micro_steps=config.accumulate,
            report=report,
        )
        trainee.train()
        state = run_loop(trainee.trained, optimizer, lambda i: loss_at(i * team.size + team.rank), loop, out, team=team)
    if team.rank == 0:
        prefix = "llama." if trainee.takes_media else ""
        save_adapter(trainee, out / ADAPTER_FILE, prefix=prefix)
    return state


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what every adapter recipe takes: sources, data, `RunConfig`, precision and export."""
    add = parser.add_argument
    add("--base", type=Path, required=True, help="the frozen LLaMA: a Hugging Face or Meta folder, or a GGUF file")
    add("--tokenizer", type=Path, help="a folder with tokenizer files, if not beside the base")
    add("--encoder", type=Path, help="the encoder's file, for data with pictures")
    add("--sizes", type=Path, help="JSON with what differs from the released 7B models, as `bindchat convert` takes")
    add("--captions", type=Path, nargs="+", default=[], metavar="TSV", help="tab-separated files: url, caption")
    add("--instructions", type=Path, nargs="+", default=[], metavar="JSON", help="instruction files")
    add("--out", type=Path, required=True, help="where checkpoints, embeddings, metrics and the adapter go")
    add("--export", type=Path, help="write a folder that `bindchat serve --model` loads")
    add("--dtype", choices=sorted(DTYPES), default="bfloat16", help="the precision of the frozen decoder")
    add("--no-autocast", action="store_true", help="compute in float32; needs --dtype float32")
    add("--shard", action="store_true", help="split the frozen decoder among the processes that torchrun started")
    add("--recompute", action="store_true", help="activation checkpointing: less memory, more time")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for setting in fields(RunConfig):
        option = f"--{setting.name.replace('_', '-')}"
        add(option, type=type(setting.default), default=setting.default, metavar="N", help=f"{setting.default}")


def run_config_of(options: argparse.Namespace) -> RunConfig:
    """Return the `RunConfig` of the options. Raises `ConfigError` for a precision that cannot be computed."""
    if options.no_autocast and options.dtype != "float32":
        raise ConfigError(f"--no-autocast computes in float32, but --dtype is {options.dtype}; choose float32")
    return RunConfig(**{setting.name: getattr(options, setting.name) for setting in fields(RunConfig)})


def sources_of(options: argparse.Namespace, family: str) -> Sources:
    """Return where the options point."""
    sizes = ConversionSizes.read(options.sizes) if options.sizes else ConversionSizes()
    return Sources(family=family, base=options.base, encoder=options.encoder, tokenizer=options.tokenizer, sizes=sizes)
