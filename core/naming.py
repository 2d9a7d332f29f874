"""Whether a sentence names a thing: whole words in any case, singular or plural."""

from __future__ import annotations

import re

HEDGE = re.compile(r"\b(?:may|might|could) be\b|\bor\b", re.IGNORECASE)
MIN_STEM = 3


def words_of(text: str) -> list[str]:
    """Return the lower-case words of a sentence; hyphens and underscores separate."""
    return re.findall(r"[^\W_]+", text.lower().replace("'s", ""))


def singular_forms(word: str) -> set[str]:
    """Return a word and whatever it could be the plural of."""
    endings = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))
    stems = {word.removesuffix(plural) + single for plural, single in endings if word.endswith(plural)}
    return {word} | {stem for stem in stems if len(stem) >= MIN_STEM and not word.endswith("ss")}


def contains_name(answer: str, name: str) -> bool:
    """Say whether the answer holds the name as whole consecutive words, singular or plural."""
    said = [singular_forms(word) for word in words_of(answer)]
    wanted = [singular_forms(word) for word in words_of(name)]
    starts = range(len(said) - len(wanted) + 1) if wanted else range(0)
    return any(all(said[start + i] & forms for i, forms in enumerate(wanted)) for start in starts)
