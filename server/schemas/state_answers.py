"""What endpoints answer about things that stay: responses, files, batches, models, indexes, and the server itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from server.schemas.answers import Answer, CachedItem, MediaUsage, NearItem, TokenChances


class OutputText(Answer):
    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[TokenChances]


class OutputItem(Answer):
    """A message with `role` and `content`, or a function call with `call_id`, `name` and `arguments`."""

    id: str
    type: Literal["message", "function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] | None = None
    content: list[OutputText] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class InputDetails(Answer):
    cached_tokens: int
    media: MediaUsage


class OutputDetails(Answer):
    reasoning_tokens: int


class ResponseUsage(Answer):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseError(Answer):
    code: str
    message: str


class ResponseObject(Answer):
    """OpenAI's response; parameters hold the values that are used."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    background: bool
    error: ResponseError | None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: dict[str, None]
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]


class ResponseEvent(BaseModel):
    """One event of a stream, named by its type and numbered from 0."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int


class FileObject(Answer):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None


class LineError(Answer):
    code: str
    line: int | None
    message: str
    param: str | None


class LineErrors(Answer):
    object: Literal["list"]
    data: list[LineError]


class LineCounts(Answer):
    total: int
    completed: int
    failed: int


class BatchObject(Answer):
    """A batch; times are seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: LineErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: LineCounts
    metadata: dict[str, str] | None


class ModelObject(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    input_modalities: list[str]
    output_modalities: list[str]
    context_length: int
    experts: list[str]


class ModelList(Answer):
    object: Literal["list"]
    data: list[ModelObject]


class Tokens(Answer):
    model: str
    count: int
    max_model_len: int
    tokens: list[int]


class Detokenized(Answer):
    model: str
    prompt: str


class NearItems(Answer):
    object: Literal["list"]
    index: str
    data: list[NearItem]


class AddedItems(Answer):
    object: Literal["list"]
    index: str
    data: list[CachedItem]


class ItemPage(AddedItems):
    last_id: int | None
    has_more: bool


class ItemDeletion(Answer):
    object: Literal["cache.item"]
    index: str
    id: int
    deleted: Literal[True]


class ItemDeletions(Answer):
    object: Literal["list"]
    index: str
    num_deleted: int


class ReloadedIndex(Answer):
    index: str
    generation: int | str | None
    items: int | None
    changed: bool
    error: str | None


class ReloadedIndexes(Answer):
    object: Literal["list"]
    data: list[ReloadedIndex]


class IndexFacts(Answer):
    name: str
    items: int
    encoder_id: str | None
    dimension: int
    metric: str
    types: list[str]
    removed: int
    size_bytes: int
    generation: int | str
    created: str | None
    refines_by_default: list[str]
    k: int
    inverse_temperature: float
    blend: float


class MemoFacts(Answer):
    hits: int
    misses: int
    hit_rate: float | None
    entries: int
    size_bytes: int


class CacheFacts(Answer):
    object: Literal["cache.stats"]
    indexes: list[IndexFacts]
    memo: MemoFacts | None


class Health(Answer):
    status: Literal["ok", "loading"]


class Ready(Answer):
    status: Literal["ready"]
    slots_in_use: int
    slots_total: int
    queue_length: int
    requests_in_flight: int


class Generated(Answer):
    status: Literal["ok"]
    generate_ms: float


class Version(Answer):
    version: str
    python: str
