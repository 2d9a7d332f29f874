"""`bindchat openapi`: the API's own description."""

from __future__ import annotations

import json

import typer

from server.app import create_app
from server.settings import Settings
from server.wiring import build_service


def print_openapi() -> None:
    """Print the OpenAPI document of every endpoint."""
    typer.echo(json.dumps(create_app(Settings(), build_service).openapi(), indent=2))
