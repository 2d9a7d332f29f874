"""Learn the condition of replies to a prompt that tells the parts of a blend: `models/mini/told.safetensors`.

    python -m training.recipes.mini_told --out runs/told [--steps 150] [--minutes M] [--seed S]

The base model answers such a prompt with both names and nonsense around them. One constant per layer, `(L, D)`, added
to the attention by the gates of the finished adapter as any condition is, teaches it to say the names and stop; gates,
adapter and decoder stay as they are. Open tasks ("Tell me a short story about this.") keep the base model's own answers
as targets. Needs no data; interrupted runs resume.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.types import Modality
from models.checkpoints import read_tensors
from models.llama.gguf import load_gguf_llama
from models.llama.tokenizer_files import load_gguf_tokenizer
from models.mini.assets import decoder_file
from models.mini.loader import ADAPTER_PREFIX, read_weights
from training.loop import LoopConfig, run_loop
from training.recipes.mini_adapter import POOL_SAMPLES, all_names, answer_loss, batch_source
from training.recipes.mini_chat import ChatAnswer, answers_of_base
from training.recipes.mini_eyes import made_once
from training.recipes.mini_pictures import Name
from training.recipes.mini_samples import Sample
from training.recipes.mini_told_talks import Talk, Teller

RATE = 0.03
NUM_OPEN, OPEN_SHARE, OPEN_TOKENS = 64, 0.06, 24


class ToldCondition(nn.Module):
    """The same adapter tokens `(L, D)` for every row, behind the gates `(L, H)` of a finished adapter."""

    gates: Tensor

    def __init__(self, gates: Tensor, width: int) -> None:
        super().__init__()
        self.told = nn.Parameter(torch.zeros(len(gates), width))
        self.register_buffer("gates", gates, persistent=False)

    def prompts(self, vectors: Tensor, doubtful: Tensor | None = None, verdicts: Sequence[bool | None] = ()) -> Tensor:
        """Return `(B, L, 1, D)` for B rows, whose vectors do not matter."""
        return self.told[None, :, None].expand(len(vectors), -1, -1, -1)

    def effective_gates(self) -> Tensor:
        """Return the gates as the decoder has them."""
        return self.gates.tanh()


def name_pools() -> dict[Modality, list[Name]]:
    """Return what the parts of each modality may be called."""
    imagenet, nouns, others = all_names()
    usual = [*imagenet, *others["everyday"]]
    pictures = [*usual, *usual, *nouns]
    return {
        Modality.IMAGE: pictures,
        Modality.VIDEO: pictures,
        Modality.AUDIO: others["sounds"],
        Modality.POINT_CLOUD: others["shapes"],
        Modality.TEXT: [*others["everyday"], *nouns],
    }


class TalkSource(Protocol):
    """Draw talks whose last turn tells something, with an answer."""

    def talk(self) -> Talk: ...


def told_samples(
    tokenizer: Any,
    teller_of: Callable[[random.Random], TalkSource],
    open_answers: Sequence[ChatAnswer],
    count: int,
    seed: str,
    *,
    open_share: float = OPEN_SHARE,
) -> list[Sample]:
    """Return talks as ids, `open_share` of them answered by the base model; the same ones for the same seed."""
    rng = random.Random(f"{seed}-told")
    teller = teller_of(rng)
    return [
        _open_sample(tokenizer, rng.choice(open_answers))
        if rng.random() < open_share
        else _sample(tokenizer, teller.talk())
        for _ in range(count)
    ]


def _sample(tokenizer: Any, talk: Talk) -> Sample:
    prompt = tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in talk.turns])
    answer = [*tokenizer.encode(talk.answer), tokenizer.special_ids["<|im_end|>"]]
    return Sample(torch.zeros(1), False, prompt + answer, [0.0] * len(prompt) + [1.0] * len(answer))


def _open_sample(tokenizer: Any, answer: ChatAnswer) -> Sample:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": answer.question}])
    weights = [0.0] * len(prompt) + [1.0] * len(answer.token_ids)
    return Sample(torch.zeros(1), False, prompt + answer.token_ids, weights, (answer.likely_ids, answer.likely_shares))


def write_told(condition: ToldCondition, path: Path) -> None:
    """Write the learnt condition as `models.mini.told` reads it."""
    save_file({"told": condition.told.detach().float().contiguous()}, path)


def learn(
    teller_of: Callable[[random.Random], TalkSource],
    arguments: argparse.Namespace,
    path: Path,
    *,
    init: Path | None = None,
    rate: float = RATE,
    open_teller_of: Callable[[random.Random], Teller] | None = None,
) -> None:
    """Learn the condition of the talks and write it to `path`; `init` is a condition to go on from.

    `open_teller_of` draws the open tasks, whose answers are the base model's own.
    """
    out, seed = arguments.out, arguments.seed
    out.mkdir(parents=True, exist_ok=True)
    decoder = load_gguf_llama(decoder_file(), torch.bfloat16).requires_grad_(False)
    tokenizer = load_gguf_tokenizer(decoder_file())
    condition = ToldCondition(read_weights()[0][f"{ADAPTER_PREFIX}gates"], decoder.config.width)
    if init is not None:
        condition.told.data.copy_(read_tensors(init)["told"])
    decoder.set_adapters(tuple(range(decoder.config.num_layers)), condition.effective_gates(), num_tokens=1)

    def answer_openly() -> list[tuple[str, list[int], Tensor, Tensor]]:
        teller = open_teller_of(random.Random(f"{seed}-open")) if open_teller_of else None
        asked = [teller.open_talk().turns[-1][1] for _ in range(arguments.open)] if teller else []
        answers = answers_of_base(decoder, tokenizer, asked, max_tokens=OPEN_TOKENS)
        return [(a.question, a.token_ids, a.likely_ids, a.likely_shares) for a in answers]

    open_answers = [ChatAnswer(*row) for row in made_once(out / "open.pt", answer_openly)]
    open_share = OPEN_SHARE if open_answers else 0.0

    def samples(number: int) -> list[Sample]:
        own_seed = f"{seed}-{number}"
        return told_samples(tokenizer, teller_of, open_answers, POOL_SAMPLES, own_seed, open_share=open_share)

    batch_at = batch_source(samples, seed)
    optimizer = torch.optim.AdamW([condition.told], lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    loop = LoopConfig(
        num_steps=arguments.steps,
        max_minutes=arguments.minutes,
        model_name=path.stem,
        warmup_steps=5,
        checkpoint_every=10,
    )
    run_loop(condition, optimizer, lambda step: answer_loss(decoder, condition, batch_at(step)), loop, out)
    write_told(condition, path)


def arguments_of(description: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line of a recipe that learns such a condition."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--open", type=int, default=NUM_OPEN, help="open tasks that the base model answers")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    arguments, pools = arguments_of(__doc__, argv), name_pools()

    def teller_of(rng: random.Random) -> Teller:
        return Teller(pools, rng)

    learn(teller_of, arguments, arguments.out / "told.safetensors", open_teller_of=teller_of)


if __name__ == "__main__":
    main()
