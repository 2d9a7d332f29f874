"""Photographs of other packages are found by their digest, in plain files and inside Qt resource files."""

from __future__ import annotations

import io
import json
from hashlib import sha256
from pathlib import Path

from PIL import Image

from benchmarks.everyday import TABLE, gather


def picture(shade: int, container: str) -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (32, 24), (shade, 90, 30)).save(stored, container)
    return stored.getvalue()


def test_the_listed_pictures_are_found_in_files_and_in_resource_files(tmp_path: Path) -> None:
    plain, packed, photo = picture(10, "PNG"), picture(20, "WEBP"), picture(30, "JPEG")
    package = tmp_path / "package"
    package.mkdir()
    (package / "cup.png").write_bytes(plain)
    (package / "unlisted.png").write_bytes(picture(40, "PNG"))
    sized = len(photo).to_bytes(4, "big") + photo
    (package / "more.rcc").write_bytes(b"qres" + len(packed).to_bytes(4, "big") + packed + b"\0" * 9 + sized + b"rest")
    listed = {"everyday": {"cup": [plain, picture(50, "PNG")], "dog": [packed]}, "cutouts": {"hen": [photo]}}
    digests = {
        tree: {name: [sha256(content).hexdigest() for content in own] for name, own in names.items()}
        for tree, names in listed.items()
    }
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"packages": [], "photographs": digests, "synonyms": {"hen": ["chicken"]}}))
    out = tmp_path / "sets"
    assert gather([package], out, table) == ({"everyday": 2, "cutouts": 1}, 1)
    written = {path.relative_to(out).parent.as_posix(): path.read_bytes() for path in out.glob("*/*/*")}
    assert written == {"everyday/cup": plain, "everyday/dog": packed, "cutouts/hen": photo}
    assert json.loads((out / "synonyms.json").read_text()) == {"hen": ["chicken"]}


def test_no_photograph_of_the_shipped_table_is_listed_twice() -> None:
    trees = json.loads(TABLE.read_text(encoding="utf-8"))["photographs"]
    digests = [digest for names in trees.values() for own in names.values() for digest in own]
    assert len(digests) == len(set(digests)) == 258
