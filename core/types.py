"""The types every layer shares, and the five seams of the system.

Letters in shapes: B batch, T tokens, D width, H heads, L adapted layers, P adapter tokens, E embedding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from core.errors import InvalidRequest

FloatArray = npt.NDArray[np.float32]
AnyArray = npt.NDArray[Any]
FinishReason = Literal["stop", "length", "abort"]
Role = Literal["system", "user", "assistant", "tool"]
BindScope = Literal["latest", "all"]


class Modality(StrEnum):
    """The kinds of input that meet in the joint space."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    POINT_CLOUD = "point_cloud"
    DEPTH = "depth"
    THERMAL = "thermal"
    IMU = "imu"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSampling:
    """Which stretch of a sound or film counts and how its frames are taken; None leaves it to the decoder."""

    start_s: float | None = None
    end_s: float | None = None
    frames_per_s: float | None = None
    num_frames: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaBlob:
    """What the client sent, undecoded. A negative `weight` subtracts the medium from the blend."""

    modality: Modality
    container: str
    data: bytes = field(repr=False)
    sha256: str
    weight: float = 1.0
    sampling: MediaSampling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedMedia:
    """One medium as an array.

    image `(H, W, 3)` uint8 | video `(F, H, W, 3)` uint8 | audio `(C, S)` float32 in [-1, 1] |
    point_cloud `(N, 3)` float32 | anything else as its encoder documents.
    """

    container: str
    array: AnyArray
    sample_rate_hz: float | None = None
    frames_per_s: float | None = None
    frame_times_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A stretch of a film, its unit row `(E,)` and `share` in the embedding, 0 for one too short to count."""

    start_s: float
    end_s: float
    share: float
    name: str
    confidence: float | None
    vector: FloatArray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A row of a joint space. `vector` is `(E,)` float32; `encoder_id` is part of every cache key.

    `confidence` in [0, 1] is the encoder's calibrated trust in its own best name; `scenes` are those of a film, and
    `features` what its network saw, for experts that would run the same network on the same medium.
    """

    vector: FloatArray
    encoder_id: str
    confidence: float | None = None
    scenes: tuple[Scene, ...] = ()
    features: tuple[FloatArray, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPrompt:
    """The condition: the adapter tokens `(L, P, D)` float32 of the L adapted layers, fixed for a request's life.

    `token_counts` gives the number of real tokens of each adapted layer when they differ (early fusion);
    None means every layer uses all P. The engine projects keys and values once, at admission.
    """

    prompts: FloatArray
    token_counts: tuple[int, ...] | None = None


Condition = AdapterPrompt | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What the whole reply must match: a JSON Schema, a regular expression, or text with tool calls.

    `source` is as `engine.decoding` documents for the kind; `param` names where it was asked for.
    """

    kind: Literal["json_schema", "regex", "tools"]
    source: str
    param: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are drawn. Out-of-range values raise `InvalidRequest` when built.

    `temperature` 0 is greedy; `top_k` 0 and `min_p` 0 and `top_p` 1 keep every token. `num_logprobs` asks for the
    log-probability of each token and of that many most likely ones, `scores_prompt` for the prompt's too. Frequency and
    presence penalties count what was generated, the repetition penalty (CTRL, section 4.1) the prompt too. Before
    `min_tokens` no token may end the reply; a stop string may. `stop_token_ids` end it like the end token.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    num_logprobs: int | None = None
    scores_prompt: bool = False
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_completion_tokens", f"must be at least 1, got {self.max_tokens}")
        _require(0 <= self.temperature <= 2, "temperature", f"must be in [0, 2], got {self.temperature}; 0 is greedy")
        _require(0 < self.top_p <= 1, "top_p", f"must be in (0, 1], got {self.top_p}; use 1 to keep every token")
        _require(self.top_k >= 0, "top_k", f"must be 0 or more, got {self.top_k}; use 0 to keep every token")
        _require(0 <= self.min_p < 1, "min_p", f"must be in [0, 1), got {self.min_p}; use 0 to keep every token")
        _require(len(self.stop) <= 4, "stop", f"takes at most 4 strings, got {len(self.stop)}")
        _require(all(self.stop), "stop", "must not hold an empty string")
        _require(0 <= (self.num_logprobs or 0) <= 20, "top_logprobs", f"must be in [0, 20], got {self.num_logprobs}")
        for name in ("frequency_penalty", "presence_penalty"):
            _require(-2 <= getattr(self, name) <= 2, name, f"must be in [-2, 2], got {getattr(self, name)}; 0 is none")
        repetition, minimum = self.repetition_penalty, self.min_tokens
        _require(0 < repetition <= 10, "repetition_penalty", f"must be in (0, 10], got {repetition}; 1 is none")
        _require(len(self.logit_bias) <= 1024, "logit_bias", f"takes at most 1024 tokens, got {len(self.logit_bias)}")
        _require(all(-100 <= bias <= 100 for _, bias in self.logit_bias), "logit_bias", "values must be in [-100, 100]")
        _require(0 <= minimum <= self.max_tokens, "min_tokens", f"must be in [0, {self.max_tokens}], got {minimum}")
        if self.grammar is not None and (self.ignore_eos or self.min_tokens):
            _require(False, self.grammar.param, "decides where the reply ends; leave ignore_eos and min_tokens out")
        _require(len(self.stop_token_ids) <= 64, "stop_token_ids", f"takes 64 ids, got {len(self.stop_token_ids)}")


def _require(condition: bool, param: str, sentence: str) -> None:
    if not condition:
        raise InvalidRequest(f"{param} {sentence}", param=param)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function the reply may call; `parameters` is the JSON Schema of its arguments, an object, as JSON text."""

    name: str
    parameters: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that an assistant turn made; `arguments` is a JSON object as text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn. Media keep the order in which the client sent them; text parts are joined."""

    role: Role
    text: str
    media: tuple[MediaBlob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheChoice:
    """How one request wants the visual cache; None leaves a value to the model."""

    enabled: bool = True
    index: str | None = None
    top_k: int | None = None
    inverse_temperature: float | None = None
    blend: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One validated chat completion request, free of HTTP.

    `num_choices` is OpenAI's `n`. `scope`: the media of the latest user message that has any, or of all, make the
    condition. `raw_prompts`, if any, are decoded as they are, without template and media, `num_choices` replies each;
    the messages are empty then. `tools` are told to the model. `cache` None is the model's own choice, `experts` None
    the server's; `tenant`, `priority` and `deadline_s` are those of `DecodeRequest`.
    """

    request_id: str
    model: str
    messages: tuple[ChatMessage, ...]
    sampling: SamplingParams
    num_choices: int = 1
    scope: BindScope = "latest"
    stream: bool = False
    raw_prompts: tuple[tuple[int, ...], ...] = ()
    tools: tuple[Tool, ...] = ()
    cache: CacheChoice | None = None
    experts: tuple[str, ...] | None = None
    tenant: str = ""
    priority: int = 0
    deadline_s: float | None = None

    @property
    def num_replies(self) -> int:
        return self.num_choices * max(1, len(self.raw_prompts))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """One sequence for a decoder backend: prompt ids, how to draw, and the condition (None: text only).

    With `continues_text` the reply goes on in the prompt's own text: a first space belongs to it. Keys and values are
    reused within one `tenant` only. A lower `priority` is served earlier. At `deadline_s`, on the clock of
    `time.monotonic`, the request ends with `DeadlineExceeded`. Of several machines the one that served a `conversation`
    has its keys and values. Without `is_streamed` a reply may come at its end, begun again elsewhere.
    """

    request_id: str
    token_ids: tuple[int, ...]
    sampling: SamplingParams
    condition: Condition = None
    continues_text: bool = False
    tenant: str = ""
    priority: int = 0
    deadline_s: float | None = None
    conversation: str = ""
    is_streamed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Counts of tokens for one sequence; `cached_tokens` of the prompt were already in the KV cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """A token by its text and raw bytes (None for a special token), and its natural log-probability."""

    token_id: int
    text: str
    token_bytes: bytes | None
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One step of one sequence. `text` is whole UTF-8 and may be empty while bytes or a stop string are pending.

    The last event of a sequence carries `finish` and `usage`. `num_logprobs` asks for `drawn` and `most_likely` of each
    token that does not end the reply, `scores_prompt` for `prompt` on the first event; its first token has 0.
    """

    token_id: int
    text: str
    logprob: float
    finish: FinishReason | None = None
    usage: TokenUsage | None = None
    drawn: TokenLogprob | None = None
    most_likely: tuple[TokenLogprob, ...] = ()
    prompt: tuple[tuple[TokenLogprob, tuple[TokenLogprob, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStats:
    """A snapshot; `num_steps` grows while the loop makes progress, `num_restarts` when it failed and went on."""

    slots_total: int
    slots_in_use: int
    queue_length: int
    num_steps: int
    num_tokens: int
    num_restarts: int = 0
    kv_tokens: tuple[int, int] = (0, 0)  # of the KV cache: in use, in all


class ModalityEncoder(Protocol):
    """Turn decoded media of one modality into rows of the joint space."""

    encoder_id: str
    modality: Modality

    def preprocess(self, media: DecodedMedia) -> Any:
        """Return one model-ready tensor; pure and cheap, safe in a worker thread."""

    def encode(self, batch: Sequence[Any]) -> list[Embedding]:
        """Return one embedding per preprocessed row; a row never depends on its batch."""


class Adapter(Protocol):
    """Turn what was encoded into the condition of the decoder."""

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        """Return the adapter tokens for one fused embedding `(E,)`, or for text alone when it is None.

        `confidence` in [0, 1] is the encoders' calibrated trust in the nearest name, `agrees` the verdict on a question
        that wants one; adapters trained to hedge or to say verdicts heed them, others condition on the vector alone.
        """


class Tokenizer(Protocol):
    """Text to ids and back, with the model's own chat template.

    `marks_first_word`: the first token of a text carries a space that `decode` drops, as in SentencePiece.
    `takes_tools`: the template renders tools and their calls itself, in `<tool_call>` tags.
    """

    eos_token_ids: frozenset[int]
    special_ids: dict[str, int]
    marks_first_word: bool

    @property
    def takes_tools(self) -> bool: ...

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...
    def decode(self, token_ids: Sequence[int]) -> str: ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the raw bytes one token adds to the output; special tokens add none."""

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Render `{"role", "content"}` turns with the generation prompt and return the ids."""


class DecoderBackend(Protocol):
    """Generate tokens for many requests at once."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def generate(self, request: DecodeRequest) -> AsyncIterator[TokenEvent]:
        """Yield events until one carries `finish`. Closing the iterator aborts and frees the slot.

        Raises `Overloaded` when the bounded queue is full and `EngineFault` when the engine failed on this row.
        """

    def abort(self, request_id: str) -> None: ...
    def stats(self) -> BackendStats: ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product."""

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Return `(B, k)` scores in falling order and the ids of the rows."""

    def vectors(self, ids: npt.NDArray[np.int64]) -> FloatArray: ...
