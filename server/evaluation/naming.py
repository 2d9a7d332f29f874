"""Naming: "What is this?" about every medium of a `class/file` tree; right when the answer holds the class's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.naming import HEDGE, contains_name
from server.evaluation.data_sets import further_names, labelled_media
from server.evaluation.outcome import Answer, Outcome, Question, Verdict, by_group, share, share_interval

QUESTIONS = {
    "image": "What is this?",
    "audio": "What do you hear?",
    "video": "What is this?",
    "point_cloud": "What is this?",
}
NO_NAME = "none of the classes"


def read_questions(folder: Path, question: str | None) -> list[Question]:
    """Return one question per medium; further right names of a class come from names.json."""
    names = further_names(folder)
    return [
        Question(
            name=path.relative_to(folder).as_posix(),
            path=path,
            kind=kind,
            text=question or QUESTIONS[kind],
            expected=(label, *names.get(label, ())),
            group=label,
        )
        for path, kind, label in labelled_media(folder)
    ]


def score(answers: Sequence[Answer]) -> Outcome:
    """Return shares of right, hedged, and right among unhedged answers; `macro_accuracy` is the mean over classes."""
    names = {answer.question.group: answer.question.expected for answer in answers}
    verdicts = [_judge(answer, names) for answer in answers if answer.error is None]
    groups = {name: _shares(group) for name, group in by_group(verdicts).items()}
    metrics = _shares(verdicts)
    metrics["accuracy_95"] = share_interval(sum(v.is_right for v in verdicts), len(verdicts))
    metrics["macro_accuracy"] = share([row["accuracy"] for row in groups.values()])
    return Outcome(metrics=metrics, groups=groups, verdicts=verdicts)


def _judge(answer: Answer, names: Mapping[str, tuple[str, ...]]) -> Verdict:
    label = answer.question.group
    is_right = any(contains_name(answer.text, name) for name in names[label])
    said = [other for other, known in names.items() if any(contains_name(answer.text, name) for name in known)]
    longest = max(said, key=len, default=NO_NAME)  # "lobster claw" also names a lobster
    return Verdict(answer=answer, worth=float(is_right), expected=label, said=label if is_right else longest)


def _shares(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    hedged = [HEDGE.search(v.answer.text) is not None for v in verdicts]
    return {
        "answers": len(verdicts),
        "accuracy": share([v.is_right for v in verdicts]),
        "hedged": share(hedged),
        "accuracy_unhedged": share(
            [v.is_right for v, is_hedged in zip(verdicts, hedged, strict=True) if not is_hedged]
        ),
    }
