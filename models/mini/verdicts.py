"""Should a yes-or-no question about a medium be answered with yes? What is asked for, against what is shown.

A linear model of words finds what a question asks for ("Is this a lamp, do you think?": lamp), another one says whether
it wants a yes or a no, and a small network compares the text embedding of what is asked for with the medium's joint
embedding: both lie in MiniLM's space. Any other question is left alone. Letters: B batch, E embedding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import CheckpointError
from core.types import FloatArray
from models.checkpoints import load_strictly
from models.mini.relevance import bucket_of, buckets_of

MAX_CHARS, MAX_ASKED_CHARS = 1000, 100  # a longer text tells more than it asks
PREFIX = "verdict."
HIDDEN_WIDTH = 256
CLEARLY_OTHER = -3.0  # log-odds
_UNIT = 384**0.5  # a unit vector's components are this much smaller than a network likes


Embed = Callable[[str], Tensor]


class AgreementNetwork(nn.Module):
    """Log-odds `(B,)` that what is asked for, unit rows `(B, E)`, is true of what is shown, embeddings `(B, E)`."""

    def __init__(self, embedding_width: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.compare = nn.Linear(3 * embedding_width, HIDDEN_WIDTH)
        self.weigh = nn.Linear(HIDDEN_WIDTH, HIDDEN_WIDTH)
        self.decide = nn.Linear(HIDDEN_WIDTH, 1)

    def forward(self, asked: Tensor, shown: Tensor) -> Tensor:
        asked, shown = asked * _UNIT, shown * _UNIT
        joined = self.dropout(torch.cat((asked, shown, asked * shown), dim=-1))  # (B, 3 E)
        x = self.dropout(F.gelu(self.compare(joined)))  # (B, HIDDEN_WIDTH)
        return self.decide(self.dropout(F.gelu(self.weigh(x))))[:, 0]  # type: ignore[no-any-return]


class LinearWords:
    """A linear model of buckets: `weights` `(NUM_BUCKETS,)` and `bias` give log-odds."""

    def __init__(self, weights: FloatArray, bias: float) -> None:
        self._weights, self._bias = weights, bias

    def log_odds(self, buckets: Sequence[int]) -> float:
        """Return the log-odds that these buckets speak for."""
        return self._bias + float(self._weights[list(buckets)].sum())


class Verdicts:
    """Judge questions; `wants_verdict` and `is_asked_for` are the models of words, `embed` maps a text to `(E,)`."""

    def __init__(
        self,
        wants_verdict: LinearWords,
        is_asked_for: LinearWords,
        network: AgreementNetwork,
        embed: Embed,
    ) -> None:
        self._wants_verdict, self._is_asked_for = wants_verdict, is_asked_for
        self._network, self._embed = network, embed

    def judge(self, question: str, vector: FloatArray) -> bool | None:
        """Say whether yes is right about the embedding `(E,)`; None when the question is not for yes or no."""
        asked = self.asked_for(question)
        if not asked:
            return None
        with torch.inference_mode():
            shown = torch.tensor(vector)
            return float(self._network(self._embed(asked)[None], shown[None])) > 0

    def is_shown(self, noun: str, vector: FloatArray, *, above: float = CLEARLY_OTHER) -> bool:
        """Say whether the embedding `(E,)` may show what a noun names: whether its log-odds are `above` something."""
        with torch.inference_mode():
            return float(self._network(self._embed(noun)[None], torch.tensor(vector)[None])) > above

    def asked_for(self, question: str) -> str:
        """Return the words a yes-or-no question asks about, or nothing for any other text."""
        if len(question) > MAX_CHARS:
            return ""
        asked, rest = split_question(question, self._is_asked_for)
        is_wanted = 0 < len(asked) <= MAX_ASKED_CHARS and self._wants_verdict.log_odds(buckets_of(rest)) > 0
        return asked if is_wanted else ""


def load_verdicts(tensors: Mapping[str, Tensor], embed: Embed, source: str) -> Verdicts:
    """Return the judge of the tensors that begin with `verdict.`; `embed` maps a text to its unit vector `(E,)`.

    Raises `CheckpointError` naming `source` and a missing or unexpected tensor.
    """
    own = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    try:
        wants, asks = (
            LinearWords(own.pop(f"{name}.weight").numpy(), float(own.pop(f"{name}.bias")))
            for name in ("wants_verdict", "asked_for")
        )
        network = AgreementNetwork(own["compare.weight"].shape[1] // 3)
    except KeyError as error:
        raise CheckpointError(
            f"{source} lacks the tensor {PREFIX}{error.args[0]}; restore it from the repository"
        ) from error
    return Verdicts(wants, asks, load_strictly(network, own, source).eval().requires_grad_(False), embed)


def split_question(text: str, is_asked_for: LinearWords) -> tuple[str, str]:
    """Return what a text asks for and the text from that sentence on; the last question that asks for something counts.

    Sentences without a question mark count where no question asks for anything: "I think it is a dog. Am I right?"
    """
    sentences = re.findall(r"[^.?!]+[.?!]*", text)
    last_first = sorted(range(len(sentences)), key=lambda place: ("?" not in sentences[place], -place))
    for place in last_first:
        words = words_of(sentences[place])
        start, end = best_run([is_asked_for.log_odds(word_buckets(words, i)) for i in range(len(words))])
        if start < end:
            return " ".join(words[start:end]), "".join(sentences[place:]).strip()
    return "", text


def best_run(log_odds: Sequence[float]) -> tuple[int, int]:
    """Return start and end of the neighbouring words whose log-odds have the largest sum; nothing below zero."""
    best, run, found = 0.0, 0.0, (0, 0)
    first = 0
    for place, odds in enumerate(log_odds):
        run, first = (run + odds, first) if run > 0 else (odds, place)
        if run > best:
            best, found = run, (first, place + 1)
    return found


def words_of(sentence: str) -> list[str]:
    """Return the words of a sentence as they stand."""
    return re.findall(r"[^\W_]+(?:['’-]+[^\W_]+)*", sentence)


def word_buckets(words: Sequence[str], place: int) -> list[int]:
    """Return the buckets that tell what one word does in its sentence: itself and two neighbours on either side."""
    padded = ["<s>", "<s>", *(word.lower() for word in words), "</s>", "</s>"]
    two, one, word, after, second = padded[place : place + 5]
    grams = (f"word {word}", f"before {one}", f"before {two} {one}", f"after {after}", f"after {after} {second}")
    return [bucket_of(gram) for gram in grams]
