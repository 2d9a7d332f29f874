"""Put questions to a server over HTTP, some at a time, and keep what it answered for the next run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from core.errors import InvalidRequest
from server.evaluation.data_sets import read_lines
from server.evaluation.outcome import Answer, Question
from server.terminal_chat import error_sentence, media_part

CHAT_PATH = "/chat/completions"
EMBEDDINGS_PATH = "/embeddings"
ROWS_PER_REQUEST = 8
Item = TypeVar("Item")
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How a question is sent: its length, the fields beside it, and whether the medium goes along."""

    max_tokens: int = 64
    without_media: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


class Asker:
    """One server under evaluation; `client`'s base address ends in /v1."""

    def __init__(self, client: httpx.AsyncClient, model: str, *, max_in_flight: int, advance: Advance) -> None:
        self._client, self._model, self._advance = client, model, advance
        self._places = asyncio.Semaphore(max_in_flight)

    async def answers(
        self, questions: Sequence[Question], wording: Wording, kept: KeptAnswers | None = None
    ) -> list[Answer]:
        """Ask every question as one user message at temperature 0, and return the answers in order.

        A refusal becomes an answer's error. Answers that `kept` holds to the very same request are not asked for again.
        """

        async def one(question: Question) -> Answer:
            async with self._places:
                answer = await self._answer(question, wording, kept)
            self._advance(1)
            return answer

        return list(await asyncio.gather(*(one(question) for question in questions)))

    async def _answer(self, question: Question, wording: Wording, kept: KeptAnswers | None) -> Answer:
        content: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
        if not wording.without_media:
            content.insert(0, media_part(question.kind, question.path))
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": wording.max_tokens,
            **wording.fields,
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        if kept is not None and (text := kept.find(digest)) is not None:
            return Answer(question=question, text=text)
        try:
            reply = await self._post(CHAT_PATH, body)
            text = str(reply["choices"][0]["message"]["content"] or "")
        except _Refused as error:
            return Answer(question=question, error=str(error))
        if kept is not None:
            kept.keep(digest, question, text)
        return Answer(question=question, text=text)

    async def embeddings(self, inputs: Sequence[str | tuple[str, Path]]) -> list[list[float]]:
        """Return one row for each text or `(kind, path)`. Raises `InvalidRequest` with the server's first refusal."""

        async def some(part: Sequence[str | tuple[str, Path]]) -> list[list[float]]:
            async with self._places:
                items = [item if isinstance(item, str) else [media_part(*item)] for item in part]
                try:
                    reply = await self._post(EMBEDDINGS_PATH, {"model": self._model, "input": items})
                except _Refused as error:
                    raise InvalidRequest(f"the server does not embed this: {error}") from None
            self._advance(len(part))
            return [list(row["embedding"]) for row in sorted(reply["data"], key=lambda row: int(row["index"]))]

        parts = [inputs[i : i + ROWS_PER_REQUEST] for i in range(0, len(inputs), ROWS_PER_REQUEST)]
        return [row for rows in await asyncio.gather(*(some(part) for part in parts)) for row in rows]

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = await self._client.post(path, json=body)
        except httpx.HTTPError as error:
            raise _Refused(f"{type(error).__name__} {error}".strip()) from None
        if answer.status_code != 200:
            raise _Refused(f"{answer.status_code}: {error_sentence(answer.content, answer.status_code)}")
        return dict(answer.json())


class _Refused(Exception):
    """The server answered with an error, or not at all."""


class KeptAnswers:
    """A file of JSON lines with every answer, by the digest of its request; a second run asks for the rest only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.touch()
        except OSError as error:
            raise InvalidRequest(f"cannot write {path}: {error.strerror}") from None
        self._texts = {str(row.get("request")): str(row.get("answer")) for row in read_lines(path)}

    def find(self, digest: str) -> str | None:
        """Return the answer to the request of that digest."""
        return self._texts.get(digest)

    def keep(self, digest: str, question: Question, text: str) -> None:
        """Append one answer."""
        row = {"name": question.name, "question": question.text, "expected": question.expected, "answer": text}
        self._texts[digest] = text
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, "request": digest}, ensure_ascii=False) + "\n")


def drawn(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """Return all items, or an even random draw of `limit` in their order."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), limit))]
