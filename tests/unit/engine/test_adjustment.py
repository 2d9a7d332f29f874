from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from core.errors import InvalidRequest
from core.types import DecodeRequest, SamplingParams
from engine.backends.native.adjustment import adjust
from engine.backends.native.sampler import most_likely
from engine.backends.native.scheduler import Sample, TokenSequence
from engine.decoding.text_stream import TextStream
from tests.support.tiny_engine import TOKENIZER, collect, decode_request, generated_ids, running_backend, tiny_bundle

VOCAB = TOKENIZER.vocab_size
PROMPT = (5, 6, 7, 7)


def sequence(output_ids: tuple[int, ...] = (), **sampling: object) -> TokenSequence:
    params = SamplingParams(max_tokens=50, **sampling)  # type: ignore[arg-type]
    request = DecodeRequest(request_id="r", token_ids=PROMPT, sampling=params)
    made = TokenSequence(request, None, TextStream(TOKENIZER), TOKENIZER.eos_token_ids)  # type: ignore[arg-type]
    for token_id in output_ids:
        made.accept(Sample(token_id, 0.0))
    return made


def random_logits(num_rows: int) -> Tensor:
    return torch.randn(num_rows, VOCAB, generator=torch.Generator().manual_seed(1)) * 3


def expected_row(logits: list[float], output: tuple[int, ...], p: SamplingParams) -> list[float]:
    """The formulas written as a loop over one row."""
    bias = dict(p.logit_bias)
    row = []
    for token_id, logit in enumerate(logits):
        count = output.count(token_id)
        if count or token_id in PROMPT:
            logit = logit / p.repetition_penalty if logit > 0 else logit * p.repetition_penalty
        logit -= p.frequency_penalty * count + p.presence_penalty * (count > 0)
        row.append(logit + bias.get(token_id, 0.0))
    return row


MIXED: list[dict[str, object]] = [
    {},
    {"frequency_penalty": 0.7},
    {"presence_penalty": -1.5},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8, "frequency_penalty": -0.4, "presence_penalty": 0.9},
    {"logit_bias": ((9, 5.5), (5, -100.0))},
    {"logit_bias": ((7, 2.0),), "frequency_penalty": 2.0},
]


