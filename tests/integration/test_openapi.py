"""The OpenAPI document: what the command prints is what the server serves, and answers agree with it."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from server.cli import app
from server.error_handlers import ERROR_TABLE
from tests.support.live_server import live_server


def test_the_command_prints_what_the_server_serves() -> None:
    printed = json.loads(CliRunner().invoke(app, ["openapi"]).stdout)
    with live_server() as server:
        served = server.get("/openapi.json").json()
    assert printed == served


def test_every_endpoint_documents_every_error_and_its_one_body() -> None:
    document: dict[str, Any] = json.loads(CliRunner().invoke(app, ["openapi"]).stdout)
    statuses = {str(row.status) for row in ERROR_TABLE.values()}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 25
    for operation in operations:
        assert statuses <= operation["responses"].keys()
        for status in statuses:
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorBody"}
