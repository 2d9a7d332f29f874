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

STRING_FIELDS = frozenset(
    {
        "prompt",
        "input",
        "model",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "service_tier",
        "index",
        "label",
        "caption",
    }
)
"""Fields taken as they are; every other field is read as JSON, so `true`, `0.5` and `{"a": 1}` keep their types."""

BIND_TEXT, VIDEO_FRAME = "bind_text", "video_frame"
WEIGHT_FIELDS = {f"{name}_weight": name for name in (*FILE_FIELDS, BIND_TEXT)}
"""A field of weights for each kind of medium: one number per medium of that kind, in the order sent."""

SAMPLING_FIELDS = tuple(SamplingFields.model_fields)
"""What a form says about its one audio or video file."""


_NUMBER = {"type": "number"}
MEDIA_PROPERTIES: dict[str, Any] = {
    **{name: {"type": "array", "items": {"type": "string", "format": "binary"}} for name in FILE_FIELDS},
    BIND_TEXT: {"type": "array", "items": {"type": "string"}},
    **{name: {"anyOf": [_NUMBER, {"type": "array", "items": _NUMBER}]} for name in WEIGHT_FIELDS},
    **dict.fromkeys(("video_frame_fps", *SAMPLING_FIELDS), _NUMBER),
}
"""What the OpenAPI document says about the media of a form."""


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One medium of a form; `expected` is None when the kind is decided from the bytes.

    `sampling` is the form's own: it belongs to the one file that is audio or video. A film of single pictures has them
    all in `frames`.
    """

    field_name: str
    content: bytes
    declared_type: str | None
    expected: Modality | None
    sampling: MediaSampling | None = None
    weight: float = 1.0
    frames: tuple[bytes, ...] = ()
    frames_per_s: float = 1.0
    filename: str | None = None


def split_form(parts: Sequence[FormPart]) -> tuple[dict[str, Any], list[UploadedFile]]:
    """Return the JSON body a chat's form stands for, and its files. Raises what `split_fields` raises."""
    body, files = split_fields(parts)
    return _with_prompt_as_messages(body), files


def split_fields(parts: Sequence[FormPart]) -> tuple[dict[str, Any], list[UploadedFile]]:
    """Return the scalar fields of a form with the types they have in JSON, and its files in the order sent.

    Raises `InvalidRequest` for a file under a scalar name, text under a file name, a field sent twice, and weights
    that are not one for each medium.
    """
    body: dict[str, Any] = {}
    files: list[UploadedFile] = []
    weights: dict[str, list[Any]] = {}
    for part in parts:
        if part.name in FILE_FIELDS:
            files.append(_uploaded_file(part))
        elif part.name == BIND_TEXT:
            files.append(UploadedFile(BIND_TEXT, _text(part).encode(), None, Modality.TEXT))
        elif part.name in WEIGHT_FIELDS:
            value = _scalar(part)
            weights.setdefault(WEIGHT_FIELDS[part.name], []).extend(value if isinstance(value, list) else [value])
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
    files = _weighted(_with_joined_frames(files, body.pop("video_frame_fps", None)), weights)
    return body, _with_sampling(body, files)


def _uploaded_file(part: FormPart) -> UploadedFile:
    if not part.is_file:
        raise InvalidRequest(
            f"{part.name} must be a file; with curl write -F {part.name}=@PATH (mind the @)", param=part.name
        )
    declared = None if part.content_type in (None, "application/octet-stream") else part.content_type
    return UploadedFile(part.name, bytes(part.content), declared, FILE_FIELDS[part.name], filename=part.filename)


def _with_joined_frames(files: Sequence[UploadedFile], frames_per_s: Any) -> list[UploadedFile]:
    """Return the files with all single frames as one film, at the place of the first."""
    frames = [file for file in files if file.field_name == VIDEO_FRAME]
    rate = 1.0 if frames_per_s is None else frames_per_s
    if not _is_number(rate) or not 0 < rate <= 1000 or (frames_per_s is not None and not frames):
        raise InvalidRequest(
            "video_frame_fps is the rate that the video_frame files were taken at, a number in (0, 1000]",
            param="video_frame_fps",
        )
    if not frames:
        return list(files)
    film = replace(frames[0], frames=tuple(frame.content for frame in frames), frames_per_s=float(rate))
    return [film if file is frames[0] else file for file in files if file is frames[0] or file not in frames]


def _weighted(files: Sequence[UploadedFile], weights: dict[str, list[Any]]) -> list[UploadedFile]:
    """Give each medium its weight. Raises `InvalidRequest` unless a kind has as many weights as media, or none."""
    weighted = list(files)
    for name, values in weights.items():
        places = [place for place, file in enumerate(files) if file.field_name == name]
        if len(places) != len(values) or not all(map(_is_number, values)):
            raise InvalidRequest(
                f"{name}_weight holds {len(values)} value(s) for {len(places)} {name} part(s); send one number for "
                "each, in the same order, by repeating the field or as a JSON list",
                param=f"{name}_weight",
            )
        for place, value in zip(places, values, strict=True):
            weighted[place] = replace(files[place], weight=float(value))
    return weighted


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
        return decode_json(text, param=part.name, limits=part.json)
    try:
        return decode_json(text)
    except InvalidRequest:
        return text  # the check of the body says what it should have been


def _text(part: FormPart) -> str:
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{part.name} is not UTF-8 text", param=part.name) from None
