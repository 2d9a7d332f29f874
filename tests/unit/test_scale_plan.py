"""The plan of replicas: each number from its formula."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.scale_plan import PROFILES, DecoderModel, overridden, plan, table

PROFILE: dict[str, Any] = {
    "name": "example",
    "currency": "USD",
    "cost_per_core_hour": 0.05,
    "cost_per_gpu_hour": 2.0,
    "workload": {
        "prompt_tokens": 100,
        "reply_tokens": 50,
        "media_share": 0.5,
        "memo_share": 0.2,
        "utilisation": 0.5,
        "condition_bytes": 1000,
        "media_bytes": 2000,
    },
    "ingress": {"requests_per_s": 100, "tokens_per_s": 5000, "cores": 1, "gpus": 0, "source": "measured"},
    "encoder": {"media_decoded_per_s": 40, "media_encoded_per_s": 40, "cores": 2, "gpus": 0, "source": "measured"},
    "decoder": {"prompt_tokens_per_s": 1000, "reply_tokens_per_s": 500, "cores": 2, "gpus": 1, "source": "measured"},
}


def test_replicas_follow_from_the_seconds_that_a_request_takes_of_each_part() -> None:
    parts, (few, many) = plan(PROFILE, [1, 100])
    assert [part.seconds_per_request for part in parts] == pytest.approx([0.02, 0.02, 0.2])
    assert [part.saturates_at for part in parts] == pytest.approx([50, 50, 5])
    assert few.replicas == {"ingress": 2, "encoder": 2, "decoder": 2}
    assert many.replicas == {"ingress": 4, "encoder": 4, "decoder": 40}


def test_cost_and_traffic_follow_from_the_replicas() -> None:
    _, (row,) = plan(PROFILE, [100])
    assert (row.cores, row.gpus) == (4 + 8 + 80, 40)
    assert row.cost_per_hour == pytest.approx(92 * 0.05 + 40 * 2)
    assert row.cost_per_million == pytest.approx(row.cost_per_hour / 360_000 * 1e6)
    assert row.gigabits_per_s == pytest.approx(100 * 0.5 * (0.8 * 2000 + 1000) * 8 / 1e9)


def test_a_modelled_decoder_is_bound_by_memory_in_small_batches_and_by_arithmetic_in_large_ones() -> None:
    sizes = {"parameters": 1e9, "bytes_per_weight": 2, "kv_bytes_per_token": 0, "efficiency": 1.0}
    limits = {"bandwidth_bytes_per_s": 2e12, "flops_per_s": 2e14}
    assert DecoderModel(batch=10, **sizes, **limits).reply_tokens_per_s(100) == pytest.approx(10 / 1e-3)
    assert DecoderModel(batch=1000, **sizes, **limits).reply_tokens_per_s(100) == pytest.approx(2e14 / 2e9)
    with_kv = DecoderModel(batch=10, **{**sizes, "kv_bytes_per_token": 2e6}, **limits)
    assert with_kv.reply_tokens_per_s(100) == pytest.approx(10 / 2e-3)
    assert with_kv.prompt_tokens_per_s() == pytest.approx(1e5)


def test_a_rate_given_as_an_argument_is_marked_as_such_and_a_wrong_name_is_refused() -> None:
    changed = overridden(PROFILE, ["decoder.reply_tokens_per_s=250", "workload.utilisation=1"])
    assert "| decoder | 3.33 requests/s | 2 | 1 | given as an argument |" in table(changed, [10])
    assert PROFILE["decoder"]["reply_tokens_per_s"] == 500
    with pytest.raises(SystemExit, match=r"decoder\.speed is not in the profile"):
        overridden(PROFILE, ["decoder.speed=1"])


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.json")), ids=lambda path: path.stem)
def test_every_shipped_profile_says_of_each_part_where_its_rates_come_from(path: Any) -> None:
    profile = json.loads(path.read_text())
    parts, rows = plan(profile, [10, 1000, 100_000])
    assert all(part.source.startswith(("measured", "modelled")) for part in parts)
    assert len(rows) == 3
