"""The bodies of `POST /v1/classify` and `POST /v1/rerank`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from server.schemas.embedding import EmbeddingInput, as_inputs
from server.schemas.output import NonEmptyText
from server.schemas.parts import EdgeModel

DEFAULT_TEMPERATURE = 0.05
"""Divides cosine similarities before the softmax; 1 / 0.05 is the visual cache's inverse temperature of 20."""


class ClassifyBody(EdgeModel):
    """`input` is one input or a list of them, of any medium; each is compared with every one of `labels`.

    A classifier such as `illama-mini` has classes of its own: it takes pictures, and no labels.
    """

    input: Annotated[list[EmbeddingInput], BeforeValidator(as_inputs)] = Field(min_length=1)
    labels: list[NonEmptyText] = Field(default=[], min_length=2)
    model: str | None = None
    temperature: float = Field(DEFAULT_TEMPERATURE, gt=0, le=10)
    label_template: str = Field("{}", pattern=r"^[^{}]*\{\}[^{}]*$")  # for example "a photo of a {}"
    user: str | None = None


def _as_one_input(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _as_document(value: Any) -> Any:
    """Return the input that Cohere's and Jina's `{"text": ...}` stands for; a content part stays one."""
    if isinstance(value, dict) and value.keys() == {"text"}:
        return value["text"]
    return _as_one_input(value)


Document = Annotated[EmbeddingInput, BeforeValidator(_as_document)]


class RerankBody(EdgeModel):
    """`query` and each of `documents` may be text, a content part, or parts that are blended."""

    query: Annotated[EmbeddingInput, BeforeValidator(_as_one_input)]
    documents: list[Document] = Field(min_length=1)
    model: str | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = True
    user: str | None = None
