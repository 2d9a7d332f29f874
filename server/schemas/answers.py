"""What endpoints answer, for the OpenAPI document; answers are built elsewhere and the tests hold them against this."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from server.schemas.tools import MessageToolCall

Item = TypeVar("Item")


def answers(
    model: Any, *, path: str = "", method: str = "post", events: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return what a route says about its success: a JSON body of `model`, or a stream of `events` where one is asked.

    `path` and `method` are the route's, to which the events' own references lead.
    """
    success: dict[str, Any] = {"model": model, "description": "The answer."}
    if events is not None:
        escaped = path.replace("/", "~1").replace("{", "{{").replace("}", "}}")
        place = f"#/paths/{escaped}/{method}/responses/200/content/text~1event-stream/schema/$defs/{{model}}"
        success["description"] = "The answer; with stream: true, events whose data are each as described."
        success["content"] = {"text/event-stream": {"schema": events.model_json_schema(ref_template=place)}}
    return {"response_model": None, "responses": {200: success}}


class Answer(BaseModel):
    """A body with exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class Page(Answer, Generic[Item]):
    """Some of a list; `last_id` is the `after` of the next page."""

    object: Literal["list"]
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deletion(Answer):
    id: str
    object: str
    deleted: Literal[True]


class MediaUsage(Answer):
    """What the prompt held besides tokens."""

    items: int = 0
    seconds: float = 0
    frames: int = 0
    points: int = 0


class PromptDetails(Answer):
    cached_tokens: int
    audio_tokens: int
    media: MediaUsage


class CompletionDetails(Answer):
    reasoning_tokens: int
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class CachedItem(Answer):
    """What is known of an item of an index."""

    id: int
    file: str | None
    caption: str | None
    label: str | None
    metadata: dict[str, str | int | float | bool]


class NearItem(CachedItem):
    score: float


class MediumTrace(Answer):
    """One medium: what was sampled, how sure its encoder is, milliseconds per stage."""

    modality: str
    container: str
    weight: float
    sampled: dict[str, Any]
    confidence: float | None
    from_memo: bool | None
    stages_ms: dict[str, float]


class CacheTrace(Answer):
    index: str
    k: int
    inverse_temperature: float
    blend: float
    neighbours: list[NearItem]


class FoundObjectTrace(Answer):
    """An object in a picture; `box` is left, top, right, bottom as shares of the picture's width or height."""

    name: str
    score: float
    box: list[float]


class ExpertTrace(Answer):
    """What an expert said about one medium, and how much of it the prompt holds."""

    expert: str
    medium: int
    text: str
    objects: list[FoundObjectTrace]
    prompt_chars: int
    elapsed_ms: float
    from_memo: bool
    error: str | None


class PartTrace(Answer):
    """What one of the unlike things of a blend was taken for; `other` is the runner-up where that is unsure."""

    medium: int
    name: str
    other: str | None
    weight: float
    confidence: float | None


class BindTrace(BaseModel):
    """What the model saw, when `bind.trace` asked for it."""

    model_config = ConfigDict(extra="allow")

    media: list[MediumTrace]
    conditioned: bool
    stages_ms: dict[str, float]
    cache: CacheTrace | None
    experts: list[ExpertTrace] = []  # left out when no expert was asked
    parts: list[PartTrace] = []  # left out when the media show one thing
    verdict: Literal["yes", "no"] | None = None  # left out unless a yes-or-no question was judged


class TokenChance(Answer):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenChances(TokenChance):
    top_logprobs: list[TokenChance]


class Logprobs(Answer):
    content: list[TokenChances]
    refusal: None


class AssistantMessage(Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[MessageToolCall] = []


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(Answer):
    index: int
    message: AssistantMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class ReplyHead(Answer):
    id: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(ReplyHead):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage
    bind: BindTrace | None = None


class StoredChatCompletion(ChatCompletion):
    """A completion that was asked for with `store: true`, and with what."""

    service_tier: str
    metadata: dict[str, str]
    input_user: str | None
    tools: list[dict[str, Any]] | None
    tool_choice: str | dict[str, Any] | None
    response_format: dict[str, Any] | None
    seed: int | None
    temperature: float
    top_p: float
    frequency_penalty: float
    presence_penalty: float


class StoredMessage(BaseModel):
    """A message as it was sent; `content` is its words, `content_parts` its parts when it had any."""

    model_config = ConfigDict(extra="allow")

    id: str
    role: str
    name: str | None
    content: str | None
    content_parts: list[dict[str, Any]] | None


class ChunkCallFunction(Answer):
    name: str | None = None
    arguments: str


class ChunkCall(Answer):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: ChunkCallFunction


class Delta(Answer):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ChunkCall] | None = None


class ChunkChoice(Answer):
    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(ReplyHead):
    """One `data:` line of a stream; the last line is `[DONE]`."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: Usage | None = None
    bind: BindTrace | None = None


class TextLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Answer):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(ReplyHead):
    """A whole completion, or one chunk of a stream, which has no usage before its end."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: Usage | None = None


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class InputUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Answer):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: InputUsage


class LabelScore(Answer):
    label: str
    probability: float
    similarity: float | None = None


class Classification(Answer):
    object: Literal["classification"]
    index: int
    label: str
    probs: list[float]
    num_classes: int
    scores: list[LabelScore]


class Classifications(Answer):
    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Classification]
    usage: InputUsage


class RankedDocument(Answer):
    index: int
    relevance_score: float
    document: Any = None


class Ranking(Answer):
    id: str
    object: Literal["list"]
    model: str
    results: list[RankedDocument]
    usage: InputUsage
