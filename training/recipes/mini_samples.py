"""Batches for the adapter of `mini`: vectors of the joint space, and conversations about them as token ids.

B batch, T tokens, E embedding, K teacher tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.mini.encoder import NameHead
from models.mini.space import BlendedNames
from training.recipes.mini_chat import NUM_TEACHER_TOKENS, ChatAnswer
from training.recipes.mini_pictures import FeatureSimulator, Name
from training.recipes.mini_questions import Conversation, Interviewer, Sense, Thing

NUM_NAMING_POOLS = 18  # from scratch: first the names, asked for in plain words; then everything
NAMING = {"simulated": 0.22, "mixed": 0.58, "photograph": 0.12, "chat": 0.08}
EVERYTHING = {
    "simulated": 0.20,
    "mixed": 0.26,
    "photograph": 0.15,
    "noun": 0.09,
    "sound": 0.11,
    "shape": 0.05,
    "blend": 0.10,
    "chat": 0.04,
}
SENSES_OF_NAMES: dict[Sense, float] = {"picture": 0.78, "video": 0.12, "shape": 0.04, "sound": 0.06}
YES_OR_NO_WEIGHT = 3.0  # of the first token of an answer that starts with yes or no
TOO_ALIKE = 0.6  # two names this near are one thing to a blend


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that embeddings are drawn from.

    `bank` holds the K names of the head, ImageNet's first; `sounds` and `shapes` are text for the senses whose media
    training never sees; `nouns` is every other name. Each has its unit vectors. Pictures whose confidence is below
    `doubt_below` get answers that hedge.
    """

    bank: tuple[Name, ...]
    vectors: Tensor
    nouns: tuple[Name, ...]
    noun_vectors: Tensor
    sounds: tuple[Name, ...]
    sound_vectors: Tensor
    shapes: tuple[Name, ...]
    shape_vectors: Tensor
    head: NameHead
    simulator: FeatureSimulator
    photographs: BlendedNames
    photograph_names: tuple[int, ...]
    doubt_below: float


@dataclass(frozen=True, slots=True)
class Sample:
    """`weights` are 0 outside answers; `likely` are the teacher's ids and shares `(A, 8)` of a chat answer.

    `verdict` is what the adapter is told to say, None where nothing was judged.
    """

    vector: Tensor
    doubtful: bool
    token_ids: list[int]
    weights: list[float]
    likely: tuple[Tensor, Tensor] | None = None
    verdict: bool | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """`vectors` `(B, E)`; `doubtful` `(B,)`; `token_ids` `(B, T)` padded on the right; `weights` `(B, T)`, 0 outside
    answers; `target_ids` and `target_shares` `(B, T, 8)`: what a token should be, at times in a teacher's view;
    `verdicts`: those of the rows.
    """

    vectors: Tensor
    doubtful: Tensor
    token_ids: Tensor
    weights: Tensor
    target_ids: Tensor
    target_shares: Tensor
    verdicts: tuple[bool | None, ...] = ()


@dataclass(frozen=True, slots=True)
class _Neighbourhood:
    """For each name of a list: the indices of the names nearest to it, itself left out, best first `(N, 11)`."""

    names: tuple[Name, ...]
    vectors: Tensor
    nearest: Tensor

    @classmethod
    def of(cls, names: tuple[Name, ...], vectors: Tensor) -> _Neighbourhood:
        similarity = vectors @ vectors.T
        return cls(names, vectors, similarity.topk(12, dim=-1).indices[:, 1:])


