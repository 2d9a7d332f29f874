"""The table of kinds is what its sources say."""

from __future__ import annotations

from pathlib import Path

from models.mini.assets import KINDS
from training.recipes import mini_kinds
from training.recipes.mini_kinds import place
from training.recipes.mini_pictures import Name


def test_the_shipped_table_is_the_one_that_its_recipe_makes(tmp_path: Path) -> None:
    mini_kinds.main(["--out", str(tmp_path / "kinds.json")])
    assert (tmp_path / "kinds.json").read_bytes() == KINDS.read_bytes()


def test_a_name_of_two_senses_keeps_to_the_first() -> None:
    known = [
        Name("mouse", "rodent", ("animal",)),
        Name("mouse", "electronic device", ()),
        Name("house mouse", "mammal", ("animal",), ("Mouse",)),
    ]
    assert place(["Mouse", "thing"], known) == {"mouse": ["rodent", "animal", "mammal"]}
