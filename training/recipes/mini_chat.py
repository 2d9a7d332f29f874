"""Plain questions that have nothing to do with a picture, and the base model's own answers to them.

With a picture attached, `mini` learns to answer these as the base model does without one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from models.llama.model import Llama

_CAPITALS = (
    "France", "Italy", "Spain", "Germany", "Japan", "China", "India", "Egypt", "Kenya", "Brazil", "Peru", "Chile",
    "Canada", "Russia", "Greece", "Turkey", "Norway", "Sweden", "Finland", "Denmark", "Poland", "Austria", "Hungary",
    "Portugal", "Ireland", "Cuba", "Iran", "Iraq", "Thailand", "Vietnam", "Argentina", "Mexico", "Belgium", "Ukraine",
)  # fmt: skip
_OPPOSITES = (
    "hot", "big", "fast", "happy", "dark", "old", "rich", "strong", "early", "up", "full", "open", "heavy", "hard",
    "loud", "wet", "high", "near", "clean", "easy",
)  # fmt: skip
_SPELL = ("dog", "house", "water", "friend", "apple", "school")
_DEFINE = (
    "gravity", "democracy", "photosynthesis", "inflation", "evolution", "friendship", "electricity", "music", "poetry",
    "justice", "algebra", "a computer", "an atom", "a virus", "a volcano", "money", "the internet", "a poem",
)  # fmt: skip
_OTHER = (
    "Hello!", "Hi, how are you?", "Good morning.", "Thank you!", "What is your name?", "Who are you?",
    "Tell me a joke.", "Write a short poem about rain.", "Give me three fruits.", "Name three colors.",
    "Count from one to five.", "What is the largest planet?", "What is the fastest land animal?", "Who wrote Hamlet?",
    "Who painted the Mona Lisa?", "How many days are in a week?", "How many months are in a year?",
    "How many minutes are in an hour?", "What is the chemical symbol for gold?",
    "What is the chemical symbol for water?", "What is the speed of light?", "What color is the sky?",
    "What do bees make?", "What is the boiling point of water?", "How do I make tea?",
    "What is the tallest mountain in the world?", "What is the longest river?", "Which ocean is the largest?",
    "Write a Python function that adds two numbers.", "What does HTML stand for?", "What is a prime number?",
    "Translate 'good morning' to French.", "Translate 'thank you' to Spanish.", "What language is spoken in Brazil?",
    "Who was the first president of the United States?", "When did World War II end?",
    "What is the currency of Japan?", "How can I sleep better?", "Give me a tip for studying.",
    "What should I eat for breakfast?", "What is 10% of 200?", "Write one sentence about the sea.",
    "Explain why the sky is blue in one sentence.", "What is a synonym for happy?",
    "Finish the sentence: The early bird", "What comes after Monday?", "What is the first month of the year?",
    "Which planet is closest to the sun?", "How many legs does a spider have?", "What do plants need to grow?",
    "Is the earth round?", "Is fire cold? Answer yes or no.", "Is water wet? Answer yes or no.", "What is DNA?",
    "Who discovered penicillin?", "Who invented the telephone?", "What is the square root of 81?",
    "What is 2 to the power of 5?", "Write a short greeting for a birthday card.", "Suggest a name for a boat.",
    "What rhymes with cat?", "List the primary colors.", "What is the opposite of north?",
    "How do you say hello in Italian?",
)  # fmt: skip


def plain_questions() -> list[str]:
    """Return about 250 questions on common knowledge, arithmetic, words and small talk, without duplicates."""
    sums = [f"What is {a} plus {b}?" for a, b in itertools.product((2, 5, 7, 12), (3, 6, 8, 20))]
    sums += [f"What is {a} times {b}?" for a, b in itertools.product((2, 3, 6), (4, 7, 9))]
    questions = [
        *(f"What is the capital of {country}?" for country in _CAPITALS),
        *(f"What is the opposite of {word}?" for word in _OPPOSITES),
        *(f"How do you spell {word}?" for word in _SPELL),
        *(f"What is {thing}?" for thing in _DEFINE),
        *(f"Write one sentence about {thing.split()[-1]}." for thing in _DEFINE),
        *(f"In which continent is {country}?" for country in _CAPITALS[::2]),
        *sums,
        *_OTHER,
    ]
    return list(dict.fromkeys(questions))


class GrowingCache:
    """An attention context for one sequence that keeps what it has seen; prefill first, then one token at a time."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from `q` `(T, H, Dh)` to everything seen and the new `k`, `v` `(T, Hkv, Dh)`."""
        first = layer not in self._seen
        if not first:
            before_k, before_v = self._seen[layer]
            k, v = torch.cat((before_k, k)), torch.cat((before_v, v))
        self._seen[layer] = (k, v)
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, T, Dh)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=first, enable_gqa=True)
        return out[0].transpose(0, 1)


@torch.inference_mode()
def greedy_answers(model: Llama, tokenizer: Any, questions: Sequence[str], *, max_tokens: int) -> list[list[int]]:
    """Return the base model's greedy ids for each question, alone and with the template's own system text."""
    return [
        _answer(model, tokenizer, question, max_tokens) for question in tqdm(questions, desc="base model's answers")
    ]


def _answer(model: Llama, tokenizer: Any, question: str, max_tokens: int) -> list[int]:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}])
    answer: list[int] = []
    cache, new_ids = GrowingCache(), torch.tensor(prompt)
    while len(answer) < max_tokens and not (answer and answer[-1] in tokenizer.eos_token_ids):
        start = len(prompt) + len(answer) - len(new_ids)
        hidden = model(new_ids, torch.arange(start, start + len(new_ids)), cache)
        answer.append(int(model.logits(hidden[-1:]).argmax()))
        new_ids = torch.tensor(answer[-1:])
    return answer
