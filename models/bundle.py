"""Everything one served model is made of, and the table of models that need no folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.types import Adapter, Condition, Modality, ModalityEncoder, Tokenizer
from models.llama.model import Llama
from models.mini.part_names import PartNames
from models.mini.relevance import MediaQuestions
from models.mini.verdicts import Verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """How strongly a model's own visual cache pulls; the defaults are those of ImageBind-LLM.

    `modalities` are those it refines without being asked; None: all of them.
    """

    top_k: int = 10
    inverse_temperature: float = 20.0
    blend: float = 0.5
    modalities: tuple[Modality, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelBundle:
    """One loaded model: decoder, tokenizer, adapter, encoders, and what `doctor` prints about its files.

    `conditioned_tokenizer` renders the prompts of requests with media, for an adapter trained without the template's
    default system turn; None renders them as every other prompt. `sources` maps a file's name to its sha256.
    `takes_image_tokens`: the adapter's vector is one image's tokens, not to be blended or normalised. `embedding_width`
    is that of the joint embedding the adapter takes, None when it takes none. `cache_index` is the model's own visual
    cache: an index folder, or an official FAISS file. `space_id` names the joint space where several encoders with ids
    of their own share one. `folder` is where a converted model was loaded from. `media_questions` tells which questions
    concern the media beside them; the others are answered by the base model alone. None takes every question for one
    about the media. `verdicts` judges yes-or-no questions about them, for an adapter that says what was judged; None
    leaves it to the decoder. `part_names` names the unlike parts of a blend, for an adapter that says one thing only;
    the prompt then tells them. None conditions on the blend. `attribute_condition` is that of replies to a prompt that
    tells a colour or setting: for a model that cannot see them, so that such questions call the expert `attributes`;
    None leaves them to the model. `conditions_context` False: an adapter that never saw an
    expert's text in training talks over it, so a prompt that holds such a text is answered by the base model alone.
    """

    name: str
    decoder: Llama
    tokenizer: Tokenizer
    adapter: Adapter
    encoders: Mapping[Modality, ModalityEncoder]
    conditioned_tokenizer: Tokenizer | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    takes_image_tokens: bool = False
    embedding_width: int | None = None
    cache_index: Path | None = None
    cache_options: CacheOptions = field(default_factory=CacheOptions)
    space_id: str = ""
    folder: Path | None = None
    media_questions: MediaQuestions | None = None
    verdicts: Verdicts | None = None
    part_names: PartNames | None = None
    attribute_condition: Condition = None
    conditions_context: bool = True

    @property
    def joint_space_id(self) -> str:
        """What an index of these embeddings is marked with, empty for a model that embeds nothing."""
        encoders = sorted(self.encoders.items(), key=lambda pair: pair[0] is not Modality.IMAGE)
        return self.space_id or (encoders[0][1].encoder_id if encoders else "")
