"""Visual question answering: exact match and the accuracy of VQA (Antol et al. 2015), after VQA's normalisation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.naming import contains_name
from server.evaluation.data_sets import asked_media, kind_of
from server.evaluation.outcome import Answer, Outcome, Question, Verdict, by_group, share, share_interval

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0"} | {word: str(value) for value, word in enumerate(NUMBERS)}
ARTICLES = {"a", "an", "the"}
MIN_AGREEING = 3  # people who gave an answer, for it to count in full
LONGEST_SAID = 40


def read_questions(folder: Path, suffix: str) -> list[Question]:
    """Return the questions, each with `suffix` behind it."""
    return [
        Question(
            name=f"{row['path'].relative_to(folder).as_posix()}#{number}",
            path=row["path"],
            kind=kind_of(row["path"], strictly=True) or "image",
            text=f"{row['question']} {suffix}".strip(),
            expected=tuple(row["answers"]),
            group=row["category"],
        )
        for number, row in enumerate(asked_media(folder))
    ]


def normalised(text: str) -> str:
    """Return an answer in lower case without punctuation and articles, number words as digits.

    Points and commas inside numbers stay as points and nothing; apostrophes vanish, so that dont is don't.
    """
    plain = re.sub(r"(?<=\d),(?=\d)", "", text.lower().replace("'", "").replace("’", ""))
    plain = re.sub(r"(?<!\d)\.|\.(?!\d)", " ", plain)
    words = re.findall(r"[^\s!\"#$%&()*+,\-/:;<=>?@\[\\\]^_`{|}~]+", plain)
    return " ".join(DIGITS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(text: str, people: Sequence[str]) -> float:
    """Return the mean, over leaving out each person, of `min(others who gave this answer / 3, 1)`.

    Of one or two people's answers, 1 for any of them: they cannot be three.
    """
    said, given = normalised(text), [normalised(answer) for answer in people]
    if len(given) < MIN_AGREEING:
        return float(said in given)
    agreeing = given.count(said)
    others = [agreeing - (answer == said) for answer in given]
    return sum(min(count / MIN_AGREEING, 1.0) for count in others) / len(others)


def score(answers: Sequence[Answer]) -> Outcome:
    """Return exact match, VQA accuracy, and the share of answers that contain a right one as whole words."""
    verdicts = [_judge(answer) for answer in answers if answer.error is None]
    groups = {name: _shares(group) for name, group in by_group(verdicts).items()}
    metrics = _shares(verdicts)
    metrics["exact_match_95"] = share_interval(sum(map(_is_exact, verdicts)), len(verdicts))
    return Outcome(metrics=metrics, groups=groups if len(groups) > 1 else {}, verdicts=verdicts)


def _judge(answer: Answer) -> Verdict:
    people = answer.question.expected
    most_given = Counter(map(normalised, people)).most_common(1)[0][0]
    said = normalised(answer.text)
    worth = vqa_accuracy(answer.text, people)
    shown = said if len(said) <= LONGEST_SAID else f"{said[:LONGEST_SAID]}…"
    return Verdict(answer=answer, worth=worth, expected=most_given, said=most_given if worth >= 0.5 else shown)


def _is_exact(verdict: Verdict) -> bool:
    return normalised(verdict.answer.text) in map(normalised, verdict.answer.question.expected)


def _shares(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    contained = [
        any(contains_name(normalised(v.answer.text), normalised(right)) for right in v.answer.question.expected)
        for v in verdicts
    ]
    return {
        "answers": len(verdicts),
        "exact_match": share([_is_exact(v) for v in verdicts]),
        "vqa_accuracy": share([v.worth for v in verdicts]),
        "contains_answer": share(contained),
    }
