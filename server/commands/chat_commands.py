"""`bindchat chat`: talk with a model about pictures, sounds, films and shapes."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server.commands.errors import one_sentence_errors
from server.commands.inner_server import own_server
from server.configuration import pairs_of
from server.terminal_chat import ChatSession, open_client, run_terminal_chat

MediaFiles = Annotated[list[Path] | None, typer.Option(help="A file for the first message; may repeat.")]


def chat(  # noqa: PLR0913 (every option of a command is a parameter)
    question: Annotated[str | None, typer.Argument(help="Ask once and leave; without it, talk.")] = None,
    image: MediaFiles = None,
    audio: MediaFiles = None,
    video: MediaFiles = None,
    point_cloud: MediaFiles = None,
    url: Annotated[str | None, typer.Option(help="A running server; without it, one is started inside.")] = None,
    model: Annotated[str | None, typer.Option(help="The model: a name, or a converted folder.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The key of that server.", envvar="BINDCHAT_CHAT_KEY")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the server started inside.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write question and answer as JSON.")] = False,
) -> None:
    """Chat in the terminal, with any medium.

    bindchat chat --image docs/samples/cat.jpg "What is this?"

    bindchat chat --audio docs/samples/rooster.ogg

    While talking, /image, /audio, /video and /points PATH attach more, /clear forgets, /exit leaves. Exit codes: 0
    answered, 2 refused, with the reason.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    with one_sentence_errors(), ExitStack() as stack:
        if url is None:
            url = stack.enter_context(own_server(model, Console(stderr=as_json), **pairs_of(set_ or [])))
        session = ChatSession(stack.enter_context(open_client(url, api_key)), model)
        for kind, paths in (("image", image), ("audio", audio), ("video", video), ("point_cloud", point_cloud)):
            for path in paths or ():
                session.attach(path, kind)
        if question is None:
            run_terminal_chat(session, lambda: console.input("you> "), _write)
        elif as_json:
            typer.echo(json.dumps({"question": question, "answer": "".join(session.send(question))}))
        else:
            for piece in session.send(question):
                _write(piece)
            _write("\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
