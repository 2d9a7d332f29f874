"""Write the held-out photographs of `mini` as `class/file` trees for `benchmarks.naming`.

    python -m training.recipes.mini_sets DATA --out DIR

DATA holds `caltech101_112.zip`. `DIR/test` gets the test photographs of the classes trained on, `DIR/unseen` every
photograph of the 21 classes left out, `DIR/validation` what the hedging threshold was chosen on, and
`DIR/synonyms.json` the other names that count as right and `DIR/groups.json` what yes-or-no questions ask about.
"""

from __future__ import annotations

import argparse
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from models.mini.assets import VOCABULARY
from training.recipes.mini_pictures import (
    choose_unseen,
    corrected,
    extra_names,
    read_other_names,
    read_vocabulary,
    split_of,
    spoken,
    synonyms_of,
)

OTHER_NAMES = Path(__file__).with_name("mini_names.json")


def write_sets(data: Path, out: Path, seed: int) -> dict[str, int]:
    """Write the trees and return how many photographs each has."""
    names = read_other_names(OTHER_NAMES)
    imagenet = corrected(read_vocabulary(VOCABULARY)[0], [*names["everyday"], *names["corrected"]])
    counts = {"test": 0, "validation": 0, "unseen": 0}
    with zipfile.ZipFile(data / "caltech101_112.zip") as stored:
        files = sorted(name for name in stored.namelist() if name.endswith(".webp"))
        classes = sorted({Path(name).parent.name for name in files}, key=str.lower)
        unseen = choose_unseen(classes, imagenet, seed)
        for name in files:
            class_name = Path(name).parent.name
            split = split_of(int(re.findall(r"\d+", Path(name).stem)[-1]))
            tree = "unseen" if class_name in unseen else split
            if tree in counts:
                target = out / tree / class_name / Path(name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(stored.read(name))
                counts[tree] += 1
    placed = {name.text: name.groups for name in extra_names(classes, imagenet)}
    _write_json(out / "synonyms.json", {name: synonyms_of(name, imagenet) for name in classes})
    _write_json(out / "groups.json", {name: placed[spoken(name)] for name in classes})
    return counts


def _write_json(path: Path, table: Mapping[str, Iterable[str]]) -> None:
    path.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the held-out photographs of mini as class/file trees.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the classes left out, as in training")
    arguments = parser.parse_args()
    for tree, count in write_sets(arguments.data, arguments.out, arguments.seed).items():
        print(f"{tree:<12} {count:>5} photographs")


if __name__ == "__main__":
    main()
