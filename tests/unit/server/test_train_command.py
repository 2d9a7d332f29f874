"""`bindchat train` lists the recipes and runs one in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app
from server.commands.train_command import RECIPES

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_recipe_all_are_listed(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["train", *arguments])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in RECIPES)


def test_the_list_comes_as_json_too() -> None:
    result = CliRunner().invoke(app, ["train", "--json"])
    assert [row["name"] for row in json.loads(result.stdout)] == list(RECIPES)


def test_every_listed_recipe_is_there() -> None:
    assert all((ROOT / "training" / "recipes" / f"{name}.py").is_file() for name in RECIPES)


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["train", "bert"])
    assert result.exit_code == 2
    assert "imagebind_llm" in result.stderr


def test_a_recipe_gets_its_options_and_hands_back_its_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(app, ["train", "illama", str(tmp_path / "nowhere"), "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "neither a folder nor a zip" in capfd.readouterr().err
