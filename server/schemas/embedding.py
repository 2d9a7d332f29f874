"""The body of `POST /v1/embeddings`: texts, token ids, content parts, and lists of parts that are blended."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from core.types import CacheChoice
from server.schemas.bodies import parse_body
from server.schemas.chat import CacheOptions
from server.schemas.parts import ContentPart, EdgeModel

INPUT_KINDS = frozenset({"text", "tokens", "parts"})


def _kind(item: Any) -> str:
    if not isinstance(item, list):
        return "text"
    return "tokens" if item and not isinstance(item[0], dict) else "parts"


def as_inputs(value: Any) -> Any:
    """Return the list of inputs that a bare text, one part or one row of ids stands for."""
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, int) for item in items):
        items = [items]
    return [[item] if isinstance(item, dict) else item for item in items]


EmbeddingInput = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[int], Tag("tokens"), Field(min_length=1)]
    | Annotated[list[ContentPart], Tag("parts"), Field(min_length=1)],
    Discriminator(_kind),
]


class EmbeddingBindOptions(EdgeModel):
    """What may be done to an embedding besides blending."""

    cache: CacheOptions | None = None


class EmbeddingBody(EdgeModel):
    """`input` is one input or a list of them; a list of parts inside it is blended to one embedding.

    With `blend`, all inputs, and the files of a form with their weights, are blended to one.
    """

    input: Annotated[list[EmbeddingInput], BeforeValidator(as_inputs)] = []  # noqa: RUF012 (pydantic copies it)
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    blend: bool = False
    dimensions: int | None = Field(None, ge=1)
    bind: EmbeddingBindOptions | None = None
    user: str | None = None

    @property
    def cache_choice(self) -> CacheChoice | None:
        """Return what was asked of the visual cache, None when nothing was: embeddings are not refined unasked."""
        return None if self.bind is None or self.bind.cache is None else self.bind.cache.choice


def parse_embedding_body(body: dict[str, Any]) -> EmbeddingBody:
    """Check a decoded JSON object. Raises `InvalidRequest` naming the field and what is allowed."""
    return parse_body(EmbeddingBody, body, tags=INPUT_KINDS)
