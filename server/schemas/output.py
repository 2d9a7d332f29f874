"""What a reply must look like: OpenAI's `response_format`, and one of several texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from core.types import Grammar
from server.schemas.parts import EdgeModel

NonEmptyText = Annotated[str, Field(min_length=1)]


class TextFormat(EdgeModel):
    """Any text."""

    type: Literal["text"]

    def grammar(self) -> Grammar | None:
        return None


class JsonObjectFormat(EdgeModel):
    """Any JSON object."""

    type: Literal["json_object"]

    def grammar(self) -> Grammar:
        return Grammar(kind="json_schema", source='{"type":"object"}', param="response_format")


class NamedSchema(EdgeModel):
    """A JSON Schema; it is followed exactly whether `strict` is set or not."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(EdgeModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def grammar(self) -> Grammar:
        return Grammar(kind="json_schema", source=json.dumps(self.json_schema.schema_), param="response_format")


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


def choice_grammar(texts: Sequence[str]) -> Grammar:
    """Return the grammar of exactly one of `texts`."""
    return Grammar(kind="regex", source="|".join(map(_literal, texts)), param="choice")


def _literal(text: str) -> str:
    """Return the expression that matches `text` alone, each special character by its code point."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\x{{{ord(c):X}}}" for c in text)
