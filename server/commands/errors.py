"""How a command ends when something the operator can mend is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from core.errors import AppError, EngineFault


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """End the command with one sentence instead of a traceback."""
    try:
        yield
    except AppError as error:
        fail(error.message, exit_code=1 if isinstance(error, EngineFault) else 2)


def fail(sentence: str, *, exit_code: int) -> None:
    """Write a sentence to standard error and leave."""
    typer.echo(sentence, err=True)
    raise typer.Exit(exit_code)
