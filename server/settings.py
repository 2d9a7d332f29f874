"""What the operator chooses: read once from the command line and the environment, frozen, complete."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.errors import ConfigError

ENV_PREFIX = "BINDCHAT_"
MIB = 1024 * 1024


class Settings(BaseSettings):
    """Every setting with its default; `BINDCHAT_<NAME>` overrides a default, the command line overrides both."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    api_key_file: Path | None = None  # made by `bindchat keys add`; read again on SIGHUP
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()  # separated by commas; none, and no file: nobody is asked
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()  # keys that may also change what all clients share
    allow_unauthenticated: bool = False  # listen beyond this machine without asking for a key
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()  # Host headers taken; none: see docs/security.md
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()  # web origins that may call the API from a browser
    log_dir: Path = Path("logs")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    model: str = "mini"
    backend: str = "native"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    max_slots: int = Field(default=32, ge=1)  # sequences decoded together
    max_queue: int = Field(default=64, ge=0)  # sequences that may wait for a slot
    max_context: int | None = Field(default=None, ge=16)  # tokens per sequence; none: as long as the model allows
    num_threads: int | None = Field(default=None, ge=1)  # of the decoder; none: as torch decides
    hub_endpoint: str | None = None  # a mirror for `bindchat pull`; none: HF_ENDPOINT, else the Hugging Face hub
    default_max_tokens: int = Field(default=512, ge=1)  # when a request names no limit
    default_temperature: float = Field(default=0.2, ge=0, le=2)  # small models wander at 1.0
    default_top_p: float = Field(default=0.9, gt=0, le=1)
    max_choices: int = Field(default=8, ge=1)  # the largest n
    max_inputs: int = Field(default=64, ge=1)  # inputs of one embeddings request
    max_messages: int = Field(default=512, ge=1)
    max_prompt_chars: int = Field(
        default=1_000_000, ge=1
    )  # read before tokenizing; the context limit is exact and later

    max_media_bytes: int = Field(default=32 * MIB, ge=1)  # one medium
    max_body_bytes: int = Field(default=64 * MIB, ge=1)  # one request
    max_media_parts: int = Field(default=16, ge=1)  # media in one request
    files_dir: Path | None = None  # where uploaded files are kept; none: /v1/files is off
    max_upload_bytes: int = Field(default=512 * MIB, ge=1)  # one uploaded file
    max_files_bytes: int = Field(default=4096 * MIB, ge=1)  # all files of one API key
    max_files: int = Field(default=1000, ge=1)  # of one API key
    max_pixels: int = Field(default=64_000_000, ge=1)  # width * height of one picture
    allow_fetch: bool = False  # fetch https media from public addresses
    fetch_domains: Annotated[tuple[str, ...], NoDecode] = ()  # only from these hosts; none: from every public host

    body_timeout_s: float = Field(default=60, gt=0)  # from the first to the last byte of a request
    request_timeout_s: float = Field(default=600, gt=0)  # from the last byte in to the last token out
    first_event_wait_s: float = Field(
        default=10, gt=0
    )  # a stream waits this long for an honest status before it says 200
    keep_alive_s: float = Field(default=15, gt=0)  # between comments on a silent stream
    drain_s: float = Field(default=20, ge=0)  # running replies get this long after SIGTERM

    @field_validator("api_keys", "admin_keys", "allowed_hosts", "cors_origins", "fetch_domains", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return tuple(piece.strip() for piece in value.split(",") if piece.strip()) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of `--print-config`."""

    name: str
    value: str
    source: str


def load_settings(overrides: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Build the settings from the command line and the environment.

    Raises `ConfigError` for a bad value, and for a `BINDCHAT_` variable that is not a setting.
    """
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    if unknown := sorted(name for name in environ if name.upper().startswith(ENV_PREFIX) and name.upper() not in known):
        raise ConfigError(
            f"unknown environment variable {', '.join(unknown)}; known: {', '.join(sorted(known))}",
            param=unknown[0],
        )
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(piece) for piece in first["loc"])
        raise ConfigError(f"setting {name}: {first['msg']}, got {first['input']!r}", param=name) from None


def setting_rows(
    settings: Settings, overrides: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> list[SettingRow]:
    """Return every setting with its value (keys masked) and where the value came from."""
    in_environment = {name.upper() for name, value in environ.items() if value}
    rows = []
    for name in Settings.model_fields:
        variable = ENV_PREFIX + name.upper()
        if overrides.get(name) is not None:
            source = "command line"
        elif variable in in_environment:
            source = f"environment {variable}"
        else:
            source = "default"
        rows.append(SettingRow(name, _shown(getattr(settings, name)), source))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(piece) for piece in value) or "(none)"
    return "(none)" if value is None else str(value)
