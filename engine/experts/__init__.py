"""The table of experts: what turns a medium of a request into text for the prompt.

LLaMA-Adapter V2 (Gao et al. 2023, section 3.4) adds captioning, OCR and other experts at inference: their text is
context for the decoder, beside the condition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from core.errors import ConfigError
from core.registry import Registry
from core.types import DecodedMedia, MediaBlob, Modality
from engine.encoding.medium import MediumEncoding
from models.bundle import ModelBundle
from models.mini.attribute_words import Attributes
from models.nanodet.detector import FoundObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertOptions:
    """What the operator chooses. `by_default` run for requests that name none.

    `timeout_s` is the budget of one expert on one medium, waiting included; `max_chars` bounds all texts of a request
    together. `speech_folder` None is the model of an installed package.
    """

    by_default: tuple[str, ...] = ()
    timeout_s: float = 20.0
    max_chars: int = 2000
    num_threads: int | None = None
    classifier: str = "efficientnet"
    speech_folder: Path | None = None
    caption_url: str | None = None
    caption_model: str | None = None
    caption_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.timeout_s > 0 or self.max_chars < 1:
            raise ConfigError(
                f"experts need time and room: expert_timeout_s is {self.timeout_s}, expert_max_chars {self.max_chars}"
            )
        if self.caption_url and not self.caption_url.startswith(("http://", "https://")):
            raise ConfigError(f"expert_caption_url must be an http(s) address, got {self.caption_url!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertMedium:
    """One medium for an expert, as it was sent and, when asked, decoded to as many pixels as the expert reads.

    `encode` returns what the request's own encoder makes of it, which is made once.
    """

    blob: MediaBlob
    tenant: str
    decode: Callable[[], Awaitable[DecodedMedia]]
    encode: Callable[[], Awaitable[MediumEncoding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an expert has to say, empty for nothing, and the objects it speaks of where it knows their places.

    `attributes` are what it knows of colours and setting, for those who word it to fit a question.
    """

    text: str
    objects: tuple[FoundObject, ...] = ()
    attributes: Attributes | None = None


Describe = Callable[[ExpertMedium], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertContext:
    """What a factory may use: the served model, its own way to describe a medium, and the operator's options."""

    bundle: ModelBundle
    options: ExpertOptions
    describe: Describe


class Expert(Protocol):
    """Read media of some modalities.

    `expert_id` changes with whatever changes the text: it is part of the memo's key. `heading` introduces the text in
    the prompt; `{medium}` in it becomes "the picture" or what else was read. `instruction` may follow the question.
    `reads_details`: of pictures it gets the pixels that small print needs, not the fewer that encoders get.
    """

    expert_id: str
    modalities: frozenset[Modality]
    heading: str
    instruction: str
    reads_details: bool

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return what the expert has to say. Cancelling the call ends the work soon."""
        ...

    async def stop(self) -> None: ...


ExpertFactory = Callable[[ExpertContext], Expert]
"""Build an expert cheaply, weights come with the first medium. Raises `ConfigError` that says what is not installed."""

EXPERTS: Registry[ExpertFactory] = Registry(
    "expert",
    {
        "ocr": "engine.experts.ocr:build_ocr",
        "transcribe": "engine.experts.transcribe:build_transcribe",
        "classify": "engine.experts.classify:build_classify",
        "detect": "engine.experts.detect:build_detect",
        "caption": "engine.experts.caption:build_caption",
        "attributes": "engine.experts.attributes:build_attributes",
    },
)
