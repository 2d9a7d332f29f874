"""What a reply must look like: OpenAI's `response_format`, and one of several texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from core.errors import InvalidRequest
from core.types import Grammar
from server.schemas.parts import EdgeModel

NonEmptyText = Annotated[str, Field(min_length=1)]


class NamedSchema(EdgeModel):
    """A JSON Schema; it is followed exactly whether `strict` is set or not."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(EdgeModel):
    """Any text, any JSON object, or JSON that matches a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    def grammar(self) -> Grammar | None:
        """Return what the reply must match, None for text. Raises `InvalidRequest` when type and schema disagree."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise InvalidRequest(
                f"response_format.json_schema belongs to type json_schema, and type is {self.type}; send both or none",
                param="response_format.json_schema",
            )
        if self.type == "text":
            return None
        source = json.dumps(self.json_schema.schema_ if self.json_schema else {"type": "object"})
        return Grammar(kind="json_schema", source=source, param="response_format")


def choice_grammar(texts: Sequence[str]) -> Grammar:
    """Return the grammar of exactly one of `texts`."""
    return Grammar(kind="regex", source="|".join(map(_literal, texts)), param="choice")


def _literal(text: str) -> str:
    """Return the expression that matches `text` alone, each special character by its code point."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08X}" for c in text)
