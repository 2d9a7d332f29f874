"""BIG-bench's tasks of choosing as tasks of the harness: standard text tasks that need no internet.

The source package of `bigbench` (Apache-2.0) holds every task as JSON, so `pip download` and `tar` are all it takes.
A task's `multiple_choice_grade` is the share of questions whose likeliest choice is a best one: the harness's `acc`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import InvalidRequest

TASK_FILE = "task.json"
INPUT_PREFIX, OUTPUT_PREFIX, CHOICE_PREFIX = "\nQ: ", "\nA: ", "\n  choice: "  # where a task names none
HARNESS_TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: query
doc_to_choice: choices
doc_to_target: answers
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def holds_tasks(folder: Path) -> bool:
    """Say whether a folder is that of BIG-bench's tasks."""
    return next(folder.glob(f"*/{TASK_FILE}"), None) is not None


def write_tasks(source: Path, names: Sequence[str], folder: Path, seed: int) -> tuple[str, ...]:
    """Write tasks of BIG-bench for the harness into `folder` and return their names there, `/` as `_`.

    `source` is the folder `bigbench/benchmark_tasks` of the package; `a/b` is a part of the task `a`. Questions come in
    an order drawn by `seed`. Raises `InvalidRequest` for a task that is not there or gives nothing to choose from.
    """
    return tuple(_write(source, name, folder, seed) for name in names)


def _write(source: Path, name: str, folder: Path, seed: int) -> str:
    file = source / name / TASK_FILE
    try:
        task = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidRequest(f"{file} is not there; take a task by the name of its folder") from None
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{file} is not readable JSON: {error}") from error
    examples = task.get("examples", [])
    if not examples or not all(example.get("target_scores") for example in examples):
        parts = sorted(path.parent.name for path in file.parent.glob(f"*/{TASK_FILE}"))
        advice = f"name one of its parts: {name}/{f', {name}/'.join(parts)}" if parts else "name another"
        raise InvalidRequest(f"the task {name} has no questions with choices; {advice}")
    rng = random.Random(seed)
    rows = [_question(task, example, rng) for example in rng.sample(examples, len(examples))]
    known = name.replace("/", "_")
    (folder / f"{known}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    text = HARNESS_TASK.format(name=known, file=json.dumps(str(folder / f"{known}.jsonl")))
    (folder / f"{known}.yaml").write_text(text, encoding="utf-8")
    return known


def _question(task: dict[str, Any], example: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return one question as BIG-bench words it, with the choices and the places of the best of them."""
    scores = dict(example["target_scores"])
    choices = sorted(scores)
    listed = ""
    if task.get("append_choices_to_input", True):
        prefix = task.get("choice_prefix", CHOICE_PREFIX)
        listed = "".join(f"{prefix}{choice}" for choice in rng.sample(choices, len(choices)))
    asked = f"{task.get('example_input_prefix', INPUT_PREFIX)}{example['input']}{listed}"
    best = max(scores.values())
    return {
        "query": f"{task.get('task_prefix', '')}{asked}{task.get('example_output_prefix', OUTPUT_PREFIX)}",
        "choices": choices,
        "answers": [place for place, choice in enumerate(choices) if scores[choice] == best],
    }
