"""Yes-or-no questions as MME scores them (Fu et al. 2023): accuracy, accuracy+, and their sum.

Accuracy+ counts a picture when all its questions are answered right, so that a constant answer earns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import InvalidRequest
from server.evaluation.data_sets import asked_media, kind_of
from server.evaluation.outcome import Answer, Outcome, Question, Verdict, by_group, share, share_interval

NEITHER = "neither"
_FIRST_WORD = re.compile(r"[^\W\d_]+")


def read_questions(folder: Path, suffix: str) -> list[Question]:
    """Return the questions, each with `suffix` behind it. Raises `InvalidRequest` for other answers."""
    found = []
    for number, row in enumerate(asked_media(folder)):
        expected = polarity(row["answers"][0])
        if expected == NEITHER:
            raise InvalidRequest(
                f"the answer to {row['question']!r} is {row['answers'][0]!r}, not yes or no; `eval vqa` takes such ones"
            )
        place = row["path"].relative_to(folder).as_posix()
        found.append(
            Question(
                name=f"{place}#{number}",
                path=row["path"],
                kind=kind_of(row["path"], strictly=True) or "image",
                text=f"{row['question']} {suffix}".strip(),
                expected=(expected,),
                group=row["category"],
            )
        )
    return found


def polarity(text: str) -> str:
    """Return yes or no when that is the first word of an answer, else neither."""
    word = _FIRST_WORD.search(text)
    said = word.group().lower() if word else ""
    return said if said in ("yes", "no") else NEITHER


def score(answers: Sequence[Answer]) -> Outcome:
    """Return MME's numbers of all questions and of each category, and the shares that show a leaning to yes."""
    verdicts = [_judge(answer) for answer in answers if answer.error is None]
    groups = {name: _mme(group) for name, group in by_group(verdicts).items()}
    metrics = _mme(verdicts)
    metrics["accuracy_95"] = share_interval(sum(v.is_right for v in verdicts), len(verdicts))
    said_yes = [v for v in verdicts if v.said == "yes"]
    are_yes = [v for v in verdicts if v.expected == "yes"]
    metrics |= {
        "said_yes": share([v.said == "yes" for v in verdicts]),
        "said_neither": share([v.said == NEITHER for v in verdicts]),
        "precision": share([v.is_right for v in said_yes]),
        "recall": share([v.is_right for v in are_yes]),
        "f1": _f1(sum(v.is_right for v in said_yes), len(said_yes), len(are_yes)),
    }
    return Outcome(metrics=metrics, groups=groups if len(groups) > 1 else {}, verdicts=verdicts)


def _judge(answer: Answer) -> Verdict:
    (expected,), said = answer.question.expected, polarity(answer.text)
    return Verdict(answer=answer, worth=float(said == expected), expected=expected, said=said)


def _mme(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    pictures: dict[Path, list[bool]] = {}
    for verdict in verdicts:
        pictures.setdefault(verdict.answer.question.path, []).append(verdict.is_right)
    accuracy, plus = share([v.is_right for v in verdicts]), share([all(marks) for marks in pictures.values()])
    total = None if accuracy is None or plus is None else round(100 * (accuracy + plus), 2)
    return {
        "answers": len(verdicts),
        "pictures": len(pictures),
        "accuracy": accuracy,
        "accuracy_plus": plus,
        "mme_score": total,
    }


def _f1(num_right: int, num_said: int, num_true: int) -> float | None:
    return round(2 * num_right / (num_said + num_true), 5) if num_said + num_true else None
