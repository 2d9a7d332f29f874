"""Captions: corpus BLEU-4 (Papineni et al. 2002, by sacrebleu) and CIDEr-D (Vedantam et al. 2015).

CIDEr-D is computed here: its one Python package brings a hundred megabytes of Java. A test compares the
numbers with that package's. Words are lower case without punctuation, as the COCO tools count them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from server.evaluation.data_sets import captioned_media, kind_of
from server.evaluation.outcome import Answer, Outcome, Question, Verdict, share

MAX_ORDER = 4
SIGMA = 6.0
SCALE = 10.0
GOOD_CIDER = 1.0  # of 10; from here on an example counts among the good ones of a report

Grams = Counter[tuple[str, ...]]


def read_questions(folder: Path, question: str) -> list[Question]:
    """Return one question per medium, with all its captions as right answers."""
    return [
        Question(
            name=path.relative_to(folder).as_posix(),
            path=path,
            kind=kind_of(path) or "image",
            text=question,
            expected=tuple(captions),
        )
        for path, captions in sorted(captioned_media(folder).items())
    ]


def score(answers: Sequence[Answer]) -> Outcome:
    """Return BLEU-4 in percent, CIDEr-D as the COCO tools scale it (10 is a copy), and the captions' lengths.

    Raises `ConfigError` when sacrebleu is not installed.
    """
    answered = [answer for answer in answers if answer.error is None]
    said = [tokens_of(answer.text) for answer in answered]
    meant = [[tokens_of(caption) for caption in answer.question.expected] for answer in answered]
    ciders = cider_d(said, meant)
    metrics: dict[str, Any] = {
        "answers": len(answered),
        "bleu_4": _bleu_4(said, meant),
        "cider_d": share(ciders),
        "words": share([len(words) for words in said]),
        "words_expected": share([len(words) for captions in meant for words in captions]),
    }
    verdicts = [
        Verdict(answer=answer, worth=cider / (2 * GOOD_CIDER), expected="", said="")
        for answer, cider in zip(answered, ciders, strict=True)
    ]
    return Outcome(metrics=metrics, verdicts=verdicts)


def tokens_of(caption: str) -> list[str]:
    """Return the words of a caption; punctuation goes, apostrophes and hyphens inside words stay."""
    words = "".join(letter if letter.isalnum() or letter in "'-" else " " for letter in caption.lower()).split()
    return [bare for word in words if (bare := word.strip("'-"))]


def _bleu_4(said: Sequence[Sequence[str]], meant: Sequence[Sequence[Sequence[str]]]) -> float | None:
    if not said:
        return None
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise ConfigError(
            "captions are scored with sacrebleu; install the extra: pip install 'bindchat[eval]'"
        ) from None
    most = max(map(len, meant))
    columns: list[Any] = [  # None where a medium has fewer captions than another
        [" ".join(captions[i]) if i < len(captions) else None for captions in meant] for i in range(most)
    ]
    bleu = BLEU(tokenize="none", smooth_method="none", max_ngram_order=MAX_ORDER)
    return round(float(bleu.corpus_score([" ".join(words) for words in said], columns).score), 3)


def cider_d(said: Sequence[Sequence[str]], meant: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """Return CIDEr-D of each caption against its references, equation 4 of the paper, times 10.

    Rare n-grams weigh more: the documents are the sets of references. Of a single set every weight is 0, and so is
    every score.
    """
    references = [[_grams(words) for words in captions] for captions in meant]
    seen = Counter(gram for captions in references for gram in {gram for grams in captions for gram in grams})
    log_documents = math.log(max(len(references), 1))
    weights = {gram: log_documents - math.log(count) for gram, count in seen.items()}
    scores = []
    for words, captions in zip(said, references, strict=True):
        own = _Weighted(_grams(words), weights, log_documents)
        others = [_Weighted(grams, weights, log_documents) for grams in captions]
        scores.append(SCALE * sum(own.likeness(other) for other in others) / len(others))
    return scores


def _grams(words: Sequence[str]) -> Grams:
    """Return how often each n-gram of 1 to 4 words occurs."""
    return Counter(
        tuple(words[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(words) - order + 1)
    )


class _Weighted:
    """The tf-idf vector of a caption, one for each order, with its norms and its length in bigrams."""

    def __init__(self, grams: Grams, weights: dict[tuple[str, ...], float], unseen: float) -> None:
        self.vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(MAX_ORDER)]
        for gram, count in grams.items():
            self.vectors[len(gram) - 1][gram] = count * weights.get(gram, unseen)
        self.norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in self.vectors]
        self.length = sum(count for gram, count in grams.items() if len(gram) == 2)  # as the COCO tools count it

    def likeness(self, other: _Weighted) -> float:
        """Return the mean over orders of the clipped cosine, less the more the lengths differ."""
        penalty = math.exp(-((self.length - other.length) ** 2) / (2 * SIGMA**2))
        total = 0.0
        for own, theirs, norm, their_norm in zip(self.vectors, other.vectors, self.norms, other.norms, strict=True):
            product = sum(min(value, theirs[gram]) * theirs[gram] for gram, value in own.items() if gram in theirs)
            total += product / (norm * their_norm) if norm and their_norm else 0.0
        return penalty * total / MAX_ORDER
