"""Tasks of BIG-bench, worded as it words them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest
from server.evaluation.bigbench import holds_tasks, write_tasks

HORSE = {"input": "How many legs do horses have?", "target_scores": {"two": 0, "four": 1, "4": 1}}


def written(folder: Path, task: dict[str, Any], seed: int = 0) -> list[dict[str, Any]]:
    """Write a task as the package has it, and return the questions made of it."""
    (folder / "legs").mkdir(exist_ok=True)
    (folder / "legs" / "task.json").write_text(json.dumps(task))
    assert write_tasks(folder, ["legs"], folder, seed) == ("legs",)
    return [json.loads(line) for line in (folder / "legs.jsonl").read_text().splitlines()]


def test_choices_are_listed_after_the_question_and_every_best_one_is_right(tmp_path: Path) -> None:
    (row,) = written(tmp_path, {"examples": [HORSE]})
    first, *choices, last = row["query"].split("\n  choice: ")
    assert first == "\nQ: How many legs do horses have?"
    *middle, end = [*choices, last]
    assert sorted([*middle, end.removesuffix("\nA: ")]) == ["4", "four", "two"]
    assert [row["choices"][place] for place in row["answers"]] == ["4", "four"]


def test_a_task_words_its_questions_itself(tmp_path: Path) -> None:
    prefixes = {"task_prefix": "Count.\n", "example_input_prefix": "? ", "example_output_prefix": " = "}
    (row,) = written(tmp_path, {"examples": [HORSE], "append_choices_to_input": False, **prefixes})
    assert row["query"] == "Count.\n? How many legs do horses have? = "


def test_the_seed_decides_the_order(tmp_path: Path) -> None:
    task = {"examples": [{**HORSE, "input": str(place)} for place in range(20)]}
    orders = [[row["query"] for row in written(tmp_path, task, seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"examples": [{"input": "Say something.", "target": "yes"}]}, "no questions with choices"),
        ({}, "no questions with choices; name another"),
    ],
)
def test_a_task_without_choices_is_refused(tmp_path: Path, task: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        written(tmp_path, task)


def test_a_task_that_is_not_there_or_damaged_is_refused(tmp_path: Path) -> None:
    assert not holds_tasks(tmp_path)
    with pytest.raises(InvalidRequest, match="is not there"):
        write_tasks(tmp_path, ["legs"], tmp_path, 0)
    (tmp_path / "legs").mkdir()
    (tmp_path / "legs" / "task.json").write_text("{")
    assert holds_tasks(tmp_path)
    with pytest.raises(InvalidRequest, match="not readable"):
        write_tasks(tmp_path, ["legs"], tmp_path, 0)
