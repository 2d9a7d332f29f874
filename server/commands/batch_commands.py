"""`bindchat batch`: answer a file of requests on a running server, or on one started for it."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from core.errors import AppError, InvalidRequest
from server.commands.errors import fail, one_sentence_errors
from server.commands.inner_server import inner_server
from server.configuration import load_settings
from server.terminal_chat import open_client

POLL_S = 0.5
batch_app = typer.Typer(help="Many requests from a file.", no_args_is_help=True)


@batch_app.callback()
def _group() -> None:
    """Keep `run` a command of its own."""


@batch_app.command()
def run(  # noqa: PLR0913 (every option of a command is a parameter)
    file: Annotated[Path, typer.Argument(help="JSON lines of OpenAI's batch form: custom_id, method, url, body.")],
    out: Annotated[Path, typer.Option(help="The file to write; failed lines go beside it, as .errors.jsonl.")],
    url: Annotated[str | None, typer.Option(help="A running server; without it, one is started inside.")] = None,
    model: Annotated[str | None, typer.Option(help="The model of the server started inside.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The key of that server.", envvar="BINDCHAT_CHAT_KEY")] = None,
    window: Annotated[str, typer.Option(help="How long the batch may take, in hours.")] = "24h",
    as_json: Annotated[bool, typer.Option("--json", help="Write the batch object as JSON.")] = False,
) -> None:
    """Answer every line; exit code 1 when some failed. Interrupt it and the server goes on."""
    console = Console(stderr=True, highlight=False)
    with one_sentence_errors(), ExitStack() as stack:
        content = _read(file)
        if url is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bindchat-batch-"))
            settings = load_settings({"model": model, "port": 0, "host": "127.0.0.1"})
            kept = {"files_dir": Path(folder), "api_keys": (), "admin_keys": (), "api_key_file": None}
            url = stack.enter_context(inner_server(settings.model_copy(update=kept), console))
        client = stack.enter_context(open_client(url, api_key))
        upload = {"file": (file.name, content, "application/jsonl")}
        file_id = _checked(client.post("/v1/files", data={"purpose": "batch"}, files=upload))["id"]
        asked = {"input_file_id": file_id, "endpoint": _endpoint(content), "completion_window": window}
        batch = _wait(client, _checked(client.post("/v1/batches", json=asked)), console)
        errors = out.with_suffix(".errors.jsonl")
        _save(client, batch["output_file_id"], out)
        _save(client, batch["error_file_id"], errors)
    if as_json:
        typer.echo(json.dumps(batch, indent=2))
    _report(batch, out, errors, is_quiet=as_json)


def _wait(client: httpx.Client, batch: dict[str, Any], console: Console) -> dict[str, Any]:
    """Show how far the batch is until it has ended, and return it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(batch["id"], total=None)
        while True:
            counts = batch["request_counts"]
            bars.update(bar, total=counts["total"] or None, completed=counts["completed"] + counts["failed"])
            if batch["status"] in ("completed", "failed", "expired", "cancelled"):
                return batch
            time.sleep(POLL_S)
            batch = _checked(client.get(f"/v1/batches/{batch['id']}"))


def _report(batch: dict[str, Any], out: Path, errors: Path, *, is_quiet: bool) -> None:
    counts = batch["request_counts"]
    for found in (batch["errors"] or {"data": []})["data"][:5]:
        typer.echo(f"line {found['line']}: {found['message']}", err=True)
    if batch["status"] != "completed":
        fail(f"the batch has {batch['status']}", exit_code=1)
    if not is_quiet:
        typer.echo(f"{counts['completed']} of {counts['total']} lines are answered in {out}")
    if counts["failed"]:
        fail(f"{counts['failed']} lines failed; {errors} says why", exit_code=1)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error.strerror}; give a file of JSON lines") from None


def _endpoint(content: bytes) -> str:
    """Return the url of the first line, which all lines of a batch share."""
    try:
        return str(json.loads(content.splitlines()[0])["url"])
    except (ValueError, LookupError, TypeError):
        raise InvalidRequest("the first line is no JSON object with custom_id, method, url and body") from None


def _save(client: httpx.Client, file_id: str | None, path: Path) -> None:
    if file_id is None:
        path.unlink(missing_ok=True)  # of an earlier run
        return
    with client.stream("GET", f"/v1/files/{file_id}/content") as answer, path.open("wb") as target:
        for chunk in answer.iter_bytes():
            target.write(chunk)


def _checked(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON of an answer. Raises `AppError` with the server's own sentence."""
    if answer.status_code != 200:
        raise AppError(str(answer.json()["error"]["message"]))
    return dict(answer.json())
