"""How often fewer bits choose the same token: greedy decoding of `mini` against its bfloat16 weights.

    python -m benchmarks.agreement [--tokens 64] [--json]

The bfloat16 decoder answers sixteen questions, half of them about a picture (a name's embedding). Each other way then
reads those answers and says at every place which token it would have chosen. float32 against bfloat16 is the yardstick:
what rounding alone changes. `auto` is how the engine reads prompts, `int4` how it decodes a few replies, and `crowd`
how it decodes many at once: each prompt read alone as `auto` does, and all answers in the same steps.
"""

from __future__ import annotations

import argparse
import copy
import json
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor

from benchmarks.decode_peers.official_loop import GrowingCache
from core.types import Condition
from engine.backends import WeightsDtype
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.crew import Crew
from engine.backends.native.fused import FusedDecoder
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.linears import prepare_linears
from engine.backends.native.scheduler import Row, StepPlan, TokenSequence
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


def choices(decoder: Llama, cases: list[Case], answers: list[list[int]]) -> Tensor:
    """Return the token that a decoder would choose at every place of the answers."""
    chosen = []
    for (prompt, condition), reply in zip(cases, answers, strict=True):
        cache, hidden = GrowingCache(decoder, len(prompt) + len(reply)), []
        for token_ids in (prompt, reply):
            positions = torch.arange(cache.start, cache.start + len(token_ids))[None]
            hidden.append(decoder(torch.tensor([token_ids]), positions, cache, view_of(decoder, condition)))
            cache.start += len(token_ids)
        places = torch.cat((hidden[0][:, -1:], hidden[1][:, :-1]), dim=1)[0]  # (T, D)
        chosen.append(decoder.logits(places).argmax(dim=-1))
    return torch.cat(chosen)


def crowd_choices(decoder: Llama, cases: list[Case], answers: list[list[int]]) -> Tensor:
    """Return what `choices` does, with all answers read together; `decoder` is prepared as `auto`."""
    longest = max(len(prompt) + len(reply) for (prompt, _), reply in zip(cases, answers, strict=True))
    weight = decoder.tok_embeddings.weight
    cache = KVCache(decoder.config, num_slots=len(cases), max_context=longest, like=weight)
    conditions = ConditionSlots(decoder, num_slots=len(cases))
    fused = FusedDecoder(decoder, cache, conditions, Crew(torch.get_num_threads()))
    sequences = [cast(TokenSequence, SimpleNamespace(slot=slot)) for slot in range(len(cases))]
    chosen: list[list[int]] = []
    for sequence, (prompt, condition) in zip(sequences, cases, strict=True):
        conditions.fill(sequence.slot, condition)
        conditions.project_pending([sequence.slot])
        hidden = fused.forward(torch.tensor(prompt), StepPlan((), (Row(sequence, 0, len(prompt), True),)))
        chosen.append(fused.output(hidden[-1:]).argmax(dim=-1).tolist())
    for place in range(max(map(len, answers)) - 1):  # an answer that is over takes its last place again
        places = [min(place, len(reply) - 1) for reply in answers]
        starts = [len(prompt) + at for (prompt, _), at in zip(cases, places, strict=True)]
        rows = tuple(Row(sequence, start, 1, True) for sequence, start in zip(sequences, starts, strict=True))
        token_ids = torch.tensor([reply[at] for reply, at in zip(answers, places, strict=True)])
        found = fused.output(fused.forward(token_ids, StepPlan(rows, ()))).argmax(dim=-1)
        for reply, token_id in zip(chosen, found.tolist(), strict=True):
            reply.append(token_id)
    return torch.tensor([i for found, reply in zip(chosen, answers, strict=True) for i in found[: len(reply)]])


@torch.inference_mode()
def measure(num_tokens: int) -> dict[str, float]:
    """Return the share of equal choices for float32 and each way; prints how many places were compared."""
    bundle = load_model("mini", torch.bfloat16)
    cases = make_cases(bundle)
    answers = [answer(bundle.decoder, case, num_tokens, bundle.tokenizer.eos_token_ids) for case in cases]
    expected = choices(bundle.decoder, cases, answers)
    print(f"{len(expected)} places in {len(cases)} answers")
    shares = {"float32": _share(choices(copy.deepcopy(bundle.decoder).float(), cases, answers), expected)}
    for way in WAYS:
        decoder = copy.deepcopy(bundle.decoder)
        prepare_linears(decoder, dtype=way)
        shares[way] = _share(choices(decoder, cases, answers), expected)
        if way == "auto":
            shares["crowd"] = _share(crowd_choices(decoder, cases, answers), expected)
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
