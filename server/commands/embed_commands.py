"""`bindchat embed`: texts and media as rows of the model's joint space, on a running server or one started for it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.console import Console

from core.errors import AppError, InvalidRequest
from core.types import FloatArray
from server.commands.errors import one_sentence_errors
from server.commands.inner_server import own_server
from server.terminal_chat import error_sentence, media_part, open_client

MediaFiles = Annotated[list[Path] | None, typer.Option(help="A file to embed; may repeat.")]


def embed(  # noqa: PLR0913 (every option of a command is a parameter)
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to embed.")] = None,
    image: MediaFiles = None,
    audio: MediaFiles = None,
    video: MediaFiles = None,
    point_cloud: MediaFiles = None,
    blend: Annotated[bool, typer.Option(help="Make one embedding of all inputs.")] = False,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Keep the first so many numbers.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the rows as a NumPy file of float32, (N, E).")] = None,
    url: Annotated[str | None, typer.Option(help="A running server; without it, one is started inside.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that embeds.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The key of that server.", envvar="BINDCHAT_CHAT_KEY")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write every embedding as JSON.")] = False,
) -> None:
    """Embed texts, pictures, sounds, films and shapes into one space, and show how near they are to each other.

    bindchat embed "a cat" "a dog" --image docs/samples/cat.jpg

    bindchat embed --image a.jpg --image b.jpg --out rows.npy

    Rows have unit length: their products are cosine similarities, 1 for the same. Exit codes: 0 embedded, 2 refused.
    """
    with one_sentence_errors(), ExitStack() as stack:
        media = {"image": image, "audio": audio, "video": video, "point_cloud": point_cloud}
        files = [(kind, path) for kind, paths in media.items() for path in paths or ()]
        inputs: list[Any] = [*(texts or ()), *([media_part(kind, path)] for kind, path in files)]
        if not inputs:
            raise InvalidRequest("name a text or a file to embed; --help shows how")
        body = {"input": inputs, "model": model, "blend": blend, "dimensions": dimensions}
        client = stack.enter_context(open_client(url or stack.enter_context(own_server(model, _terminal())), api_key))
        answer = _embedded(client, {name: value for name, value in body.items() if value is not None})
        rows = np.asarray([row["embedding"] for row in answer["data"]], np.float32)  # (N, E)
        names = [*(texts or ()), *(str(path) for _, path in files)]
        _save(out, rows)
    names = [" + ".join(names)] if blend else names
    if as_json:
        typer.echo(json.dumps([{"input": n, "embedding": row.tolist()} for n, row in zip(names, rows, strict=True)]))
    else:
        _show(names, rows)


def _embedded(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    """Return the server's answer. Raises `AppError` with its sentence, or why it cannot be reached."""
    try:
        answer = client.post("/v1/embeddings", json=body)
    except httpx.HTTPError as error:
        raise InvalidRequest(str(error)) from error
    if answer.status_code != 200:
        raise AppError(error_sentence(answer.content, answer.status_code))
    return dict(answer.json())


def _save(out: Path | None, rows: FloatArray) -> None:
    try:
        if out is not None:
            with out.open("wb") as file:
                np.save(file, rows)
    except OSError as error:
        raise InvalidRequest(f"cannot write {out}: {error.strerror}") from None


def _show(names: list[str], rows: FloatArray) -> None:
    """Write the cosine similarity of each input to each other one."""
    typer.echo(f"{rows.shape[0]} of width {rows.shape[1]}; cosine similarities:")
    for number, (name, line) in enumerate(zip(names, rows @ rows.T, strict=True), start=1):
        numbers = "  ".join(f"{value:6.3f}" for value in line)
        typer.echo(f"{number:>3}  {numbers}  {name[:60]}")


def _terminal() -> Console:
    return Console(stderr=True, highlight=False)
