"""`/v1/files`: keep media for later requests, per API key; content parts name them by `file_id`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Query, Request
from python_multipart.multipart import MultipartParser
from starlette.responses import StreamingResponse

from core.errors import InvalidRequest, MediaTooLarge, UnknownName, UnsupportedMedia
from server.context import AppContext, context_of
from server.schemas.answers import Deletion, Page, answers
from server.schemas.state_answers import FileObject
from server.trace import trace_of
from server.uploads import BodyLimits, FormPart, PartCollector, body_kind, read_multipart

if TYPE_CHECKING:
    from engine.file_store import FileStore, FileWriter, StoredFile

router = APIRouter(tags=["files"])

PURPOSES = ("assistants", "batch", "evals", "user_data", "vision")
KEEP_S = (3600, 30 * 24 * 3600)
MAX_FILENAME_CHARS = 255
MAX_FORM_OVERHEAD_BYTES = 64 * 1024  # field names, boundaries and scalar fields around the file
CHUNK_BYTES = 256 * 1024
_BYTES = {"content": {"application/octet-stream": {}}, "description": "The bytes as they came."}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(PURPOSES)},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": KEEP_S[0], "maximum": KEEP_S[1]},
    },
}


@router.post(
    "/v1/files",
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
    **answers(FileObject),
)
async def create_file(request: Request) -> dict[str, Any]:
    """Stream one file to the disk; it exists once it is complete."""
    context, owner = context_of(request), trace_of(request).owner
    files = _store(context)
    if body_kind(request) != "multipart":
        raise UnsupportedMedia("this endpoint takes multipart/form-data only", code="unsupported_content_type")
    room_bytes = await asyncio.to_thread(files.check_room, owner)
    limits = BodyLimits(
        max_body_bytes=room_bytes + MAX_FORM_OVERHEAD_BYTES,
        max_file_bytes=room_bytes,
        max_files=1,
        timeout_s=context.settings.body_timeout_s,
    )
    with files.writing(room_bytes) as writer:
        parts = {part.name: part for part in await read_multipart(request, limits, _DiskCollector(limits, writer))}
        filename, purpose, keep_s = _checked_form(parts)
        stored = await asyncio.to_thread(
            files.finish, writer, owner=owner, filename=filename, purpose=purpose, keep_s=keep_s
        )
    return _file_object(stored)


@router.get("/v1/files", **answers(Page[FileObject]))
async def list_files(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    """List the client's files, the latest first; `after` names the last file of the page before."""
    files, owner = _store(context_of(request)), trace_of(request).owner
    found = await asyncio.to_thread(
        files.page, owner, after=after, limit=limit + 1, descending=order == "desc", purpose=purpose
    )
    page = [_file_object(stored) for stored in found[:limit]]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


@router.get("/v1/files/{file_id}", **answers(FileObject))
async def retrieve_file(request: Request, file_id: str) -> dict[str, Any]:
    """Describe one file."""
    return _file_object(await asyncio.to_thread(_store(context_of(request)).get, trace_of(request).owner, file_id))


@router.get("/v1/files/{file_id}/content", response_class=StreamingResponse, responses={200: _BYTES})
async def retrieve_file_content(request: Request, file_id: str) -> StreamingResponse:
    """Send the bytes back as they came, never to be shown by a browser."""
    files, owner = _store(context_of(request)), trace_of(request).owner
    stored = await asyncio.to_thread(files.get, owner, file_id)
    file = await asyncio.to_thread(files.open, owner, file_id)
    headers = {
        "Content-Length": str(stored.num_bytes),
        "Content-Disposition": f'attachment; filename="{stored.id}"',
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=headers)


@router.delete("/v1/files/{file_id}", **answers(Deletion))
async def delete_file(request: Request, file_id: str) -> dict[str, Any]:
    """Remove one file."""
    await asyncio.to_thread(_store(context_of(request)).delete, trace_of(request).owner, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


class _DiskCollector(PartCollector):
    """Write the one file to the disk as it arrives; scalar fields stay in memory."""

    def __init__(self, limits: BodyLimits, writer: FileWriter) -> None:
        super().__init__(limits)
        self._writer = writer
        self._num_scalar_bytes = 0

    async def feed(self, parser: MultipartParser, chunk: bytes) -> None:
        await asyncio.to_thread(parser.write, chunk)  # a disk may be slow

    def keep(self, part: FormPart, content: bytes) -> None:
        if part.is_file:
            if part.name != "file":
                raise InvalidRequest(f"{part.name[:80]} does not take a file; send it as file", param=part.name[:80])
            self._writer.write(content)
            return
        self._num_scalar_bytes += len(content)
        if self._num_scalar_bytes > MAX_FORM_OVERHEAD_BYTES:
            raise MediaTooLarge(f"the fields beside the file hold over {MAX_FORM_OVERHEAD_BYTES} bytes")
        super().keep(part, content)


def _store(context: AppContext) -> FileStore:
    files = context.service().files
    if files is None:
        raise UnknownName("this server keeps no files; its operator turns them on with files_dir", code="files_off")
    return files


def _checked_form(parts: Mapping[str, FormPart]) -> tuple[str, str, int | None]:
    """Return the file's name, its purpose and the seconds to keep it. Raises `InvalidRequest`."""
    known = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
    for name in parts:
        if name not in known:
            raise InvalidRequest(f"{name[:80]} is not a field of this endpoint; remove it", param=name[:80])
    file = parts.get("file")
    if file is None or file.filename is None:
        raise InvalidRequest("file is required; with curl write -F file=@PATH", param="file")
    if not 1 <= len(file.filename) <= MAX_FILENAME_CHARS:
        raise InvalidRequest(f"the file's name must have 1 to {MAX_FILENAME_CHARS} characters", param="file")
    purpose = _text(parts, "purpose")
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(PURPOSES)}", param="purpose")
    return (
        file.filename,
        purpose,
        _keep_s(_text(parts, "expires_after[anchor]"), _text(parts, "expires_after[seconds]")),
    )


def _keep_s(anchor: str | None, seconds: str | None) -> int | None:
    if anchor is None and seconds is None:
        return None
    is_number = seconds is not None and re.fullmatch(r"[0-9]{1,9}", seconds) is not None
    if anchor != "created_at" or not is_number or not KEEP_S[0] <= int(seconds or 0) <= KEEP_S[1]:
        raise InvalidRequest(
            f"expires_after needs anchor created_at and seconds in [{KEEP_S[0]}, {KEEP_S[1]}]", param="expires_after"
        )
    return int(seconds or 0)


def _text(parts: Mapping[str, FormPart], name: str) -> str | None:
    return None if name not in parts else parts[name].content.decode("utf-8", "replace")


def _file_object(stored: StoredFile) -> dict[str, Any]:
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.num_bytes,
        "created_at": stored.created_s,
        "expires_at": stored.expires_s,
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
    }


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
