"""Does an answer about several media make sense: the names it was told, everyday words around them, and nothing else?

A check by rule, so a strict one: it knows no grammar and no truth, and refuses any word that it does not expect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from core.naming import singular_forms, words_of

MAX_SENTENCES = 2
VERBS, ARTICLES = ("is", "are", "was", "were"), ("a", "an", "the", "some")
CAPTION_WORDS = frozenset((  # what a sentence about media needs beside the names
    "a", "an", "the", "some", "this", "that", "these", "those", "it", "they", "there", "here", "i", "you", "we",
    "is", "are", "was", "be", "of", "in", "on", "with", "and", "or", "also", "then", "too", "first", "second",
    "next", "last", "one", "two", "three", "both", "all", "only", "just", "another", "together", "followed", "by",
    "maybe", "may", "might", "could", "can", "perhaps", "either", "no", "nothing", "what", "as", "from", "at", "for",
    "shows", "show", "shown", "showing", "see", "sees", "seen", "hear", "hears", "heard", "notice", "sound",
    "sounds", "like", "looks", "look", "called", "named", "picture", "pictures", "photo", "photos", "photograph",
    "photographs", "image", "images", "film", "films", "video", "videos", "scene", "scenes", "clip", "clips",
    "recording", "shape", "shapes", "object", "objects", "thing", "things", "text", "word", "words", "caption",
    "file", "files", "media", "contains", "contain", "has", "have", "features", "depicts",
))  # fmt: skip


def is_clean(answer: str, names: Iterable[str], asked: str = "") -> bool:
    """Say whether an answer is one or two finished sentences of names, words of the question, and `CAPTION_WORDS`.

    `names` are all that the media may be called. A word of a name is said no more often than the names hold it, and no
    name is said to be another one ("The kangaroo is a crying baby").
    """
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", answer.strip()) if part]
    if not 0 < len(sentences) <= MAX_SENTENCES or answer.strip()[-1] not in ".!?":
        return False
    words = words_of(answer)
    if any(word in VERBS and words[i - 1] not in CAPTION_WORDS and after in ARTICLES
           for i, (word, after) in enumerate(pairwise(words)) if i):  # fmt: skip
        return False
    known = Counter(_stem(word) for name in dict.fromkeys(names) for word in words_of(name))
    said = Counter(_stem(word) for word in words_of(answer) if word not in CAPTION_WORDS)
    question = {_stem(word) for word in words_of(asked)}
    return all(count <= max(known[word], word in question) for word, count in said.items())


def _stem(word: str) -> str:
    return min(singular_forms(word), key=lambda form: (len(form), form))
