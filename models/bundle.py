"""Everything one served model is made of, and the table of models that need no folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.types import Adapter, Modality, ModalityEncoder, Tokenizer
from models.llama.model import Llama


@dataclass(frozen=True, kw_only=True)
class ModelBundle:
    """One loaded model: decoder, tokenizer, adapter, encoders, and what `doctor` prints about its files.

    `conditioned_tokenizer` renders the prompts of requests with media, for an adapter trained without the template's
    default system turn; None renders them as every other prompt. `sources` maps a file's name to its sha256.
    """

    name: str
    decoder: Llama
    tokenizer: Tokenizer
    adapter: Adapter
    encoders: Mapping[Modality, ModalityEncoder]
    conditioned_tokenizer: Tokenizer | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
