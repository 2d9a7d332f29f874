"""Batches for the adapter of `mini`: embeddings of one thing each, and conversations about them as token ids."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.mini.encoder import NameHead
from models.mini.space import BlendedNames
from training.recipes.mini_pictures import FeatureSimulator, Name
from training.recipes.mini_questions import Conversation, Interviewer, Thing

UNSURE_BELOW = 0.45  # confidence; above it 95 % of the validation photographs are named rightly
NUM_NAMING_POOLS = 18  # first the names, asked for in plain words; then everything
NUM_SURE_POOLS = 43  # from here on a fifth of the simulated pictures are doubtful, and the answers hedge
NAMING = {"simulated": 0.22, "mixed": 0.58, "photograph": 0.12, "noun": 0.0, "chat": 0.08}
EVERYTHING = {"simulated": 0.30, "mixed": 0.30, "photograph": 0.16, "noun": 0.04, "chat": 0.20}


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that embeddings are drawn from. `bank` holds the K names of the head, ImageNet's first."""

    bank: tuple[Name, ...]
    vectors: Tensor
    nouns: tuple[Name, ...]
    noun_vectors: Tensor
    head: NameHead
    simulator: FeatureSimulator
    photographs: BlendedNames
    photograph_names: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    vector: Tensor
    token_ids: list[int]
    is_answer: list[bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """`vectors` `(B, E)`; `token_ids` `(B, T)` padded on the right; `targets` `(B, T)` with -100 outside answers."""

    vectors: Tensor
    token_ids: Tensor
    targets: Tensor


class SampleMaker:
    """Draw samples; everything about a pool of samples follows from the seed and the pool's number."""

    def __init__(self, space: Space, tokenizer: Any, chat: Sequence[tuple[str, list[int]]], seed: int) -> None:
        self._space, self._tokenizer, self._chat, self._seed = space, tokenizer, chat, seed
        self._end = tokenizer.special_ids["<|im_end|>"]
        similarity = space.vectors @ space.vectors.T
        self._neighbours = similarity.topk(12, dim=-1).indices[:, 1:]
        self._groups = sorted({group for name in space.bank for group in name.groups})

    def pool(self, number: int, num_samples: int) -> list[Sample]:
        """Return `num_samples` samples; the same ones for the same number."""
        rng = random.Random(f"{self._seed}-{number}")
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        interviewer = Interviewer(self._groups, [name.text for name in self._space.bank], rng)
        naming = number < NUM_NAMING_POOLS
        shares = NAMING if naming else EVERYTHING
        sources = rng.choices(list(shares), list(shares.values()), k=num_samples)
        count = max(1, sources.count("simulated") + sources.count("chat"))
        least_push = 6.5 if naming else 4.5 if number < NUM_SURE_POOLS else 3.3
        simulated = self._simulate(count, least_push, generator)
        samples = []
        for source in sources:
            if source == "chat":
                samples.append(self._chat_sample(next(simulated)[0], rng))
                continue
            vector, thing = next(simulated) if source == "simulated" else getattr(self, f"_{source}")(rng, generator)
            plain = naming and rng.random() < 0.8
            conversation = interviewer.naming(thing) if plain else interviewer.conversation(thing)
            samples.append(self._encode(vector, conversation))
        return samples

    def _simulate(self, count: int, least_push: float, generator: torch.Generator) -> Any:
        """Yield (vector, thing) of simulated photographs, a fifth of them of two things at once."""
        space = self._space
        classes = torch.randint(1000, (2, count), generator=generator)
        push = least_push + 4.0 * torch.rand(count, generator=generator)
        features = space.simulator.draw(classes[0], push, generator)
        second = torch.rand(count, generator=generator) * (torch.rand(count, generator=generator) < 0.2)
        features = features + torch.relu(space.simulator.draw(classes[1], push * second, generator) - features) * 0.5
        with torch.no_grad():
            blended = space.head(features)
        for row in range(count):
            yield blended.vectors[row], self._thing(blended, row)

    def _thing(self, blended: BlendedNames, row: int, name: int | None = None) -> Thing:
        first, second = blended.nearest[row, :2].tolist()
        if name is not None and name != first:
            first, second = name, first
        unsure = float(blended.confidence[row]) < UNSURE_BELOW
        return self._named_thing(first, second, unsure)

    def _named_thing(self, first: int, second: int, unsure: bool) -> Thing:
        one, other = self._space.bank[first], self._space.bank[second]
        return Thing(one.text, one.kind, one.groups, other.text, other.groups, unsure)

    def _photograph(self, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, Thing]:
        """A real training photograph; its true name counts when the embedding has it among its nearest five."""
        space = self._space
        row = rng.randrange(len(space.photograph_names))
        true = space.photograph_names[row]
        believable = true in space.photographs.nearest[row, :5].tolist()
        noise = torch.randn(space.vectors.shape[1], generator=generator) * 0.01
        vector = F.normalize(space.photographs.vectors[row] + noise, dim=-1)
        return vector, self._thing(space.photographs, row, true if believable else None)

    def _mixed(self, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, Thing]:
        """The embedding of a name, in 60 % of the cases mixed with up to six others, mostly near ones."""
        space = self._space
        name = rng.randrange(len(space.bank))
        weights, others = [1.0], [name]
        if rng.random() < 0.6:
            num_others = rng.randint(1, 6)
            share = rng.uniform(0.40, 0.95)
            near = self._neighbours[name].tolist()
            others += [
                rng.choice(near) if rng.random() < 0.8 else rng.randrange(len(space.bank)) for _ in range(num_others)
            ]
            parts = [rng.expovariate(1.0) for _ in range(num_others)]
            weights = [share, *(part / sum(parts) * (1 - share) for part in parts)]
        mean = torch.tensor(weights) @ space.vectors[others]  # (E,)
        similarity = space.vectors @ mean
        first, second = similarity.topk(2).indices.tolist()
        noise = torch.randn(len(mean), generator=generator) * rng.choice((0.0, 0.01, 0.02))
        return F.normalize(F.normalize(mean, dim=-1) + noise, dim=-1), self._named_thing(
            first, second, float(similarity[first]) < UNSURE_BELOW
        )

    def _noun(self, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, Thing]:
        """The embedding of one of many other names: what lets names outside the head be spoken."""
        row = rng.randrange(len(self._space.nouns))
        name = self._space.nouns[row]
        noise = torch.randn(self._space.noun_vectors.shape[1], generator=generator) * rng.choice((0.0, 0.01))
        vector = F.normalize(self._space.noun_vectors[row] + noise, dim=-1)
        return vector, Thing(name.text, name.kind, name.groups)

    def _chat_sample(self, vector: Tensor, rng: random.Random) -> Sample:
        """A question that has nothing to do with the picture, answered as the base model does."""
        question, answer = rng.choice(self._chat)
        prompt = self._tokenizer.apply_chat_template([{"role": "user", "content": question}])
        return Sample(vector, prompt + answer, [False] * len(prompt) + [True] * len(answer))

    def _encode(self, vector: Tensor, conversation: Conversation) -> Sample:
        token_ids: list[int] = []
        is_answer: list[bool] = []
        turns = [{"role": role, "content": text} for role, text in conversation]
        for position, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            prompt = self._tokenizer.apply_chat_template(turns[:position])
            added = prompt[len(token_ids) :]
            answer = [*self._tokenizer.encode(turn["content"]), self._end]
            token_ids += added + answer
            is_answer += [False] * len(added) + [True] * len(answer)
        return Sample(vector, token_ids, is_answer)


def batches_of(samples: Sequence[Sample], max_tokens: int, rng: random.Random) -> list[Batch]:
    """Group samples of like length into batches of at most `max_tokens` padded tokens, in random order."""
    ordered = sorted(samples, key=lambda sample: len(sample.token_ids))
    groups: list[list[Sample]] = [[]]
    for sample in ordered:
        if groups[-1] and (len(groups[-1]) + 1) * len(sample.token_ids) > max_tokens:
            groups.append([])
        groups[-1].append(sample)
    rng.shuffle(groups)
    return [_collate(group) for group in groups]


def _collate(samples: Sequence[Sample]) -> Batch:
    length = max(len(sample.token_ids) for sample in samples)
    token_ids = torch.zeros(len(samples), length, dtype=torch.long)
    targets = torch.full((len(samples), length), -100)
    for row, sample in enumerate(samples):
        ids = torch.tensor(sample.token_ids)
        token_ids[row, : len(ids)] = ids
        answer = torch.tensor(sample.is_answer)
        targets[row, : len(ids)] = torch.where(answer, ids, torch.tensor(-100))
    return Batch(torch.stack([sample.vector for sample in samples]), token_ids, targets)