class SampleMaker:
    """Draw samples; everything about a pool of samples follows from the seed and the pool's number."""

    def __init__(
        self, space: Space, tokenizer: Any, chat: Sequence[ChatAnswer], seed: int, *, from_scratch: bool = True
    ) -> None:
        self._space, self._tokenizer, self._chat, self._seed = space, tokenizer, chat, seed
        self._num_naming_pools = NUM_NAMING_POOLS if from_scratch else 0
        self._end = tokenizer.special_ids["<|im_end|>"]
        self._yes_or_no = {tokenizer.encode(word)[0] for word in ("Yes", "No")}
        self._bank = _Neighbourhood.of(space.bank, space.vectors)
        self._sounds = _Neighbourhood.of(space.sounds, space.sound_vectors)
        self._shapes = _Neighbourhood.of(space.shapes, space.shape_vectors)
        self._nouns = _Neighbourhood.of(space.nouns, space.noun_vectors)
        self._groups = sorted({group for name in (*space.bank, *space.sounds) for group in name.groups})

    def pool(self, number: int, num_samples: int) -> list[Sample]:
        """Return `num_samples` samples; the same ones for the same number."""
        rng = random.Random(f"{self._seed}-{number}")
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        interviewer = Interviewer(self._groups, self._space.bank, rng)
        naming = number < self._num_naming_pools
        shares = NAMING if naming else EVERYTHING
        sources = rng.choices(list(shares), list(shares.values()), k=num_samples)
        draws = self._draws(len(sources), 6.5 if naming else 3.3, rng, generator)
        behind_chat = [source for source in draws if source in shares]
        samples = []
        for source in sources:
            vector, thing = draws[rng.choice(behind_chat) if source == "chat" else source]()
            if not naming:
                thing = _in_some_sense(thing, rng)
            if source == "chat":
                samples.append(self._chat_sample(vector, thing, interviewer, rng))
                continue
            plain = naming and rng.random() < 0.8
            conversation = interviewer.naming(thing) if plain else interviewer.conversation(thing)
            samples.append(self.encode(vector, thing.unsure, conversation))
        return samples

    def things(self, count: int, rng: random.Random) -> list[tuple[Tensor, Thing]]:
        """Return vectors with what they hold, of every source as often as `pool` draws it once names are learnt."""
        generator = torch.Generator().manual_seed(rng.getrandbits(60))
        shares = {source: share for source, share in EVERYTHING.items() if source != "chat"}
        draws = self._draws(count, 3.3, rng, generator)
        drawn = [draws[source]() for source in rng.choices(list(shares), list(shares.values()), k=count)]
        return [(vector, _in_some_sense(thing, rng)) for vector, thing in drawn]

    def _draws(
        self, most: int, least_push: float, rng: random.Random, generator: torch.Generator
    ) -> dict[str, Callable[[], tuple[Tensor, Thing]]]:
        """Return what draws from each source; at most `most` simulated photographs."""
        simulated = self._simulate(max(1, most), least_push, generator)
        return {
            "simulated": lambda: next(simulated),
            "mixed": lambda: self._text(self._bank, rng, generator, mixed=True),
            "noun": lambda: self._text(self._nouns, rng, generator),
            "sound": lambda: self._text(self._sounds, rng, generator, mixed=True, sense="sound"),
            "shape": lambda: self._text(self._shapes, rng, generator, mixed=True, sense="shape"),
            "photograph": lambda: self._photograph(rng, generator),
            "blend": lambda: self._blend(rng, generator),
        }

    def _simulate(self, count: int, least_push: float, generator: torch.Generator) -> Iterator[tuple[Tensor, Thing]]:
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
            yield blended.vectors[row], self._seen(blended, row)

    def _seen(self, blended: BlendedNames, row: int, name: int | None = None) -> Thing:
        nearest = blended.nearest[row, :8].tolist()
        first, second = self._two(self._bank, nearest if name is None else [name, *nearest])
        unsure = float(blended.confidence[row]) < self._space.doubt_below
        return self._thing(self._bank, first, second, unsure=unsure)

    def _two(self, names: _Neighbourhood, best: Sequence[int]) -> tuple[int, int]:
        """Return the best index and the next one with another name; a learnt name may repeat one of ImageNet's."""
        said = names.names[best[0]].text.lower()
        return best[0], next((i for i in best[1:] if names.names[i].text.lower() != said), best[1])

    def _thing(
        self, names: _Neighbourhood, first: int, second: int, *, unsure: bool, sense: Sense = "picture"
    ) -> Thing:
        one, other = names.names[first], names.names[second]
        near = tuple(names.names[i] for i in names.nearest[first].tolist())
        return Thing(one.text, one.kind, one.groups, other.text, unsure, sense, (), near, one.synonyms)

    def _photograph(self, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, Thing]:
        """A real training photograph; its true name counts when the embedding has it among its nearest five."""
        space = self._space
        row = rng.randrange(len(space.photograph_names))
        true = space.photograph_names[row]
        believable = true in space.photographs.nearest[row, :5].tolist()
        noise = torch.randn(space.vectors.shape[1], generator=generator) * 0.01
        vector = F.normalize(space.photographs.vectors[row] + noise, dim=-1)
        return vector, self._seen(space.photographs, row, true if believable else None)

    def _text(
        self,
        names: _Neighbourhood,
        rng: random.Random,
        generator: torch.Generator,
        *,
        mixed: bool = False,
        sense: Sense = "picture",
    ) -> tuple[Tensor, Thing]:
        """A name's embedding, in 60 % of the cases mixed with up to six others, mostly near ones, as an encoder would.

        Whether the answer hedges is drawn apart from the vector, since the confidence says it and not the vector.
        """
        first = rng.randrange(len(names.names))
        _, second = self._two(names, [first, *names.nearest[first].tolist()])
        mean = names.vectors[first]
        if mixed and rng.random() < 0.6:
            weights, others = self._mixture(names, first, rng)
            mean = torch.tensor(weights) @ names.vectors[others]  # (E,)
            first, second = self._two(names, (names.vectors @ mean).topk(6).indices.tolist())
        noise = torch.randn(len(mean), generator=generator) * rng.choice((0.0, 0.01, 0.02))
        vector = F.normalize(F.normalize(mean, dim=-1) + noise, dim=-1)
        return vector, self._thing(names, first, second, unsure=rng.random() < 0.2, sense=sense)

    def _mixture(self, names: _Neighbourhood, first: int, rng: random.Random) -> tuple[list[float], list[int]]:
        """Return the weights and indices of an uncertain encoder's names; the first keeps at least 40 %."""
        num_others = rng.randint(1, 6)
        share = rng.uniform(0.40, 0.95)
        near, count = names.nearest[first].tolist(), len(names.names)
        near_share = 1.0 if share < 0.6 and num_others < 3 else 0.8  # two far names of like weight are a blend
        others = [rng.choice(near) if rng.random() < near_share else rng.randrange(count) for _ in range(num_others)]
        parts = [rng.expovariate(1.0) for _ in range(num_others)]
        return [share, *(part / sum(parts) * (1 - share) for part in parts)], [first, *others]

    def _blend(self, rng: random.Random, generator: torch.Generator) -> tuple[Tensor, Thing]:
        """Two or three unlike things blended as the engine does it, not renormalised; the heaviest is named first.

        A sixth subtracts a second thing instead, a fifth is renormalised as the visual cache does.
        """
        pools = rng.choices((self._bank, self._nouns, self._sounds, self._shapes), (0.5, 0.24, 0.2, 0.06), k=3)
        picks = [(pool.names[i], pool.vectors[i]) for pool in pools for i in [rng.randrange(len(pool.names))]]
        count = 3 if rng.random() < 0.2 else 2
        names, vectors = [name for name, _ in picks[:count]], torch.stack([vector for _, vector in picks[:count]])
        closeness = (vectors @ vectors.T - 2 * torch.eye(count)).max()
        if float(closeness) > TOO_ALIKE:
            return self._blend(rng, generator)
        if count == 2 and rng.random() < 0.16:
            less = rng.uniform(0.1, 0.6)
            taken = (vectors[0] - less * vectors[1]) / (1 - less)
            return taken, self._beside(names[:1], rng)
        weights = torch.tensor([rng.uniform(1.0, 2.0 if count == 2 else 1.3) for _ in names])
        order = weights.argsort(descending=True).tolist()
        mean = (weights / weights.sum()) @ vectors + torch.randn(vectors.shape[1], generator=generator) * 0.005
        vector = F.normalize(mean, dim=-1) if rng.random() < 0.2 else mean
        return vector, self._beside([names[i] for i in order], rng)

    def _beside(self, names: Sequence[Name], rng: random.Random) -> Thing:
        first, *others = names
        other = rng.choice(self._space.bank).text if others else first.text
        unsure = bool(others) and rng.random() < 0.12
        return Thing(first.text, first.kind, first.groups, other, unsure, "picture", tuple(others))

    def _chat_sample(self, vector: Tensor, thing: Thing, interviewer: Interviewer, rng: random.Random) -> Sample:
        """A question that has nothing to do with the picture, answered as the base model does; maybe a later turn."""
        answer = rng.choice(self._chat)
        before = interviewer.naming(thing) if rng.random() < 0.12 else []
        turns = [{"role": role, "content": text} for role, text in (*before, ("user", answer.question))]
        prompt = self._tokenizer.apply_chat_template(turns)
        token_ids = prompt + answer.token_ids
        weights = [0.0] * len(prompt) + [1.0] * len(answer.token_ids)
        return Sample(vector, thing.unsure, token_ids, weights, (answer.likely_ids, answer.likely_shares))

    def encode(self, vector: Tensor, unsure: bool, conversation: Conversation, verdict: bool | None = None) -> Sample:
        """Return a conversation as ids; where a verdict was told, the last answer alone counts, which it is about."""
        token_ids: list[int] = []
        weights: list[float] = []
        turns = [{"role": role, "content": text} for role, text in conversation]
        for position, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            prompt = self._tokenizer.apply_chat_template(turns[:position])
            added = prompt[len(token_ids) :]
            answer = [*self._tokenizer.encode(turn["content"]), self._end]
            token_ids += added + answer
            first = YES_OR_NO_WEIGHT if answer[0] in self._yes_or_no else 1.0
            if verdict is not None:
                weights = [0.0] * len(weights)
            weights += [0.0] * len(added) + [first] + [1.0] * (len(answer) - 1)
        return Sample(vector, unsure, token_ids, weights, verdict=verdict)


