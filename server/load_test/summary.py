"""The numbers of a load test: percentiles of what users waited for, rates, and errors by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from server.load_test.measure import Measurement

PERCENTILES = (50, 90, 95, 99)


def summarize(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Return counts, rates, percentiles in milliseconds and errors, of all requests and of each kind."""
    kinds = sorted({measured.kind for measured in measurements})
    of_kinds = {kind: _numbers([m for m in measurements if m.kind == kind]) for kind in kinds}
    return {**_numbers(measurements), "by_kind": of_kinds}


def _numbers(measurements: Sequence[Measurement]) -> dict[str, Any]:
    answered = [m for m in measurements if m.error is None]
    duration_s = max((m.due_s + m.total_s for m in measurements), default=0.0)
    num_tokens = sum(m.num_tokens for m in answered)
    return {
        "requests": len(measurements),
        "answered": len(answered),
        "failed": len(measurements) - len(answered),
        "duration_s": round(duration_s, 3),
        "requests_per_s": _rate(len(answered), duration_s),
        "prompt_tokens": sum(m.num_prompt_tokens for m in answered),
        "completion_tokens": num_tokens,
        "completion_tokens_per_s": _rate(num_tokens, duration_s),
        "first_token_ms": percentiles_ms([m.first_token_s for m in answered if m.first_token_s is not None]),
        "inter_token_ms": percentiles_ms([gap for m in answered for gap in m.gaps_s]),
        "total_ms": percentiles_ms([m.total_s for m in answered]),
        "errors": dict(Counter(m.error for m in measurements if m.error is not None).most_common()),
    }


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return the mean, percentiles and maximum in milliseconds; None of nothing."""
    if not seconds:
        return None
    values = np.asarray(seconds) * 1000
    named = {f"p{p}": round(float(np.percentile(values, p)), 2) for p in PERCENTILES}
    return {"mean": round(float(values.mean()), 2), **named, "max": round(float(values.max()), 2)}


def table(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows of a table: the header, all requests, each kind."""
    columns = [(what, p) for what in ("first_token_ms", "inter_token_ms", "total_ms") for p in ("p50", "p95", "p99")]
    names = {"first_token_ms": "first token", "inter_token_ms": "between tokens", "total_ms": "total"}
    rows = [("ms", "answered", "failed", *(f"{names[what]} {p}" for what, p in columns))]
    for name, numbers in (("all", summary), *summary["by_kind"].items()):
        cells = [f"{numbers[what][p]:.1f}" if numbers[what] else "-" for what, p in columns]
        rows.append((name, str(numbers["answered"]), str(numbers["failed"]), *cells))
    return rows


def _rate(amount: int, duration_s: float) -> float:
    return round(amount / duration_s, 3) if duration_s else 0.0
