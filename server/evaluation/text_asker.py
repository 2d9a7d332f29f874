"""What the harness needs of a server: token ids, how likely a text is, and how it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from core.errors import InvalidRequest
from server.evaluation.asking import Advance
from server.terminal_chat import error_sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScore:
    """The log-likelihood of one token after those before it, in nats, and whether no other is likelier."""

    logprob: float
    is_likeliest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlace:
    """Where a server is: `root` ends in /v1."""

    root: str
    model: str
    api_key: str | None = None
    timeout_s: float = 600.0
    max_in_flight: int = 8


class TextAsker:
    """One open connection to a server of completions; use as an asynchronous context."""

    def __init__(self, place: ServerPlace, advance: Advance) -> None:
        headers = {"Authorization": f"Bearer {place.api_key}"} if place.api_key else {}
        self._client = httpx.AsyncClient(headers=headers, timeout=place.timeout_s)
        self._root, self._model, self._advance = place.root, place.model, advance
        self._places = asyncio.Semaphore(place.max_in_flight)
        self.max_context = 0

    async def __aenter__(self) -> Self:
        tokens = await self._post("/tokenize", {"prompt": "a"})
        self.max_context = int(tokens["max_model_len"])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text as a completion reads it."""
        return [int(token) for token in (await self._post("/tokenize", {"prompt": text}))["tokens"]]

    async def scores(self, token_ids: Sequence[int]) -> list[TokenScore]:
        """Return how likely each token is; the first has nothing before it and counts 0.

        What does not fit the context loses its beginning.
        """
        kept = list(token_ids)[-(self.max_context - 1) :]
        asked = {"prompt": kept, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        found = (await self._post("/completions", asked))["choices"][0]["logprobs"]
        self._advance(1)
        lost = [TokenScore(logprob=0.0, is_likeliest=True)] * (len(token_ids) - len(kept) + 1)
        pairs = list(zip(found["token_logprobs"], found["top_logprobs"], strict=True))[1 : len(kept)]
        return [
            *lost,
            *(TokenScore(logprob=own, is_likeliest=own >= max(likely.values())) for own, likely in pairs),
        ]

    async def continuation(self, prompt: str, *, max_tokens: int, stop: Sequence[str], temperature: float) -> str:
        """Return how a text goes on; a prompt too long for the context loses its beginning."""
        ids = await self.token_ids(prompt)
        kept = ids[-(self.max_context - max_tokens) :]
        asked = {"prompt": kept, "max_tokens": max_tokens, "stop": list(stop) or None, "temperature": temperature}
        text = str((await self._post("/completions", asked))["choices"][0]["text"])
        self._advance(1)
        return text

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        address = f"{self._root.removesuffix('/v1') if path == '/tokenize' else self._root}{path}"
        async with self._places:
            try:
                answer = await self._client.post(address, json={"model": self._model, **body})
            except httpx.HTTPError as error:
                raise InvalidRequest(f"the server cannot be reached ({error}); check --url") from None
        if answer.status_code != 200:
            why = error_sentence(answer.content, answer.status_code)
            raise InvalidRequest(f"{path} was refused with {answer.status_code}: {why}")
        return dict(answer.json())
