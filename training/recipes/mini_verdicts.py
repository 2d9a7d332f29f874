"""Learn to judge yes-or-no questions (`models.mini.verdicts`), and the adapter's two verdicts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_lowercase

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.mini.relevance import NUM_BUCKETS, buckets_of
from models.mini.verdicts import PREFIX, AgreementNetwork, LinearWords, split_question, word_buckets, words_of
from training.loop import ALONE, LoopConfig, Team, run_loop
from training.recipes.mini_pictures import Name, embed_texts
from training.recipes.mini_questions import Interviewer
from training.recipes.mini_samples import Sample, SampleMaker, Space
from training.recipes.mini_verdict_pairs import MARK, Asker, kind_words, other_questions, trait_words, verdict_questions

NUM_QUESTIONS = 24_000
WORD_STEPS, WORD_BATCH, WORD_RATE, DECAY = 800, 1024, 0.05, 2e-5
UNKNOWN_WORDS = 0.5
VERDICT_RATE, WRONGLY_TOLD = 0.02, 0.2
NUM_THINGS = 60_000
AGREEMENT_STEPS, AGREEMENT_BATCH, AGREEMENT_RATE = 6000, 512, 1e-3
NOISE = 0.015  # per component of what is asked for and of what is shown
DROPOUT, SMOOTHING = 0.1, 0.01


def fit_words(
    rows: Sequence[Sequence[int]], targets: Sequence[float], seed: int, title: str, every: int = 1
) -> tuple[Tensor, Tensor]:
    """Fit log-odds of buckets: `weights` `(NUM_BUCKETS,)` and `bias` `(1,)`; `every` divides the steps."""
    generator = torch.Generator().manual_seed(seed)
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=NUM_BUCKETS
    )  # (N, W)
    wanted = torch.tensor(targets)
    weights = torch.zeros(NUM_BUCKETS + 1, requires_grad=True)  # the last is padding
    bias = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.AdamW([weights, bias], lr=WORD_RATE, weight_decay=0.002)
    for step in tqdm(range(0, WORD_STEPS, every), desc=title, unit="step"):
        optimizer.param_groups[0]["lr"] = WORD_RATE * (1 - step / WORD_STEPS)
        chosen = torch.randint(len(rows), (WORD_BATCH,), generator=generator)
        buckets = padded[chosen]
        log_odds = (weights[buckets] * (buckets < NUM_BUCKETS)).sum(dim=1) + bias
        loss = F.binary_cross_entropy_with_logits(log_odds, wanted[chosen]) + DECAY * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weights.detach()[:NUM_BUCKETS].clone(), bias.detach()


def train_words(names: Sequence[Name], plain: Sequence[str], seed: int, every: int = 1) -> dict[str, Tensor]:
    """Return the tensors of both models of words: which are asked for, and whether a verdict is."""
    count = NUM_QUESTIONS // every
    rng = random.Random(f"{seed}-verdict-words")
    questions = verdict_questions([name.text for name in names], rng, count)
    rows: list[list[int]] = []
    targets: list[float] = []
    for question in questions:
        for sentence in re.findall(r"[^.?!]+[.?!]*", question):
            said = words_of(sentence)
            bare = [_perhaps_unknown(word, rng) for word in said]
            rows += [word_buckets(bare, place) for place in range(len(said))]
            targets += [float(word.startswith(MARK)) for word in said]
    asked_weights, asked_bias = fit_words(rows, targets, seed, "words asked for", every)
    is_asked_for = LinearWords(asked_weights.numpy(), float(asked_bias))
    wanting = [split_question(question.replace(MARK, ""), is_asked_for)[1] for question in questions]
    others = [split_question(text, is_asked_for)[1] for text in other_questions(names, plain, rng, count)]
    weights, bias = fit_words(
        [buckets_of(text) for text in (*wanting, *others)],
        [1.0] * len(wanting) + [0.0] * len(others),
        seed,
        "verdicts wanted",
        every,
    )
    return {
        "asked_for.weight": asked_weights,
        "asked_for.bias": asked_bias,
        "wants_verdict.weight": weights,
        "wants_verdict.bias": bias,
    }


def _perhaps_unknown(word: str, rng: random.Random) -> str:
    """Replace half of the words asked for by letters that mean nothing, so that what is around them decides."""
    if not word.startswith(MARK):
        return word
    return "".join(rng.choices(ascii_lowercase, k=6)) if rng.random() < UNKNOWN_WORDS else word.removeprefix(MARK)


def judged_samples(maker: SampleMaker, names: Sequence[Name], count: int, seed: str) -> list[Sample]:
    """Return conversations that end with a judged question, the verdict told; some are told the wrong one.

    So the verdict decides, not what the decoder makes of the question by itself.
    """
    rng = random.Random(f"{seed}-judged")
    asker, interviewer = Asker(names, rng), Interviewer((), names, rng)
    samples = []
    for vector, thing in maker.things(count, rng):
        drawn = asker.ask(thing)
        if drawn is not None:
            verdict = drawn[1] is not (rng.random() < WRONGLY_TOLD)
            turn = interviewer.answered(asker.wording(drawn[0]), verdict, thing)
            before = interviewer.naming(thing) if rng.random() < 0.2 else []
            samples.append(maker.encode(vector, thing.unsure, interviewer.opened([*before, *turn]), verdict))
    return samples


def train_verdicts(
    adapter: ImageBindLLMAdapter, loss_at: Callable[[int], Tensor], num_steps: int, out: Path, team: Team = ALONE
) -> None:
    """Learn the adapter's two verdicts, everything else frozen; an interrupted run goes on from `out/verdicts`."""
    assert adapter.verdicts is not None
    adapter.requires_grad_(False)
    adapter.verdicts.requires_grad_(True)
    optimizer = torch.optim.AdamW([adapter.verdicts], lr=VERDICT_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    folder = out / "verdicts"
    folder.mkdir(exist_ok=True)
    loop = LoopConfig(num_steps=num_steps, model_name="verdicts", warmup_steps=10, checkpoint_every=10)
    run_loop(nn.ParameterList([adapter.verdicts]), optimizer, loss_at, loop, folder, team=team)


def asked_texts(space: Space) -> dict[str, Tensor]:
    """Return the unit embedding of everything that can be asked for: names, synonyms, kinds and traits."""
    parts = ((space.bank, space.vectors), (space.nouns, space.noun_vectors), (space.sounds, space.sound_vectors))
    known = {name.text: vector for names, rows in parts for name, vector in zip(names, rows, strict=True)}
    known |= {name.text: vector for name, vector in zip(space.shapes, space.shape_vectors, strict=True)}
    further = {word for name in space.bank for word in name.synonyms} | {*kind_words(), *trait_words()}
    missing = sorted(further - known.keys())
    return known | dict(zip(missing, embed_texts(missing), strict=True))


def train_agreement(
    pairs: tuple[Tensor, Tensor], answers: Tensor, seed: int, *, num_steps: int = AGREEMENT_STEPS
) -> AgreementNetwork:
    """Fit the network that compares what is asked for with what is shown, on rows `(N, E)` each and answers `(N,)`."""
    torch.manual_seed(seed)
    network = AgreementNetwork(pairs[0].shape[1], dropout=DROPOUT)
    optimizer = torch.optim.AdamW(network.parameters(), lr=AGREEMENT_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    generator = torch.Generator().manual_seed(seed)
    targets = answers * (1 - 2 * SMOOTHING) + SMOOTHING
    for _ in tqdm(range(num_steps), desc="agreement", unit="step"):
        rows = torch.randint(len(answers), (AGREEMENT_BATCH,), generator=generator)
        noise = torch.randn(2, AGREEMENT_BATCH, pairs[0].shape[1], generator=generator) * NOISE
        wanted = F.normalize(pairs[0][rows] + noise[0], dim=-1)
        loss = F.binary_cross_entropy_with_logits(network(wanted, pairs[1][rows] + noise[1]), targets[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def agreement_pairs(
    maker: SampleMaker, space: Space, asked: dict[str, Tensor], count: int, rng: random.Random
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return asked and shown rows `(N, E)` each, and the right answers `(N,)`; three questions a thing at most."""
    asker = Asker((*space.bank, *space.nouns), rng)
    wanted, shown, answers = [], [], []
    for vector, thing in maker.things(count, rng):
        for _ in range(3):
            drawn = asker.ask(thing)
            if drawn is not None and drawn[0] in asked:
                wanted.append(asked[drawn[0]])
                shown.append(vector)
                answers.append(float(drawn[1]))
    return (torch.stack(wanted), torch.stack(shown)), torch.tensor(answers)


def train_judge(maker: SampleMaker, space: Space, plain: Sequence[str], seed: int, every: int = 1) -> dict[str, Tensor]:
    """Return every tensor of `models.mini.verdicts` under the names that the served weights give them.

    `every` divides questions, things and steps.
    """
    words = train_words((*space.bank, *space.nouns), plain, seed, every)
    rng = random.Random(f"{seed}-agreement")
    pairs, answers = agreement_pairs(maker, space, asked_texts(space), NUM_THINGS // every, rng)
    network = train_agreement(pairs, answers, seed, num_steps=AGREEMENT_STEPS // every)
    return {f"{PREFIX}{key}": value for key, value in (words | network.state_dict()).items()}
