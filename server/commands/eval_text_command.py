"""`bindchat eval text`: is the text ability of a model's base unharmed, by lm-evaluation-harness."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from core.errors import InvalidRequest
from server.commands.errors import fail, one_sentence_errors
from server.commands.inner_server import own_server
from server.commands.server_options import api_root, first_model, run_facts, write_text
from server.evaluation.bigbench import holds_tasks, write_tasks
from server.evaluation.outcome import Outcome
from server.evaluation.report import group_rows, html_report
from server.evaluation.text_ability import HarnessPlan, compare, run_harness
from server.evaluation.text_asker import ServerPlace, TextAsker

Numbers = dict[str, dict[str, float]]


def evaluate_text(
    tasks: Annotated[list[str], typer.Argument(metavar="TASKS...", help="Tasks by the harness's names.")],
    folder: Annotated[
        Path | None, typer.Option(help="Take tasks from this folder only: YAML files, or BIG-bench's benchmark_tasks.")
    ] = None,
    fewshot: Annotated[int | None, typer.Option(min=0, help="Examples in front; else as the task says.")] = None,
    against: Annotated[str | None, typer.Option(help="A base model started inside, for comparison.")] = None,
    against_url: Annotated[str | None, typer.Option(help="A server of the base model, for comparison.")] = None,
    options: Any = None,
) -> None:
    """Is a model's text ability unharmed? Tasks of lm-evaluation-harness, by itself or against its base.

    Needs the extra eval, and a server with /v1/completions and /tokenize. Tasks of the harness fetch their data sets
    from the internet; a YAML file of your own in --folder may name local ones (dataset_path: json). The first token
    of a text is not scored, as nothing precedes it. BIG-bench's tasks of choosing need no internet: pip download
    --no-deps bigbench==1.0.0 brings them (358 MB, Apache-2.0), tar unpacks them.

    bindchat eval text arc_easy hellaswag --model my-model --against mini --limit 200

    bindchat eval text hyperbaton general_knowledge --folder bigbench-1.0.0/bigbench/benchmark_tasks

    Exit codes: 0 measured and unharmed, 1 worse than the base by two standard errors, 2 the command is wrong.
    """
    plan = HarnessPlan(tasks=tuple(tasks), folder=folder, num_fewshot=fewshot, limit=options.limit, seed=options.seed)
    with one_sentence_errors(), TemporaryDirectory() as made:
        if against and against_url:
            raise InvalidRequest("name the base once, by --against or by --against-url")
        if folder and holds_tasks(folder):
            known = write_tasks(folder, plan.tasks, Path(made), plan.seed)
            plan = replace(plan, tasks=known, folder=Path(made))
        numbers, facts = _measured(plan, options, options.url, options.model)
        rows: dict[str, dict[str, Any]] = {task: dict(row) for task, row in numbers.items()}
        harmed: list[str] = []
        if against or against_url:
            base, base_facts = _measured(plan, replace(options, model=against), against_url, against)
            facts["base"] = base_facts["model"]
            rows = dict(compare(numbers, base))
            harmed = [name for name, row in rows.items() if row["harmed"]]
        outcome = Outcome(metrics={"tasks": len(numbers), "harmed": len(harmed)}, groups=_even(rows))
        write_text(options.html, html_report("text ability", facts, outcome))
    if options.as_json:
        typer.echo(json.dumps({"test": facts, "tasks": rows, "harmed": harmed}, indent=2))
    else:
        for row in group_rows(outcome.groups):
            typer.echo("  ".join(f"{cell:<24}" for cell in row).rstrip())
    if harmed:
        fail(f"worse than the base by more than two standard errors: {', '.join(harmed)}", exit_code=1)


def _measured(plan: HarnessPlan, options: Any, url: str | None, model: str | None) -> tuple[Numbers, dict[str, Any]]:
    """Run the tasks on a server, or on one started for them."""
    terminal = Console(stderr=True, highlight=False)
    with ExitStack() as stack:
        root = api_root(url or stack.enter_context(own_server(model, terminal)))
        name = model or asyncio.run(_first(root, options.api_key))
        place = ServerPlace(
            root=root,
            model=name,
            api_key=options.api_key,
            timeout_s=options.timeout,
            max_in_flight=options.in_flight,
        )
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
        bars = stack.enter_context(Progress(*columns, console=terminal))
        bar = bars.add_task(f"texts scored by {name}", total=None)
        numbers = run_harness(plan, lambda: TextAsker(place, lambda count: bars.advance(bar, count)))
    return numbers, run_facts(root if url else None, name) | {"tasks": ", ".join(plan.tasks)}


async def _first(root: str, api_key: str | None) -> str:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with httpx.AsyncClient(base_url=root, headers=headers) as client:
        return await first_model(client)


def _even(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rows with the same columns, as tasks differ in what they measure."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    return {name: {column: row.get(column) for column in columns} for name, row in rows.items()}
