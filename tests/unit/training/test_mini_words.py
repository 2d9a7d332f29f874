"""Which words what remains of a difference may be called, and how they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from core.errors import CheckpointError
from models.mini.told import load_words
from training.recipes.mini_words import choose_words, packed, read_senses, read_usage

NOUNS = """  1 a licence
00000001 18 n 02 queen 0 female_monarch 0 001 @ 00000009 n 0000 | a female sovereign ruler
00000002 18 n 01 queen 0 001 @ 00000009 n 0000 | offensive term for a homosexual man
00000003 15 n 01 Rome 0 001 @i 00000009 n 0000 | capital of Italy
00000004 18 n 01 Bach 0 001 @i 00000009 n 0000 | German baroque organist
00000005 09 n 01 like 0 001 @ 00000009 n 0000 | a similar kind
00000006 05 n 01 cat 0 001 @ 00000009 n 0000 | feline mammal
00000007 05 n 01 cats 0 001 @ 00000009 n 0000 | more of them
00000008 12 n 01 crud 0 001 @ 00000009 n 0000 | an obscene word
00000010 05 n 01 axolotl 0 001 @ 00000009 n 0000 | larval salamander
00000011 05 n 01 foal 0 001 @ 00000009 n 0000 | a young horse
"""
USED = """  1 a licence
queen n 2 2 @ ~ 2 2 00000001 00000002
rome n 1 1 @i 1 1 00000003
bach n 1 1 @i 1 1 00000004
like n 1 1 @ 1 1 00000005
cat n 1 1 @ 1 1 00000006
cats n 1 1 @ 1 1 00000007
crud n 1 1 @ 1 1 00000008
foal n 1 1 @ 1 0 00000011
"""
VERBS = "like v 2 1 @ 2 1 00000020 00000021\ncat v 1 1 @ 1 0 00000022\n"
IDS = {"cat": 5, "queen": 3, "rome": 40, "bach": 41, "like": 6, "cats": 42, "crud": 43, "foal": 20_000}


@pytest.mark.parametrize(
    ("foal_id", "words"), [(20_000, ["queen", "cat", "Rome"]), (7, ["queen", "cat", "foal", "Rome"])]
)
def test_usual_nouns_are_chosen_as_they_are_written_by_frequency(
    tmp_path: Path, foal_id: int, words: list[str]
) -> None:
    texts = {"data": NOUNS, "noun": USED, "verb": VERBS}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    usage = [read_usage(tmp_path / kind) for kind in ("noun", "verb")]
    assert choose_words(read_senses(tmp_path / "data"), usage, IDS | {"foal": foal_id}) == words


def test_words_come_back_with_their_unit_rows(tmp_path: Path) -> None:
    rows = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    path = tmp_path / "words.safetensors"
    save_file(packed(rows), path, {"words": '["a", "b", "c"]'})
    words, kept = load_words(path)
    assert words == ["a", "b", "c"]
    assert torch.allclose(torch.from_numpy(kept), rows, atol=0.01)
    save_file(packed(rows), path, {"words": '["a", "b"]'})
    with pytest.raises(CheckpointError, match="2 words for 3 rows"):
        load_words(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_words(path)
