"""What an evaluation asks, what it got, and the numbers that come out of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIDENCE_Z = 1.959964  # of 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One thing to ask: a medium of `kind`, the words, and every answer that counts as right.

    `group` is what results are broken down by: a class or a category. `name` is unique in its data set.
    """

    name: str
    path: Path
    kind: str
    text: str
    expected: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back; `error` is why nothing did."""

    question: Question
    text: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An answer and what it is worth in [0, 1]; `expected` and `said` are its place in the confusion table."""

    answer: Answer
    worth: float
    expected: str
    said: str

    @property
    def is_right(self) -> bool:
        return self.worth >= 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`metrics` of all, one row of them for each of `groups`, and the verdicts behind them."""

    metrics: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verdicts: Sequence[Verdict] = ()

    def confusion(self) -> list[dict[str, Any]]:
        """Return how often what was said instead of what, the most frequent first."""
        wrong = Counter((v.expected, v.said) for v in self.verdicts if v.expected != v.said)
        return [{"expected": pair[0], "said": pair[1], "count": n} for pair, n in wrong.most_common()]


def share(values: Sequence[float | bool]) -> float | None:
    """Return the mean, None of nothing."""
    return round(sum(values) / len(values), 5) if values else None


def share_interval(successes: float, total: int) -> list[float] | None:
    """Return the 95 % interval of a share (Wilson 1927), None of nothing."""
    if not total:
        return None
    mean, z2 = successes / total, CONFIDENCE_Z**2
    centre = (mean + z2 / (2 * total)) / (1 + z2 / total)
    half = CONFIDENCE_Z * math.sqrt(mean * (1 - mean) / total + z2 / (4 * total**2)) / (1 + z2 / total)
    return [round(max(0.0, centre - half), 5), round(min(1.0, centre + half), 5)]


def by_group(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """Return the verdicts of each group, groups in alphabetical order."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda v: v.answer.question.group):
        groups.setdefault(verdict.answer.question.group, []).append(verdict)
    return groups
