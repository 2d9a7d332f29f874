"""The error table: every error has a status, one body, and says no more than it should."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pydantic import BaseModel, ValidationError

from core.errors import (
    AppError,
    EngineFault,
    InvalidRequest,
    MediaDecodeError,
    MediaFetchError,
    MediaTooLarge,
    NotReady,
    Overloaded,
    PromptTooLong,
    Unauthorized,
    UnknownName,
    UnsupportedMedia,
)
from server.error_handlers import (
    ERROR_TABLE,
    HIDDEN_SENTENCE,
    error_response,
    error_row,
    invalid_request_from,
    is_fault,
)


def subclasses(root: type[AppError]) -> Iterator[type[AppError]]:
    yield root
    for child in root.__subclasses__():
        yield from subclasses(child)


@pytest.mark.parametrize("error_class", list(subclasses(AppError)), ids=lambda error_class: error_class.__name__)
def test_every_error_has_a_row_of_its_own_or_of_a_parent_that_is_not_the_root(error_class: type[AppError]) -> None:
    listed = [ancestor for ancestor in error_class.__mro__ if ancestor in ERROR_TABLE]
    assert listed[0] is not AppError or error_class is AppError
    answer = error_response(error_class("a sentence"))
    assert answer.status_code == error_row(error_class).status
    assert set(json.loads(bytes(answer.body))["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("error_class", "status"),
    [
        (InvalidRequest, 400),
        (PromptTooLong, 400),
        (MediaTooLarge, 413),
        (UnsupportedMedia, 415),
        (MediaDecodeError, 422),
        (MediaFetchError, 422),
        (Unauthorized, 401),
        (UnknownName, 404),
        (Overloaded, 429),
        (NotReady, 503),
        (EngineFault, 500),
    ],
)
def test_statuses_are_those_of_the_design(error_class: type[AppError], status: int) -> None:
    assert error_row(error_class).status == status


@pytest.mark.parametrize("error", [EngineFault("tensor 7 is broken", param="x"), ValueError("tensor 7 is broken")])
def test_faults_of_ours_keep_their_details(error: Exception) -> None:
    body = json.loads(bytes(error_response(error).body))["error"]
    assert is_fault(error)
    assert body == {"message": HIDDEN_SENTENCE, "type": "server_error", "param": None, "code": "engine_fault"}


def test_overload_says_when_to_come_back() -> None:
    assert error_response(Overloaded("full", retry_after_s=7)).headers["retry-after"] == "7"


def test_a_finding_never_quotes_a_long_string() -> None:
    class Body(BaseModel):
        count: int

    prompt = "a very private prompt " * 10
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"count": prompt})
    error = invalid_request_from(caught.value)
    assert "private" not in error.message
    assert error.param == "count"
