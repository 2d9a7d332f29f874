"""Random requests that the API's own description allows, and some it forbids: no fault, no status it does not name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from server.app import create_app
from server.settings import Settings
from server.wiring import build_service
from tests.support.live_server import LiveServer, live_server

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
DOCUMENT = create_app(Settings(port=0, model="tiny"), build_service).openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {f"{found.ok().method.upper()} {found.ok().path}": found.ok() for found in SCHEMA.get_all_operations()}
MODES = {"allowed": GenerationMode.POSITIVE, "forbidden": GenerationMode.NEGATIVE}
# A path takes any text, so only a body or a query can be forbidden.
CASES = [
    (mode, name)
    for name, operation in sorted(OPERATIONS.items())
    for mode in MODES
    if mode == "allowed" or operation.body or operation.query
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("files")
    with live_server(files_dir=folder, default_max_tokens=2, request_timeout_s=20, max_form_fields=8) as running:
        yield running


@pytest.mark.parametrize(("mode", "name"), CASES)
def test_random_requests_get_a_status_and_a_body_that_the_description_names(
    server: LiveServer, mode: str, name: str
) -> None:
    operation = OPERATIONS[name]

    @seed(5)
    @settings(
        max_examples=4,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=MODES[mode]))
    def ask(case: schemathesis.Case) -> None:
        response = case.call(base_url=server.url, timeout=30)
        case.validate_response(response, checks=CHECKS)

    ask()
    assert server.get("/health").status_code == 200


def test_every_operation_names_the_one_error_body() -> None:
    assert len(OPERATIONS) > 10
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            assert "Error" in str(operation["responses"]["401"]), path


def test_the_description_is_served_as_it_is_checked(server: LiveServer) -> None:
    assert httpx.get(f"{server.url}/openapi.json").json() == DOCUMENT
