"""`bindchat keys`: make, list and remove API keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from core.errors import ConfigError
from server.api_keys import ApiKey, add_key, read_key_file, remove_key
from server.commands.errors import one_sentence_errors
from server.configuration import load_settings

keys_app = typer.Typer(help="API keys; a running server reads the file again on SIGHUP.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Whose key it is; files and cached results belong to this name.")]
FileOption = Annotated[Path | None, typer.Option(help="The key file; without it, the setting api_key_file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]


@keys_app.command()
def add(
    name: NameArgument,
    file: FileOption = None,
    admin: Annotated[bool, typer.Option("--admin", help="The key may change what all clients share.")] = False,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Its own limit.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Its own limit.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it this once; the file keeps only its digest."""
    with one_sentence_errors():
        path = _key_file(file)
        wanted = ApiKey(
            name=name, is_admin=admin, requests_per_minute=requests_per_minute, max_concurrent=max_concurrent
        )
        secret = add_key(path, wanted)
    if as_json:
        typer.echo(json.dumps({"name": name, "key": secret, "file": str(path)}))
    else:
        typer.echo(secret)
        typer.echo(f"{name} is in {path}; this is the only time its key is shown", err=True)


@keys_app.command(name="list")
def list_(file: FileOption = None, as_json: JsonOption = False) -> None:
    """Show the names, rights and limits of a file's keys."""
    with one_sentence_errors():
        keys = read_key_file(_key_file(file))
    rows = [
        {
            "name": key.name,
            "admin": key.is_admin,
            "requests_per_minute": key.requests_per_minute,
            "max_concurrent": key.max_concurrent,
        }
        for key in keys
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        words = [f"{name}={value}" for name, value in row.items() if name != "name" and value not in (None, False)]
        typer.echo(" ".join([f"{row['name']:<24}", *words]).rstrip())


@keys_app.command()
def remove(name: NameArgument, file: FileOption = None, as_json: JsonOption = False) -> None:
    """Take a key out of the file; it works until the server is sent SIGHUP or restarts."""
    with one_sentence_errors():
        remove_key(_key_file(file), name)
    typer.echo(json.dumps({"name": name, "removed": True}) if as_json else f"{name} is gone")


def _key_file(file: Path | None) -> Path:
    path = file or load_settings({}).api_key_file
    if path is None:
        raise ConfigError("which file? say --file PATH or set BINDCHAT_API_KEY_FILE")
    return path
