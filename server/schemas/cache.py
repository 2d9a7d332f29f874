"""The bodies of `/v1/cache/search` and `/v1/cache/items`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from core.errors import InvalidRequest
from server.schemas.bodies import parse_body
from server.schemas.parts import ContentPart, EdgeModel

INPUT_KINDS = frozenset({"text", "parts", "numbers", "base64"})
MAX_EXTRA_FIELDS, MAX_EXTRA_CHARS = 32, 1000

ShortText = Annotated[str, Field(min_length=1, max_length=MAX_EXTRA_CHARS)]


def _as_parts(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


CacheInput = Annotated[
    Annotated[str, Tag("text"), Field(min_length=1, max_length=100_000)]
    | Annotated[list[ContentPart], Tag("parts"), Field(min_length=1)],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
    BeforeValidator(_as_parts),
]
"""A text, a content part, or a list of parts that are blended."""

RawEmbedding = Annotated[
    Annotated[list[float], Tag("numbers"), Field(min_length=1, max_length=65_536)]
    | Annotated[str, Tag("base64"), Field(min_length=1, max_length=400_000)],
    Discriminator(lambda value: "numbers" if isinstance(value, list) else "base64"),
]
"""Numbers, or base64 of little-endian float32, as `/v1/embeddings` gives them."""


class Embeddable(EdgeModel):
    """Something in the joint space: an input to embed, or its embedding."""

    input: CacheInput | None = None
    embedding: RawEmbedding | None = None

    def check_source(self, param: str, *, has_file: bool = False) -> None:
        """Raise `InvalidRequest` unless there is exactly one way to get an embedding."""
        num_sources = (self.input is not None or has_file) + (self.embedding is not None)
        if num_sources != 1:
            raise InvalidRequest(f"{param or 'the body'} needs either input or embedding", param=param or "input")


class CacheSearchBody(Embeddable):
    """What is looked for, in which index, and how many neighbours."""

    index: str | None = Field(None, min_length=1)
    k: int = Field(10, ge=1, le=1000)
    model: str | None = None


class ItemFields(EdgeModel):
    """What is kept beside a vector."""

    file: ShortText | None = None
    caption: ShortText | None = None
    label: ShortText | None = None
    metadata: dict[ShortText, str | int | float | bool] = Field({}, max_length=MAX_EXTRA_FIELDS)

    @field_validator("metadata")
    @classmethod
    def _values_are_short(cls, value: dict[str, Any]) -> dict[str, Any]:
        if any(isinstance(piece, str) and len(piece) > MAX_EXTRA_CHARS for piece in value.values()):
            raise ValueError(f"must hold texts of at most {MAX_EXTRA_CHARS} characters")
        return value


class NewItem(Embeddable, ItemFields):
    """One item to add."""


class CacheItemsBody(EdgeModel):
    """Items to add to one index."""

    index: str | None = Field(None, min_length=1)
    items: list[NewItem] = Field(min_length=1)
    model: str | None = None


class CacheFormBody(ItemFields):
    """What a form says about every file in it."""

    index: str | None = Field(None, min_length=1)
    model: str | None = None


def parse_search(body: dict[str, Any]) -> CacheSearchBody:
    """Check a decoded search. Raises `InvalidRequest` naming the field and what is allowed."""
    return parse_body(CacheSearchBody, body, tags=INPUT_KINDS)


def parse_items(body: dict[str, Any]) -> CacheItemsBody:
    """Check decoded items. Raises `InvalidRequest` naming the field and what is allowed."""
    return parse_body(CacheItemsBody, body, tags=INPUT_KINDS)


def parse_form(body: dict[str, Any]) -> CacheFormBody:
    """Check the scalar fields of a form that adds files."""
    return parse_body(CacheFormBody, body)
