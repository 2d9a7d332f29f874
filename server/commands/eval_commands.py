"""`bindchat eval`: how good answers are, on data sets of one's own, by a running server or one started for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from server.commands.errors import fail, one_sentence_errors
from server.commands.eval_text_command import evaluate_text
from server.commands.inner_server import own_server
from server.commands.server_options import api_root, first_model, parse_fields, run_facts, write_text
from server.commands.shared_options import takes
from server.evaluation import captions, naming, retrieval, vqa, yes_no
from server.evaluation.asking import Asker, KeptAnswers, Wording, drawn
from server.evaluation.outcome import Answer, Outcome, Question
from server.evaluation.report import group_rows, html_report, number

Result = TypeVar("Result")
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The data set.")]
eval_app = typer.Typer(
    help="How good answers are, on data sets of your own.",
    epilog="Exit codes: 0 measured, 1 some questions failed, 2 the command or the data set is wrong.",
    no_args_is_help=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Whom to ask, how much, and where results go."""

    url: Annotated[str | None, typer.Option(help="The server, with or without /v1; else one is started inside.")] = None
    model: Annotated[str | None, typer.Option(help="The model to ask; without it, the first that is listed.")] = None
    api_key: Annotated[str | None, typer.Option(help="The key of that server.", envvar="BINDCHAT_CHAT_KEY")] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Take so many, drawn at random by --seed.")] = None
    seed: Annotated[int, typer.Option(min=0, help="Decides what --limit draws.")] = 0
    in_flight: Annotated[int, typer.Option(min=1, help="Requests open at a time.")] = 8
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that one answer may take.")] = 600
    html: Annotated[Path | None, typer.Option(help="Write a report, one file that needs no other.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON.")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions(ServerOptions):
    """How questions are put to a chat."""

    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer.")] = 64
    without_media: Annotated[bool, typer.Option(help="The control: ask without the media, what words alone give.")] = (
        False
    )
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=JSON", help="Any other field of the body; may repeat.")
    ] = None
    answers: Annotated[
        Path | None, typer.Option(help="Write each answer as a JSON line; run again to go on after a stop.")
    ] = None


@eval_app.command("naming")
@takes(ChatOptions)
def evaluate_naming(
    folder: Folder,
    question: Annotated[str | None, typer.Option(help="What to ask; without it, by kind of medium.")] = None,
    options: Any = None,
) -> None:
    """Are things called by their names? FOLDER holds pictures, sounds, films or point clouds as class/file.

    An answer is right when it holds the class's name as whole words, singular or plural. A names.json in FOLDER adds
    more right names: {"sofa": ["couch"]}. An answer with "may be" or "or" counts as hedged. Confusion shows which class
    was named instead.

    bindchat eval naming photos --limit 200 --html report.html
    """
    with one_sentence_errors():
        questions = naming.read_questions(folder, question)
        _evaluate_chat("naming", folder, questions, naming.score, options)


@eval_app.command("captions")
@takes(ChatOptions)
def evaluate_captions(
    folder: Folder,
    question: Annotated[str, typer.Option(help="What to ask.")] = "Describe the picture in one sentence.",
    options: Any = None,
) -> None:
    """How near are descriptions to people's? BLEU-4 and CIDEr-D against the captions of each picture.

    FOLDER holds pictures and one of: captions.json as COCO writes it; captions.tsv with the columns url and caption;
    metadata.jsonl with {"file_name", "text"} on each line. A picture may have several captions. Needs the extra eval.

    bindchat eval captions coco-val --limit 500
    """
    with one_sentence_errors():
        questions = captions.read_questions(folder, question)
        _evaluate_chat("captions", folder, questions, captions.score, options)


@eval_app.command("yesno")
@takes(ChatOptions)
def evaluate_yes_no(
    folder: Folder,
    suffix: Annotated[str, typer.Option(help="Words behind each question, as Answer yes or no.")] = "",
    options: Any = None,
) -> None:
    """Are yes-or-no questions answered right? MME's accuracy, accuracy+ (all questions of a picture) and their sum.

    FOLDER is MME's: category/1.jpg beside category/1.txt with a question, a tab and the answer on each line. Or it
    holds questions.jsonl with {"image", "question", "answer", "category"} on each line, as POPE can be written.

    bindchat eval yesno MME_Benchmark --html report.html
    """
    with one_sentence_errors():
        questions = yes_no.read_questions(folder, suffix)
        _evaluate_chat("yesno", folder, questions, yes_no.score, options)


@eval_app.command("vqa")
@takes(ChatOptions)
def evaluate_vqa(
    folder: Folder,
    suffix: Annotated[str, typer.Option(help="Words behind each question.")] = "Answer with a single word or phrase.",
    options: Any = None,
) -> None:
    """Are questions answered with the right words? Exact match and the accuracy of VQA.

    FOLDER holds questions.jsonl with {"image", "question", "answer" or "answers", "category"} on each line; or VQA's
    questions.json and annotations.json beside its pictures. Case, punctuation and articles do not count, and number
    words are digits. An answer that only contains a right one is counted apart.

    bindchat eval vqa my-questions --suffix "" --json
    """
    with one_sentence_errors():
        questions = vqa.read_questions(folder, suffix)
        _evaluate_chat("vqa", folder, questions, vqa.score, options)


