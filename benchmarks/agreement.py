"""How often fewer bits choose the same token: greedy decoding of `mini` against its bfloat16 weights.

    python -m benchmarks.agreement [--tokens 64] [--json]

The bfloat16 decoder answers sixteen questions, half of them about a picture (a name's embedding). Each other way then
reads those answers and says at every place which token it would have chosen. float32 against bfloat16 is the yardstick:
what rounding alone changes. `auto` is how the engine reads prompts, `int4` how it decodes a few replies, and `crowd`
how it decodes many at once: the prompt as `auto`, the answer as `int8`.
"""

from __future__ import annotations

import argparse
import copy
import json

import torch
from torch import Tensor

from benchmarks.decode_peers.official_loop import GrowingCache
from core.types import Condition
from engine.backends import WeightsDtype
from engine.backends.native.linears import prepare_linears
from models.bundle import ModelBundle
from models.llama.condition import ConditionView
from models.llama.model import Llama
from models.mini.loader import read_weights
from models.registry import load_model

QUESTIONS = (
    "Write a short story about a robot who learns to cook.",
    "Explain how photosynthesis works.",
    "List five tips for sleeping better.",
    "What is the capital of Australia and what is it known for?",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "What are the benefits of exercise?",
    "Plan a three-day trip to Rome.",
)
PICTURE_QUESTIONS = ("What is this?", "Describe the picture in one sentence.", "What animal is in the photo?")
NUM_PICTURES = 8
NAME_STRIDE = 37  # names of different kinds stand apart in the list
WAYS: tuple[WeightsDtype, ...] = ("auto", "int4", "int8")

Case = tuple[list[int], Condition]


def make_cases(bundle: ModelBundle) -> list[Case]:
    """Return prompts with and without a condition."""
    plain, conditioned = bundle.tokenizer, bundle.conditioned_tokenizer or bundle.tokenizer
    vectors = read_weights()[0]["names.vectors"]
    cases: list[Case] = [(plain.apply_chat_template([{"role": "user", "content": text}]), None) for text in QUESTIONS]
    for number in range(NUM_PICTURES):
        question = PICTURE_QUESTIONS[number % len(PICTURE_QUESTIONS)]
        condition = bundle.adapter.condition(vectors[number * NAME_STRIDE].numpy())
        cases.append((conditioned.apply_chat_template([{"role": "user", "content": question}]), condition))
    return cases


def view_of(decoder: Llama, condition: Condition) -> ConditionView | None:
    if condition is None:
        return None
    prompts = torch.from_numpy(condition.prompts)[None].to(decoder.tok_embeddings.weight.dtype)
    return ConditionView(decoder.project_condition(prompts), torch.zeros(1, 1, dtype=torch.int64))


def answer(decoder: Llama, case: Case, num_tokens: int, eos_token_ids: frozenset[int]) -> list[int]:
    """Return the greedy answer of at most `num_tokens`."""
    prompt, condition = case
    view, cache = view_of(decoder, condition), GrowingCache(decoder, len(prompt) + num_tokens)
    reply: list[int] = []
    pending = prompt
    while len(reply) < num_tokens and not eos_token_ids.intersection(reply):
        positions = torch.arange(cache.start, cache.start + len(pending))[None]
        hidden = decoder(torch.tensor([pending]), positions, cache, view)  # (1, T, D)
        cache.start += len(pending)
        pending = [int(decoder.logits(hidden[:, -1]).argmax())]
        reply += pending
    return reply


def choices(decoder: Llama, cases: list[Case], answers: list[list[int]], reader: Llama | None = None) -> Tensor:
    """Return the token that a decoder would choose at every place of the answers; `reader` reads the prompts for it."""
    chosen = []
    for (prompt, condition), reply in zip(cases, answers, strict=True):
        cache, hidden = GrowingCache(decoder, len(prompt) + len(reply)), []
        for reading, token_ids in ((reader or decoder, prompt), (decoder, reply)):
            positions = torch.arange(cache.start, cache.start + len(token_ids))[None]
            hidden.append(
                reading(torch.tensor([token_ids]), positions, cache, view_of(reading, condition))
            )  # (1, T, D)
            cache.start += len(token_ids)
        places = torch.cat((hidden[0][:, -1:], hidden[1][:, :-1]), dim=1)[0]
        chosen.append(decoder.logits(places).argmax(dim=-1))
    return torch.cat(chosen)


@torch.inference_mode()
def measure(num_tokens: int) -> dict[str, float]:
    """Return the share of equal choices for float32 and each way; prints how many places were compared."""
    bundle = load_model("mini", torch.bfloat16)
    cases = make_cases(bundle)
    answers = [answer(bundle.decoder, case, num_tokens, bundle.tokenizer.eos_token_ids) for case in cases]
    expected = choices(bundle.decoder, cases, answers)
    print(f"{len(expected)} places in {len(cases)} answers")
    shares = {"float32": _share(choices(copy.deepcopy(bundle.decoder).float(), cases, answers), expected)}
    prepared: dict[str, Llama] = {}
    for way in WAYS:
        prepared[way] = copy.deepcopy(bundle.decoder)
        prepare_linears(prepared[way], dtype=way)
        shares[way] = _share(choices(prepared[way], cases, answers), expected)
    shares["crowd"] = _share(choices(prepared["int8"], cases, answers, reader=prepared["auto"]), expected)
    return shares


def _share(chosen: Tensor, expected: Tensor) -> float:
    return float((chosen == expected).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Count equal greedy choices of fewer bits and bfloat16.")
    parser.add_argument("--tokens", type=int, default=64, help="longest answer")
    parser.add_argument("--json", action="store_true", help="print the shares as JSON in the last line")
    arguments = parser.parse_args()
    shares = measure(arguments.tokens)
    for way, share in shares.items():
        print(f"{way:<10} {share:.1%} of the tokens as bfloat16")
    if arguments.json:
        print(json.dumps(shares))


if __name__ == "__main__":
    main()
