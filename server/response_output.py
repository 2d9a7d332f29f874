"""OpenAI's response object while it grows, and the events that a stream tells about it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from core.types import ChatRequest
from engine.decoding.tool_calls import ReplyPiece
from server.error_handlers import error_body
from server.event_tape import Event
from server.schemas.response import ResponseBody, TextOptions


class ResponseDraft:
    """One response. Every method yields the events of what it changed; `document` is the object itself."""

    def __init__(self, body: ResponseBody, request: ChatRequest, response_id: str) -> None:
        self.document = response_object(body, request, response_id)
        self._items: list[dict[str, Any]] = self.document["output"]
        self._num_events = 0
        self._is_open = False
        self._with_logprobs = request.sampling.num_logprobs is not None

    def begin(self) -> Iterator[Event]:
        """Say that the response exists and is being made."""
        yield self._event("response.created", response=self._snapshot())
        if self.document["status"] == "queued":
            yield self._event("response.queued", response=self._snapshot())
            self.document["status"] = "in_progress"
        yield self._event("response.in_progress", response=self._snapshot())

    def take(self, pieces: Sequence[ReplyPiece], logprobs: Sequence[dict[str, Any]] = ()) -> Iterator[Event]:
        """Take what the reply said next."""
        for piece in pieces:
            if piece.kind == "text":
                yield from self._add_text(piece.text, logprobs)
            elif piece.kind == "call":
                yield from self._close_item("completed")
                yield from self._open_call(piece)
            else:
                self._items[-1]["arguments"] += piece.text
                yield self._event("response.function_call_arguments.delta", **self._place(), delta=piece.text)

    def finish(self, finish: str | None, usage: dict[str, Any], logprobs: Sequence[dict[str, Any]]) -> Iterator[Event]:
        """End the response: completed, or incomplete when it ran into its limit."""
        status = "incomplete" if finish == "length" else "completed"
        if not self._items:
            yield from self._open_message()
        if self._with_logprobs and self._items[-1]["type"] == "message":
            self._items[-1]["content"][0]["logprobs"] = list(logprobs)
        yield from self._close_item(status)
        if status == "incomplete":
            self.document["incomplete_details"] = {"reason": "max_output_tokens"}
        self.document.update(status=status, completed_at=int(time.time()), usage=_usage(usage))
        yield self._event(f"response.{status}", response=self._snapshot())

    def fail(self, error: Exception) -> Iterator[Event]:
        """End the response with what it failed with."""
        found = error_body(error)["error"]
        self.document.update(status="failed", error={"code": found["code"], "message": found["message"]})
        yield self._event("error", code=found["code"], message=found["message"], param=found["param"])
        yield self._event("response.failed", response=self._snapshot())

    def interrupt(self, status: str, error: dict[str, str]) -> Iterator[Event]:
        """End the response in the middle, `cancelled` by its client or `failed` with the server."""
        self.document.update(status=status, error=error if status == "failed" else None)
        if status == "failed":
            yield self._event("response.failed", response=self._snapshot())
        else:
            yield self._event("error", code="response_cancelled", message="the response was cancelled", param=None)

    def _add_text(self, text: str, logprobs: Sequence[dict[str, Any]]) -> Iterator[Event]:
        if not self._is_open:
            yield from self._open_message()
        self._items[-1]["content"][0]["text"] += text
        place = {**self._place(), "content_index": 0}
        yield self._event("response.output_text.delta", **place, delta=text, logprobs=list(logprobs))

    def _open_message(self) -> Iterator[Event]:
        part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        message: dict[str, Any] = {
            "id": f"msg_{secrets.token_hex(16)}",
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
        }
        yield self._open(message)
        message["content"].append(part)
        yield self._event("response.content_part.added", **self._place(), content_index=0, part=dict(part))

    def _open_call(self, piece: ReplyPiece) -> Iterator[Event]:
        yield self._open(
            {
                "id": f"fc_{secrets.token_hex(16)}",
                "type": "function_call",
                "status": "in_progress",
                "call_id": piece.call_id,
                "name": piece.text,
                "arguments": "",
            }
        )

    def _open(self, item: dict[str, Any]) -> Event:
        self._items.append(item)
        self._is_open = True
        shown = {**item, "content": list(item["content"])} if "content" in item else dict(item)
        return self._event("response.output_item.added", output_index=len(self._items) - 1, item=shown)

    def _close_item(self, status: str) -> Iterator[Event]:
        if not self._is_open:
            return
        item, self._is_open = self._items[-1], False
        item["status"] = status
        if item["type"] == "message":
            (part,) = item["content"]
            place = {**self._place(), "content_index": 0}
            yield self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
            yield self._event("response.content_part.done", **place, part=dict(part))
        else:
            arguments = {"arguments": item["arguments"], "name": item["name"]}
            yield self._event("response.function_call_arguments.done", **self._place(), **arguments)
        yield self._event("response.output_item.done", output_index=len(self._items) - 1, item=dict(item))

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1}

    def _snapshot(self) -> dict[str, Any]:
        return {**self.document, "output": [dict(item) for item in self._items]}

    def _event(self, event_type: str, **fields: Any) -> Event:
        self._num_events += 1
        return {"type": event_type, "sequence_number": self._num_events - 1, **fields}


def response_object(body: ResponseBody, request: ChatRequest, response_id: str) -> dict[str, Any]:
    """Return the object of a response that has not said anything, every parameter with the value that is used."""
    asked = (body.text or TextOptions()).format.model_dump(by_alias=True, exclude_none=True)
    tools = [{"parameters": None, "strict": None, "description": None, **tool} for tool in body.tools or ()]
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "queued" if body.background else "in_progress",
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "model": request.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.is_stored,
        "temperature": request.sampling.temperature,
        "text": {"format": asked, "verbosity": "medium"},
        "tool_choice": body.tool_choice or "auto",
        "tools": tools,
        "top_logprobs": body.top_logprobs or 0,
        "top_p": request.sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
    }


def _usage(chat: dict[str, Any]) -> dict[str, Any]:
    details = chat["prompt_tokens_details"]
    return {
        "input_tokens": chat["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": details["cached_tokens"], "media": details["media"]},
        "output_tokens": chat["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": chat["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": chat["total_tokens"],
    }