@eval_app.command("retrieval")
@takes(ServerOptions)
def evaluate_retrieval(
    folder: Folder,
    kinds: Annotated[str, typer.Option(help="What to search between.")] = ",".join(retrieval.KINDS),
    options: Any = None,
) -> None:
    """Do texts find their media, and media their texts? Recall at 1, 5 and 10, median rank and mean average precision.

    FOLDER holds captions as `eval captions` reads them, or media as class/file: then names find media, and where
    classes hold several kinds, sounds find pictures and so on. --limit draws media. The server must embed.

    bindchat eval retrieval photos
    """
    with one_sentence_errors():
        entries = retrieval.read_entries(folder, retrieval.parse_kinds(kinds))
        media = drawn([entry for entry in entries if entry.kind != "text"], options.limit, options.seed)
        labels = {entry.label for entry in media}
        kept = [*media, *(entry for entry in entries if entry.kind == "text" and entry.label in labels)]

        async def embed(asker: Asker) -> list[list[float]]:
            return await asker.embeddings([entry.input for entry in kept])

        rows, facts = _with_server(options, folder, len(kept), embed)
        outcome = Outcome(metrics={"embedded": len(kept)}, groups=retrieval.score(kept, rows))
        write_text(options.html, html_report("retrieval", facts, outcome))
    _show(facts, outcome, [], as_json=options.as_json)


eval_app.command("text")(takes(ServerOptions)(evaluate_text))


def _evaluate_chat(
    task: str,
    folder: Path,
    questions: Sequence[Question],
    score: Callable[[Sequence[Answer]], Outcome],
    options: ChatOptions,
) -> None:
    """Ask, judge and show. Ends with exit code 1 when a question was not answered."""
    wording = Wording(
        max_tokens=options.max_tokens, without_media=options.without_media, fields=parse_fields(options.field or [])
    )
    chosen = drawn(questions, options.limit, options.seed)
    kept = None if options.answers is None else KeptAnswers(options.answers)

    async def ask(asker: Asker) -> list[Answer]:
        return await asker.answers(chosen, wording, kept)

    answers, facts = _with_server(options, folder, len(chosen), ask)
    facts |= {"max_tokens": options.max_tokens, "media": "left out" if options.without_media else "sent"}
    outcome = score(answers)
    write_text(options.html, html_report(task, facts, outcome))
    failed = [answer for answer in answers if answer.error is not None]
    _show(facts, outcome, failed, as_json=options.as_json)
    if failed:
        example = f"{failed[0].question.name}: {failed[0].error}"
        fail(f"{len(failed)} of {len(answers)} questions failed; the first: {example}", exit_code=1)


def _with_server(
    options: ServerOptions, folder: Path, num_items: int, work: Callable[[Asker], Awaitable[Result]]
) -> tuple[Result, dict[str, Any]]:
    """Run `work` under a progress bar with the server asked for, or with one of its own; add what readers ask for."""
    terminal = Console(stderr=True, highlight=False)

    async def run(root: str) -> tuple[Result, str]:
        headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        async with httpx.AsyncClient(base_url=root, headers=headers, timeout=options.timeout) as client:
            name = options.model or await first_model(client)
            with Progress(*columns, console=terminal) as bars:
                bar = bars.add_task("asked", total=num_items)
                asker = Asker(
                    client, name, max_in_flight=options.in_flight, advance=lambda count: bars.advance(bar, count)
                )
                return await work(asker), name

    with ExitStack() as stack:
        root = api_root(options.url or stack.enter_context(own_server(options.model, terminal)))
        result, name = asyncio.run(run(root))
    drawn_by = f"{options.limit} by seed {options.seed}" if options.limit else "all"
    return result, run_facts(root if options.url else None, name) | {"data set": str(folder), "drawn": drawn_by}


def _show(facts: Mapping[str, Any], outcome: Outcome, failed: Sequence[Answer], *, as_json: bool) -> None:
    if as_json:
        confusion = outcome.confusion()
        errors = [{"name": answer.question.name, "error": answer.error} for answer in failed]
        numbers = {"metrics": outcome.metrics, "groups": outcome.groups, "confusion": confusion, "errors": errors}
        typer.echo(json.dumps({"test": facts, **numbers}, indent=2))
        return
    if outcome.groups:
        header, *rows = group_rows(outcome.groups)
        shown = Table(*header, box=None)
        for row in rows:
            shown.add_row(*row)
        Console(width=160).print(shown)
    for name, value in outcome.metrics.items():
        typer.echo(f"{name.replace('_', ' '):<22} {number(value)}")
    for pair in outcome.confusion()[:5]:
        typer.echo(f"{pair['expected']!r} was taken for {pair['said']!r} {pair['count']} times")
