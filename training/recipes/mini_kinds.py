"""Build `models/mini/kinds.json`: what kinds of thing the names of `mini` belong to, the closest first.

    python -m training.recipes.mini_kinds [--out models/mini/kinds.json]

Kinds and groups are those of `vocabulary.json` and `mini_names.json`, and what is further true of a kind (a fox is a
mammal). Names that neither places have none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors import safe_open

from models.mini.assets import AUDIO_WEIGHTS, KINDS, POINT_WEIGHTS, WEIGHTS
from training.recipes.mini_adapter import all_names
from training.recipes.mini_pictures import KINDS as CLASS_KINDS
from training.recipes.mini_pictures import Name, extra_names
from training.recipes.mini_verdict_words import ALSO

_MAMMALS = (
    "badger", "bat", "beaver", "bison", "black cat", "deer", "donkey", "giraffe", "guinea pig", "hamster",
    "hippopotamus", "koala", "llama", "mammoth", "moose", "mouse", "otter", "raccoon", "rat", "rhinoceros",
    "sea lion", "seal", "skunk", "zebra",
)  # fmt: skip
FURTHER = {  # besides what yes-or-no questions are taught: of names as well as of kinds
    **ALSO,
    **dict.fromkeys(_MAMMALS, ("mammal",)),
    **dict.fromkeys(("chicken", "penguin", "turkey"), ("bird",)),
    **dict.fromkeys(("jellyfish", "shrimp", "squid", "starfish"), ("sea animal",)),
    **dict.fromkeys(("rose", "tulip", "daisy", "sunflower"), ("flower",)),
    "sailboat": ("boat", "ship", "watercraft"), "police car": ("car", "motor vehicle"),
    "black cat": ("cat", "mammal", "pet"), "coffee": ("drink", "beverage"), "beach": ("landscape",),
}  # fmt: skip


def names_of(path: Path) -> list[str]:
    """Return the names that trained weights can say."""
    with safe_open(path, framework="np") as stored:
        return list(json.loads((stored.metadata() or {}).get("names", "[]")))


def kinds_of(name: Name) -> list[str]:
    """Return a name's kind, its groups, and what is further true of them."""
    own = (name.kind, *name.groups)
    return list(dict.fromkeys([*own, *(kind for one in own for kind in FURTHER.get(one, ()))]))


def place(names: Iterable[str], known: Sequence[Name]) -> dict[str, list[str]]:
    """Return the kinds of the names that are among `known`, or among their synonyms.

    Of several the first counts, and those that agree with it in a kind: a mouse that clicks is no mouse that squeaks.
    """
    placed: dict[str, list[str]] = {}
    texts = [(name.text, name) for name in known]
    synonyms = [(word, name) for name in known for word in name.synonyms]
    for word, one in (*texts, *synonyms):
        kinds = kinds_of(one)
        first = placed.setdefault(word.lower(), kinds)
        if set(first) & set(kinds):
            first.extend(kind for kind in kinds if kind not in first)
    found = sorted({name.lower() for name in names} & set(placed))
    return {name: list(dict.fromkeys([*placed[name], *FURTHER.get(name, ())])) for name in found}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=KINDS)
    out = parser.parse_args(argv).out
    imagenet, nouns, others = all_names()
    trained = extra_names(tuple(CLASS_KINDS), imagenet)
    curated = [*others["everyday"], *others["corrected"], *trained, *others["shapes"], *others["sounds"]]
    names = [name for path in (WEIGHTS, POINT_WEIGHTS, AUDIO_WEIGHTS) for name in names_of(path)]
    placed = place(names, [*curated, *imagenet, *nouns])
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(kinds)}" for name, kinds in placed.items())
    out.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
    print(f"{len(placed)} of {len({name.lower() for name in names})} names are of a kind")


if __name__ == "__main__":
    main()
