"""Chat completions that are kept because the client said `store: true`: what was asked, what was answered."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from server.forms import BIND_TEXT, UploadedFile
from server.schemas.chat import ChatCompletionBody

if TYPE_CHECKING:
    from core.types import SamplingParams
    from engine.document_store import DocumentStore

KIND = "completion"
PAGE_SIZE = 100  # documents read at a time while a list is filtered


def stored_chat(
    completion: Mapping[str, Any],
    body: ChatCompletionBody,
    sampling: SamplingParams,
    messages: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the document of one answered chat: OpenAI's stored completion, and the messages it was asked with."""
    asked = body.model_dump(include={"tools", "tool_choice", "response_format"}, by_alias=True, exclude_none=True)
    kept = {
        **completion,
        "service_tier": "default",
        "metadata": body.metadata or {},
        "input_user": body.user,
        "tools": asked.get("tools"),
        "tool_choice": asked.get("tool_choice"),
        "response_format": asked.get("response_format"),
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    rows = [_message_object(f"{kept['id']}-{place}", message) for place, message in enumerate(messages)]
    return {"id": kept["id"], "completion": kept, "messages": rows}


def with_uploads(messages: Sequence[Mapping[str, Any]], files: Sequence[UploadedFile]) -> list[dict[str, Any]]:
    """Return the messages with a form's files as content parts of the last user message, where the chat has them."""
    kept = [dict(message) for message in messages]
    place = max((i for i, message in enumerate(kept) if message.get("role") == "user"), default=None)
    if place is None or not files:
        return kept
    content = kept[place].get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
    kept[place]["content"] = [*parts, *map(_part, files)]
    return kept


def matching(
    documents: DocumentStore, owner: str, wanted: Mapping[str, Any], *, after: str | None, descending: bool
) -> Iterator[dict[str, Any]]:
    """Yield the owner's stored completions whose model and metadata are as `wanted`, after the one that is named."""
    while page := documents.page(KIND, owner, after=after, limit=PAGE_SIZE, descending=descending):
        for document in page:
            completion: dict[str, Any] = document["completion"]
            fields = {"model": completion["model"], **{f"metadata[{k}]": v for k, v in completion["metadata"].items()}}
            if wanted.items() <= fields.items():
                yield completion
        after = page[-1]["id"]


def _message_object(message_id: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message as OpenAI lists it: its words in `content`, and its parts, when it had any, beside them."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    texts = [part.get("text", "") for part in parts or () if part.get("type") == "text"]
    return {
        "name": None,
        **message,
        "id": message_id,
        "content": content if parts is None else "\n".join(texts) or None,
        "content_parts": parts,
    }


def _part(file: UploadedFile) -> dict[str, Any]:
    weight = {} if file.weight == 1 else {"weight": file.weight}
    sampling = file.sampling
    given = {} if sampling is None else {
        "fps": sampling.frames_per_s, "num_frames": sampling.num_frames,
        "start": sampling.start_s, "end": sampling.end_s,
    }  # fmt: skip
    timed = {name: value for name, value in given.items() if value is not None}
    if file.field_name == BIND_TEXT:
        return {"type": BIND_TEXT, "text": file.content.decode(), **weight}
    if file.frames:
        frames = [{"url": _data_uri(frame, file.declared_type)} for frame in file.frames]
        return {"type": "video_frames", "video_frames": {"frames": frames, "fps": file.frames_per_s}, **weight, **timed}
    url = _data_uri(file.content, file.declared_type)
    if file.expected is None:
        return {"type": "file", "file": {"file_data": url, "filename": file.filename}, **weight}
    kind = f"{file.field_name}_url"
    is_timed = file.field_name in ("audio", "video")
    return {"type": kind, kind: {"url": url}, **weight, **(timed if is_timed else {})}


def _data_uri(content: bytes, media_type: str | None) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{base64.b64encode(content).decode()}"
