"""The condition of a reply: the verdict on the user's last question goes to the adapter, when it wants one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import EngineFault, InvalidRequest
from core.telemetry import EventLog
from core.types import ChatMessage, ChatRequest, Condition, FloatArray, SamplingParams
from engine.conditioning import Conditioner
from models.mini.relevance import NUM_BUCKETS, bucket_of
from models.mini.verdicts import AgreementNetwork, LinearWords, Verdicts
from models.tiny import EMBEDDING_WIDTH, load_tiny

pytestmark = pytest.mark.anyio
POSITIVE = np.full(EMBEDDING_WIDTH, 0.25, dtype=np.float32)


class NotingAdapter:
    """The tiny adapter, which also keeps every verdict it gets and breaks on demand."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self._inner, self._error = load_tiny(torch.float32).adapter, error
        self.verdicts: list[bool | None] = []

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        if self._error is not None:
            raise self._error
        self.verdicts.append(agrees)
        return self._inner.condition(vector, confidence=confidence, agrees=agrees)


def judge() -> Verdicts:
    """Judges questions that begin with "is": yes where the word asked for, red or blue, has the vector's sign."""
    wanted, asked = np.zeros((2, NUM_BUCKETS), dtype=np.float32)
    wanted[bucket_of("<s> is")] = 2.0
    asked[[bucket_of("word red"), bucket_of("word blue")]] = 2.0
    network = Dot()
    words = {"red": torch.ones(EMBEDDING_WIDTH), "blue": -torch.ones(EMBEDDING_WIDTH)}
    return Verdicts(LinearWords(wanted, -1.0), LinearWords(asked, -1.0), network, words.__getitem__)


class Dot(AgreementNetwork):
    """The inner product in place of the learnt comparison."""

    def __init__(self) -> None:
        super().__init__(EMBEDDING_WIDTH)

    def forward(self, asked: Tensor, shown: Tensor) -> Tensor:
        return (asked * shown).sum(dim=-1)


def chat(*turns: tuple[str, str]) -> ChatRequest:
    messages = tuple(ChatMessage(role=role, text=text) for role, text in turns)  # type: ignore[arg-type]
    return ChatRequest(request_id="r", model="tiny", messages=messages, sampling=SamplingParams(max_tokens=6))


def conditioner(adapter: NotingAdapter) -> Conditioner:
    return Conditioner(replace(load_tiny(torch.float32), adapter=adapter, verdicts=judge()), EventLog("test"))


@pytest.mark.parametrize(
    ("turns", "vector", "verdict"),
    [
        ((("user", "is this red?"),), POSITIVE, True),
        ((("user", "is this blue?"),), POSITIVE, False),
        ((("user", "is this blue?"),), -POSITIVE, True),
        ((("user", "what is red?"),), POSITIVE, None),
        ((("user", "is this green?"),), POSITIVE, None),
        ((("user", "is this red?"),), None, None),
        ((("user", "what is this?"), ("assistant", "red"), ("user", "is it blue?")), POSITIVE, False),
        ((("user", "is this red?"), ("assistant", "Yes."), ("user", "what is it?")), POSITIVE, None),
    ],
)
async def test_the_adapter_hears_the_verdict_on_the_last_question_when_it_wants_one(
    turns: tuple[tuple[str, str], ...], vector: FloatArray | None, verdict: bool | None
) -> None:
    adapter = NotingAdapter()
    _, told = await conditioner(adapter).condition(chat(*turns), vector, 0.9)
    assert adapter.verdicts == [verdict]
    assert told is verdict


async def test_what_the_adapter_refuses_is_passed_on_and_a_failure_is_a_fault() -> None:
    for error, expected in ((InvalidRequest("wrong width"), InvalidRequest), (ValueError("a bug"), EngineFault)):
        with pytest.raises(expected):
            await conditioner(NotingAdapter(error=error)).condition(chat(("user", "is this red?")), POSITIVE, None)