def _in_some_sense(thing: Thing, rng: random.Random) -> Thing:
    """Let a picture's thing at times be filmed, scanned or heard; whatever has a sense of its own keeps it."""
    if thing.sense != "picture":
        return thing
    return replace(thing, sense=rng.choices(list(SENSES_OF_NAMES), list(SENSES_OF_NAMES.values()))[0])


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
    shape = (len(samples), max(len(sample.token_ids) for sample in samples))
    token_ids, weights = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
    for row, sample in enumerate(samples):
        token_ids[row, : len(sample.token_ids)] = torch.tensor(sample.token_ids)
        weights[row, : len(sample.weights)] = torch.tensor(sample.weights)
    target_ids = token_ids[..., None].repeat(1, 1, NUM_TEACHER_TOKENS)  # (B, T, K)
    target_shares = F.one_hot(torch.zeros(shape, dtype=torch.long), NUM_TEACHER_TOKENS).float()
    for row, sample in enumerate(samples):
        if sample.likely is not None:
            ids, shares = sample.likely
            place = slice(len(sample.token_ids) - len(ids), len(sample.token_ids))
            target_ids[row, place] = ids
            target_shares[row, place] = shares / shares.sum(dim=-1, keepdim=True)
    doubtful = torch.tensor([sample.doubtful for sample in samples])
    vectors = torch.stack([sample.vector for sample in samples])
    verdicts = tuple(sample.verdict for sample in samples)
    return Batch(vectors, doubtful, token_ids, weights, target_ids, target_shares, verdicts)
