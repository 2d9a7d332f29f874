"""What the operator chooses: every setting with its type, default and meaning, frozen once built.

`server/configuration.py` reads the values; docs/configuration.md is made from this file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "BINDCHAT_"
MIB = 1024 * 1024
INDEX_PAIR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}=.+")


def _split_commas(value: Any) -> Any:
    """Return the pieces of a text. Raises `ValueError` for a JSON list, which would become names that nobody meant."""
    if isinstance(value, str) and value.strip().startswith(('["', "['")):
        raise ValueError("write a list with commas and without brackets or quotes: one,two")
    return tuple(piece.strip() for piece in value.split(",") if piece.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_commas)]


def _index_pairs(value: Any) -> Any:
    """Return `NAME=FOLDER` texts, given as such or as a table. Raises `ValueError` for any other form."""
    pairs = tuple(f"{name}={path}" for name, path in value.items()) if isinstance(value, Mapping) else value
    pairs = _split_commas(pairs)
    names = [str(pair).partition("=")[0] for pair in pairs]
    if not all(INDEX_PAIR.fullmatch(str(pair)) for pair in pairs) or len({*names}) < len(names):
        raise ValueError("write NAME=FOLDER,NAME=FOLDER, each name once, of letters, digits, dashes and underscores")
    return pairs


IndexPairs = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_index_pairs)]


class NetworkSettings(BaseModel):
    """Network"""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="0 takes a free one")
    tls_cert_file: Path | None = Field(
        default=None, description="PEM certificate chain; with it the server speaks https"
    )
    tls_key_file: Path | None = Field(default=None, description="PEM key of the certificate")
    allowed_hosts: Names = Field(default=(), description="Host headers taken; none: see security.md")
    cors_origins: Names = Field(
        default=(), description="web origins whose pages may call the API; none: no foreign page"
    )

    max_connections: int = Field(default=1024, ge=1, description="open connections; more are closed at once")
    max_head_bytes: int = Field(default=64 * 1024, ge=1024, description="request line and headers")
    head_timeout_s: float = Field(default=20, gt=0, description="from the first to the last byte of a request's head")


class AccessSettings(BaseModel):
    """Access"""

    api_key_file: Path | None = Field(default=None, description="made by `bindchat keys add`; read again on SIGHUP")
    api_keys: Secrets = Field(default=(), description="keys themselves; without these and a file nobody is asked")
    admin_keys: Secrets = Field(default=(), description="keys that may also change what all clients share")
    allow_unauthenticated: bool = Field(
        default=False, description="listen beyond this machine without asking for a key"
    )

    requests_per_minute: int | None = Field(
        default=None, ge=1, description="of one key, unless its line says otherwise"
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, description="requests of one key at a time, unless its line says otherwise"
    )


class ModelSettings(BaseModel):
    """Model"""

    model: str = Field(default="mini", description="a name, or a folder that `bindchat convert` wrote")
    backend: str = Field(default="native", description="what generates tokens")
    dtype: Literal["bfloat16", "float32"] = Field(default="bfloat16", description="of the decoder's weights")
    audio_encoder: Literal["auto", "tower", "yamnet"] = Field(
        default="auto", description="how `mini` hears; auto: YAMNet where the extra `audio` is installed"
    )
    max_slots: int = Field(default=32, ge=1, description="sequences decoded together")
    max_context: int | None = Field(
        default=None, ge=16, description="tokens per sequence; none: as long as the model allows"
    )
    num_threads: int | None = Field(default=None, ge=1, description="of the decoder; none: as torch decides")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="of the decoder; auto: a GPU if any")
    weights_dtype: Literal["auto", "bfloat16", "int8", "int4"] = Field(
        default="auto",
        description="of the decoder's matrices on a CPU; auto measures, int8 for many replies at once",
    )
    kv_cache_mib: int | None = Field(
        default=None, ge=1, description="keys and values of all sequences; none: max_slots of max_context tokens"
    )
    reuse_prefixes: bool = Field(default=True, description="keep keys and values for a conversation's next turn")
    hub_endpoint: str | None = Field(
        default=None, description="a mirror for `bindchat pull`; none: HF_ENDPOINT, else the Hugging Face hub"
    )
    default_max_tokens: int = Field(default=512, ge=1, description="when a request names no limit")
    default_temperature: float = Field(default=0.2, ge=0, le=2, description="small models wander at 1.0")
    default_top_p: float = Field(default=0.9, gt=0, le=1, description="when a request names none")


class VllmSettings(BaseModel):
    """vLLM"""

    vllm_tensor_parallel_size: int = Field(
        default=1, ge=1, description="devices that share each layer; of the backend vllm"
    )
    vllm_pipeline_parallel_size: int = Field(default=1, ge=1, description="groups of devices that share the layers")
    vllm_quantization: str | None = Field(default=None, description="vLLM's name of a method; none: as the weights are")
    vllm_kv_cache_bytes: int | None = Field(
        default=None, ge=1, description="keys and values; none: as the share allows"
    )
    vllm_gpu_memory_share: float = Field(default=0.9, gt=0, le=1, description="of each device")
    vllm_eager: bool = Field(default=False, description="start sooner, without compilation and CUDA graphs")
    vllm_lora_folder: Path | None = Field(
        default=None, description="a PEFT adapter of the decoder, on for every request"
    )


class RaySettings(BaseModel):
    """Ray"""

    ray_max_in_flight: int = Field(
        default=1024, ge=1, description="sequences of one ingress replica, running and waiting; see scaling.md"
    )


class RequestLimits(BaseModel):
    """Limits of a request"""

    max_body_bytes: int = Field(default=64 * MIB, ge=1, description="body of one request")
    max_form_fields: int = Field(default=64, ge=1, description="parts of a form that are not files")
    max_json_depth: int = Field(default=64, ge=8, le=200, description="lists and objects inside each other")
    max_json_items: int = Field(default=1_000_000, ge=1, description="lists, objects and commas of a JSON body")
    max_messages: int = Field(default=512, ge=1, description="turns of one conversation")
    max_prompt_chars: int = Field(
        default=1_000_000, ge=1, description="read before tokenizing; the context limit is exact and later"
    )
    max_choices: int = Field(default=8, ge=1, description="the largest n")
    max_inputs: int = Field(default=64, ge=1, description="inputs of one embeddings request")
    max_queue: int = Field(default=64, ge=0, description="sequences that may wait for a slot")
    max_tokens_in_flight: int | None = Field(
        default=None, ge=1, description="prompt tokens and tokens asked for, of all sequences running and waiting"
    )


class MediaSettings(BaseModel):
    """Media"""

    max_media_parts: int = Field(default=16, ge=1, description="media in one request")
    max_media_bytes: int = Field(default=32 * MIB, ge=1, description="one medium as it was sent")
    max_pixels: int = Field(default=64_000_000, ge=1, description="width * height of one picture or frame")
    max_seconds: int = Field(default=600, ge=1, description="one sound or film")
    max_frames: int = Field(default=64, ge=1, description="frames sampled from one film")
    max_points: int = Field(default=2_000_000, ge=1, description="points or mesh vertices of one shape")
    max_decoded_bytes: int = Field(default=256 * MIB, ge=1, description="one decoded medium")
    max_worker_bytes: int = Field(default=1536 * MIB, ge=256 * MIB, description="address space of one decoder process")
    decode_timeout_s: float = Field(default=20, gt=0, description="one decode")
    allow_remote_media: bool = Field(default=False, description="fetch media from public http and https addresses")
    media_domains: Names = Field(default=(), description="fetch only from these and their subdomains; none: from all")
    fetch_timeout_s: float = Field(default=10, gt=0, description="one fetch, redirects included")


class FileSettings(BaseModel):
    """Uploaded files"""

    files_dir: Path | None = Field(default=None, description="where uploaded files are kept; none: /v1/files is off")
    max_upload_bytes: int = Field(default=512 * MIB, ge=1, description="one uploaded file")
    max_files_bytes: int = Field(default=4096 * MIB, ge=1, description="all files of one API key")
    max_files: int = Field(default=1000, ge=1, description="files of one API key")
    batch_concurrency: int = Field(default=4, ge=1, description="lines of all batches answered at once")
    max_responses: int = Field(
        default=1000, ge=1, description="stored responses, or chats, of one API key; the oldest go"
    )
    max_responses_bytes: int = Field(
        default=256 * MIB, ge=1, description="all stored responses, and all chats, of one API key"
    )
    responses_keep_s: float = Field(
        default=30 * 24 * 3600, gt=0, description="how long a response, chat or batch is kept"
    )


class ExpertSettings(BaseModel):
    """Experts"""

    experts_by_default: Names = Field(default=(), description="run for requests that name none; see experts.md")
    expert_timeout_s: float = Field(default=20, gt=0, description="one expert on one medium")
    expert_max_chars: int = Field(default=2000, ge=1, description="text of all experts in one prompt")
    expert_classifier: str = Field(
        default="efficientnet", description="what the expert classify looks with: efficientnet or illama-mini"
    )
    expert_speech_folder: Path | None = Field(
        default=None, description="Whisper in CTranslate2's form; none: the one of `make setup-experts`"
    )
    expert_caption_url: str | None = Field(
        default=None, description="OpenAI-style endpoint that captions, with its /v1; none: the served model"
    )
    expert_caption_model: str | None = Field(default=None, description="named to that endpoint")
    expert_caption_key: SecretStr | None = Field(default=None, description="sent to that endpoint")


class CacheSettings(BaseModel):
    """Visual cache and memo"""

    cache_indexes: IndexPairs = Field(default=(), description="NAME=FOLDER of each further index; see visual_cache.md")
    cache_dir: Path = Field(
        default=Path("cache"), description="takes a copy of the model's own index when its items change"
    )
    cache_device: Literal["cpu", "cuda"] = Field(default="cpu", description="cuda needs the extra faiss-gpu")
    max_memo_bytes: int = Field(default=64 * MIB, ge=0, description="embeddings remembered by content; 0: none")


class TimeSettings(BaseModel):
    """Times and life cycle"""

    body_timeout_s: float = Field(default=60, gt=0, description="from the first to the last byte of a body")
    request_timeout_s: float = Field(default=600, gt=0, description="from the last byte in to the last token out")
    first_event_wait_s: float = Field(
        default=10, gt=0, description="a stream waits this long for an honest status before it says 200"
    )
    keep_alive_s: float = Field(default=15, gt=0, description="between comments on a silent stream")
    stall_after_s: float = Field(
        default=120, gt=0, description="an engine with work and no step for so long is not alive"
    )
    drain_timeout_s: float = Field(default=30, ge=0, description="running requests get this long after SIGTERM")


class ReportSettings(BaseModel):
    """Logs and traces"""

    log_dir: Path = Field(default=Path("logs"), description="folder of server.jsonl")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe level kept"
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://.+",
        description="OpenTelemetry collector, as http://127.0.0.1:4318; needs the extra `otel`; none: no traces",
    )
    trace_share: float = Field(default=1.0, ge=0, le=1, description="of requests that no client traces already")


GROUPS: tuple[type[BaseModel], ...] = (
    NetworkSettings,
    AccessSettings,
    ModelSettings,
    VllmSettings,
    RaySettings,
    RequestLimits,
    MediaSettings,
    FileSettings,
    ExpertSettings,
    CacheSettings,
    TimeSettings,
    ReportSettings,
)
"""Every group of settings in the order in which they are shown."""


class Settings(
    NetworkSettings,
    AccessSettings,
    ModelSettings,
    VllmSettings,
    RaySettings,
    RequestLimits,
    MediaSettings,
    FileSettings,
    ExpertSettings,
    CacheSettings,
    TimeSettings,
    ReportSettings,
    BaseSettings,
):
    """Every setting; `BINDCHAT_<NAME>` overrides a default and what is passed overrides both."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)
