"""Turn the fields of a multipart chat request into the JSON body that means the same, plus its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from core.errors import InvalidRequest
from core.types import MediaSampling, Modality
from server.error_handlers import invalid_request_from
from server.schemas.parts import SamplingFields
from server.uploads import FILE_FIELDS, FormPart, decode_json

STRING_FIELDS = frozenset({"prompt", "input", "model", "user", "safety_identifier", "prompt_cache_key", "service_tier"})
"""Fields taken as they are; every other field is read as JSON, so `true`, `0.5` and `{"a": 1}` keep their types."""

SAMPLING_FIELDS = tuple(SamplingFields.model_fields)
"""What a form says about its one audio or video file."""


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file of a form; `expected` is None when the kind is decided from the bytes.

    `sampling` is the form's own: it belongs to the one file that is audio or video.
    """

    field_name: str
    content: bytes
    declared_type: str | None
    expected: Modality | None
    sampling: MediaSampling | None = None


def split_form(parts: Sequence[FormPart]) -> tuple[dict[str, Any], list[UploadedFile]]:
    """Return the JSON body a chat's form stands for, and its files. Raises what `split_fields` raises."""
    body, files = split_fields(parts)
    return _with_prompt_as_messages(body), files


def split_fields(parts: Sequence[FormPart]) -> tuple[dict[str, Any], list[UploadedFile]]:
    """Return the scalar fields of a form with the types they have in JSON, and its files in the order sent.

    Raises `InvalidRequest` for a file under a scalar name, text under a file name, and a field sent twice.
    """
    body: dict[str, Any] = {}
    files: list[UploadedFile] = []
    for part in parts:
        if part.name in FILE_FIELDS:
            files.append(_uploaded_file(part))
        elif part.is_file:
            raise InvalidRequest(
                f"{part.name} does not take a file; file fields: {', '.join(FILE_FIELDS)}", param=part.name
            )
        elif part.name == "stop":
            body["stop"] = [*body.get("stop", []), _text(part)]  # the one field that may repeat
        elif part.name in body:
            raise InvalidRequest(f"{part.name} is given twice; send it once", param=part.name)
        else:
            body[part.name] = _scalar(part)
    return body, _with_sampling(body, files)


def _uploaded_file(part: FormPart) -> UploadedFile:
    if not part.is_file:
        raise InvalidRequest(
            f"{part.name} must be a file; with curl write -F {part.name}=@PATH (mind the @)", param=part.name
        )
    declared = None if part.content_type in (None, "application/octet-stream") else part.content_type
    return UploadedFile(part.name, bytes(part.content), declared, FILE_FIELDS[part.name])


def _with_sampling(body: dict[str, Any], files: Sequence[UploadedFile]) -> list[UploadedFile]:
    """Take the sampling out of the body and give it to the files."""
    fields = {name: body.pop(name) for name in SAMPLING_FIELDS if name in body}
    try:
        sampling = SamplingFields.model_validate(fields).sampling
    except ValidationError as error:
        raise invalid_request_from(error) from None
    if fields and not files:
        raise InvalidRequest(f"{next(iter(fields))} needs an audio or video file in the form", param=next(iter(fields)))
    return [replace(file, sampling=sampling) for file in files]


def _with_prompt_as_messages(body: dict[str, Any]) -> dict[str, Any]:
    prompt = body.pop("prompt", None)
    if (prompt is None) == ("messages" not in body):
        raise InvalidRequest("a form needs either prompt (one user message) or messages (JSON)", param="messages")
    if prompt is not None:
        body["messages"] = [{"role": "user", "content": prompt}]
    return body


def _scalar(part: FormPart) -> Any:
    text = _text(part)
    if part.name in STRING_FIELDS:
        return text
    if text.startswith(("{", "[")):
        return decode_json(text, param=part.name)
    try:
        return decode_json(text)
    except InvalidRequest:
        return text  # the check of the body says what it should have been


def _text(part: FormPart) -> str:
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{part.name} is not UTF-8 text", param=part.name) from None