def test_every_row_gets_its_own_formula_in_a_mixed_batch() -> None:
    outputs = [tuple(random.Random(i).choices(range(3, 12), k=i * 3)) for i in range(len(MIXED))]
    rows = [sequence(output, **options) for output, options in zip(outputs, MIXED, strict=True)]
    logits = random_logits(len(rows))
    adjusted = adjust(logits, rows)
    expected = [
        expected_row(row, output, made.request.sampling)
        for row, output, made in zip(logits.tolist(), outputs, rows, strict=True)
    ]
    torch.testing.assert_close(adjusted, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert torch.equal(adjusted[0], logits[0])


def test_rows_that_ask_for_nothing_cost_nothing_and_the_given_logits_are_never_written() -> None:
    logits = random_logits(2)
    before = logits.clone()
    assert adjust(logits, [sequence((9,)), sequence()]) is logits
    assert adjust(logits, [sequence((9,), frequency_penalty=1), sequence()]) is not logits
    assert torch.equal(logits, before)


def test_a_row_is_adjusted_alike_in_any_batch() -> None:
    rows = [sequence((8, 9, 9), **options) for options in MIXED]
    logits = random_logits(len(rows))
    together = adjust(logits, rows)
    assert all(torch.equal(together[i], adjust(logits[i : i + 1], [row])[0]) for i, row in enumerate(rows))


def test_before_min_tokens_no_token_that_ends_the_reply_can_be_drawn() -> None:
    logits = random_logits(1)
    early = adjust(logits, [sequence((9,), min_tokens=2, stop_token_ids=frozenset({40}))])
    banned = {*TOKENIZER.eos_token_ids, 40}
    assert set(torch.isinf(early[0]).nonzero().flatten().tolist()) == banned
    assert adjust(logits, [sequence((9, 9), min_tokens=2)]) is logits
    ignoring = adjust(logits, [sequence(min_tokens=2, ignore_eos=True, stop_token_ids=frozenset({40}))])
    assert torch.isinf(ignoring[0]).nonzero().flatten().tolist() == [40]


def test_the_most_likely_tokens_come_from_the_unmodified_distribution() -> None:
    logits = random_logits(3)
    asked = [SamplingParams(max_tokens=1, num_logprobs=count) for count in (None, 0, 5)]
    none, zero, five = most_likely(logits, asked)
    expected = logits[2].log_softmax(dim=-1).sort(descending=True)
    assert (none, zero) == ((), ())
    assert [token_id for token_id, _ in five] == expected.indices[:5].tolist()
    torch.testing.assert_close(torch.tensor([value for _, value in five]), expected.values[:5])


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"num_logprobs": 21}, "top_logprobs"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": float("nan")}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"logit_bias": ((1, 101.0),)}, "logit_bias"),
        ({"logit_bias": tuple((i, 0.0) for i in range(1025))}, "logit_bias"),
        ({"min_tokens": 51}, "min_tokens"),
        ({"stop_token_ids": frozenset(range(65))}, "stop_token_ids"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(options: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sequence((), **options)
    assert refused.value.param == param


@pytest.mark.anyio
async def test_a_bias_of_a_hundred_forces_a_token_and_minus_a_hundred_bans_it() -> None:
    async with running_backend(tiny_bundle()) as backend:
        free = await generated_ids(backend, decode_request("free"))
        forced = await generated_ids(backend, decode_request("forced", logit_bias=((77, 100.0),)))
        banned = await generated_ids(backend, decode_request("banned", logit_bias=((free[0], -100.0),)))
    assert forced == [77] * 8
    assert free[0] not in banned


@pytest.mark.anyio
async def test_a_stop_token_ends_the_reply_without_text_and_min_tokens_holds_it_off() -> None:
    async with running_backend(tiny_bundle()) as backend:
        free = await generated_ids(backend, decode_request("free"))
        stop = frozenset({free[3]})
        events = await collect(backend, decode_request("r", stop_token_ids=stop))
        later = await generated_ids(backend, decode_request("later", stop_token_ids=stop, min_tokens=8))
    assert [event.token_id for event in events] == free[: free.index(free[3]) + 1]
    assert (events[-1].finish, events[-1].text) == ("stop", "")
    assert len(later) == 8
    assert free[3] not in later


@pytest.mark.anyio
async def test_a_repetition_penalty_changes_only_its_own_row() -> None:
    async with running_backend(tiny_bundle()) as backend:
        plain = await generated_ids(backend, decode_request("plain", max_tokens=24))
        penalised = backend.generate(decode_request("p", max_tokens=24, frequency_penalty=2.0, repetition_penalty=5.0))
        await anext(penalised)
        beside = await generated_ids(backend, decode_request("beside", max_tokens=24))
        other = [event.token_id async for event in penalised]
    assert beside == plain
    assert other != plain[1:]


@pytest.mark.anyio
async def test_an_unknown_token_id_is_refused_with_the_range() -> None:
    async with running_backend(tiny_bundle()) as backend:
        with pytest.raises(InvalidRequest, match=rf"token {VOCAB}; ids are in \[0, {VOCAB - 1}\]"):
            await collect(backend, decode_request("r", logit_bias=((VOCAB, 1.0),)))
        with pytest.raises(InvalidRequest, match="stop_token_ids names token -1"):
            await collect(backend, decode_request("r", stop_token_ids=frozenset({-1})))


@pytest.mark.anyio
async def test_logprobs_name_every_token_that_is_part_of_the_reply() -> None:
    async with running_backend(tiny_bundle()) as backend:
        plain = await collect(backend, decode_request("plain"))
        events = await collect(backend, decode_request("r", num_logprobs=3))
        eos = frozenset({events[4].token_id})
        ended = await collect(backend, decode_request("ended", num_logprobs=1, stop_token_ids=eos))
    assert [event.token_id for event in events] == [event.token_id for event in plain]
    assert all(event.drawn is None and event.most_likely == () for event in plain)
    for event in events:
        assert event.drawn is not None
        assert event.drawn.logprob == event.logprob
        assert (event.drawn.token_bytes or b"") == TOKENIZER.token_bytes(event.token_id)
        assert event.most_likely[0].token_id == event.token_id  # greedy
        assert len(event.most_likely) == 3
    assert ended[-1].finish == "stop"
    assert ended[-1].drawn is None
