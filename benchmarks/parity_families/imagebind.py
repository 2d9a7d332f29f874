"""Parity of ImageBind and its preprocessing with the golden fixtures."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity_families import Output
from models.imagebind.audio import LogMelSpec, audio_clips, clip_spans, log_mel, resample
from models.imagebind.checkpoint import load_imagebind
from models.imagebind.config import ImageBindConfig, TowerSize
from models.imagebind.model import ImageBind
from models.imagebind.text import ClipTokenizer, read_merges
from models.imagebind.vision import frame_indices, image_tensor, resized_and_cropped, spatial_crops, video_clips

Row = tuple[str, Tensor, Tensor, float]  # name, produced, expected, largest allowed difference
EMBEDDING_TOLERANCE, LOG_MEL_TOLERANCE, EXACT = 1e-4, 2e-3, 0.0
MODALITIES = ("vision", "text", "audio", "depth", "thermal", "imu")


def outputs(fixture: Path) -> Iterator[Output]:
    """Yield every output of one fixture folder, produced and expected."""
    config = json.loads((fixture / "config.json").read_text())
    families: dict[str, Callable[[Path, dict[str, Any]], Iterator[Row]]] = {
        "imagebind": _model_outputs,
        "imagebind_preprocessing": _preprocessing_outputs,
    }
    for name, produced, expected, tolerance in families[config["fixture"]](fixture, config):
        yield name, produced.numpy(), expected.numpy(), tolerance


def fixture_config(config: dict[str, Any]) -> ImageBindConfig:
    """Return the dimensions a fixture's `config.json` states."""
    sizes = config["hyperparameters"]
    towers: dict[str, Any] = {
        name: TowerSize(*(sizes[f"{name}_{part}"] for part in ("embed_dim", "num_blocks", "num_heads")))
        for name in MODALITIES
    }
    fixed = ImageBindConfig(
        embedding_width=sizes["out_embed_dim"],
        image_size=config["image_size_patched_from_224"],
        video_frames=sizes["video_frames"],
        vision_kernel=tuple(sizes["kernel_size"]),
        audio_kernel=sizes["audio_kernel_size"],
        audio_stride=sizes["audio_stride"],
        num_mel_bins=sizes["audio_num_mel_bins"],
        num_mel_frames=sizes["audio_target_len"],
        depth_kernel=sizes["depth_kernel_size"],
        thermal_kernel=sizes["thermal_kernel_size"],
        vocab_size=config["text_vocab_patched_from_49408"],
        context=config["text_context_length"],
    )
    return replace(fixed, **towers)


@torch.inference_mode()
def _model_outputs(fixture: Path, config: dict[str, Any]) -> Iterator[Row]:
    model = load_imagebind(fixture / "weights.safetensors", config=fixture_config(config))
    inputs = load_file(fixture / "inputs.safetensors")
    expected = load_file(fixture / "outputs.safetensors")
    produced: dict[str, Tensor] = {}
    for case, x in inputs.items():
        tower = case.split("_")[0]
        with _stages(model, tower) as stages:
            stages["embedding"] = model.embed(tower, x)
        produced |= {f"{case}.{stage}": value for stage, value in stages.items()}
    joint = {"vision": "vision_image", "text": "text", "audio": "audio_clips"}
    rows = {name: expected[f"joint.{name}"].shape[0] for name in joint}
    together = model({name: inputs[case][: rows[name]] for name, case in joint.items()})
    produced |= {f"joint.{name}": value for name, value in together.items()}
    for name, value in expected.items():
        kept = produced[name][tuple(slice(n) for n in value.shape)]  # long sequences are stored cut
        yield name, kept, value, EMBEDDING_TOLERANCE * max(1.0, value.abs().max().item())


@contextmanager
def _stages(model: ImageBind, tower: str) -> Iterator[dict[str, Tensor]]:
    """Collect what each stage of one tower returns, under the fixture's names."""
    stages: dict[str, Tensor] = {}

    def keep(name: str, *, sequence_first: bool = False) -> Callable[[object, object, Tensor], None]:
        def hook(module: object, args: object, out: Tensor) -> None:
            stages[name] = out.transpose(0, 1) if sequence_first else out

        return hook

    modules = [
        (model.modality_preprocessors[tower], keep("tokens_in")),
        (model.modality_heads[tower], keep("head_out")),
        (model.modality_postprocessors[tower], keep("post_out_per_clip")),
    ]
    for i, block in enumerate(model.modality_trunks[tower].get_submodule("blocks").children()):
        modules.append((block, keep(f"block{i}_out_LBD", sequence_first=True)))
    handles = [module.register_forward_hook(hook) for module, hook in modules]
    try:
        yield stages
    finally:
        for handle in handles:
            handle.remove()


def _preprocessing_outputs(fixture: Path, config: dict[str, Any]) -> Iterator[Row]:
    yield from _images(fixture, config)
    yield from _audio(fixture, config)
    yield from _text(fixture)
    yield from _video(fixture, config)
    yield from _time_points(fixture)


def _images(fixture: Path, config: dict[str, Any]) -> Iterator[Row]:
    expected = load_file(fixture / "outputs_images.safetensors")
    for name in config["images"]["files"]:
        pixels = np.array(Image.open(fixture / "inputs" / name).convert("RGB"))
        kept = expected[f"image_u8.{name}"]  # (3, size, size)
        size = kept.shape[-1]
        yield f"image_u8.{name}", torch.tensor(resized_and_cropped(pixels, size)).movedim(-1, 0), kept, EXACT
        rows = expected[f"image_norm_rows.{name}"]
        produced = image_tensor(pixels, size)[:, :: size // rows.shape[1]]
        yield f"image_norm_rows.{name}", produced, rows, EMBEDDING_TOLERANCE


def read_wav(path: Path) -> tuple[Tensor, int]:
    """Return a 16-bit WAV file as `(C, S)` float32 in [-1, 1] and its rate in Hz."""
    with wave.open(str(path)) as wav:
        samples = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2").reshape(-1, wav.getnchannels())
        return torch.tensor(samples.T / np.float32(32768)), wav.getframerate()


def _audio(fixture: Path, config: dict[str, Any]) -> Iterator[Row]:
    expected = load_file(fixture / "outputs_audio.safetensors")
    for key, value in expected.items():
        kind, name = key.split(".", 1)
        waveform, rate = read_wav(fixture / "inputs" / name)
        if kind == "melspec":
            num_clips, _, num_bins, num_frames = value.shape
            spec = LogMelSpec(num_clips=num_clips, num_mel_bins=num_bins, num_frames=num_frames, shared_clips=True)
            yield key, audio_clips(waveform, rate, spec), value, LOG_MEL_TOLERANCE
            continue
        resampled = resample(waveform, rate, 16000)
        if kind == "fbank_raw_first_clip":
            clip = resampled[:, : 2 * 16000]
            spec = LogMelSpec(num_mel_bins=value.shape[1])
            yield key, log_mel((clip - clip.mean())[0], spec), value, LOG_MEL_TOLERANCE
        else:
            count = value.shape[1]
            part = resampled[:, :count] if kind.startswith("resampled_first") else resampled[:, -count:]
            yield key, part, value, EMBEDDING_TOLERANCE
    for name, facts in config["audio"]["files"].items():
        waveform, rate = read_wav(fixture / "inputs" / name)
        num_samples = resample(waveform, rate, 16000).shape[1]
        spans = clip_spans(Fraction(num_samples, 16000), len(facts["clip_sample_ranges"]), 2)
        ranges = [[int(start * 16000), int(end * 16000)] for start, end in spans]
        yield f"clip_sample_ranges.{name}", torch.tensor(ranges), torch.tensor(facts["clip_sample_ranges"]), EXACT


def _text(fixture: Path) -> Iterator[Row]:
    expected = load_file(fixture / "outputs_text.safetensors")
    texts = json.loads((fixture / "text.json").read_text())["texts"]
    tokenize = ClipTokenizer(read_merges(), context=expected["tokens"].shape[1])
    yield "tokens", tokenize(texts), expected["tokens"], EXACT
    yield "tokens_imagebind_llm", tokenize(texts, keep_end=False), expected["tokens_imagebind_llm"], EXACT


def _video(fixture: Path, config: dict[str, Any]) -> Iterator[Row]:
    facts = config["video"]
    frames = load_file(fixture / "inputs_video.safetensors")["frames_THWC_u8"].numpy()
    expected = load_file(fixture / "outputs_video.safetensors")["video"]
    size = facts["crop_size_patched_from_224"]
    produced = video_clips(frames, facts["fps"], size, num_sampled=expected.shape[2])
    yield "video", produced, expected, EMBEDDING_TOLERANCE
    for name, crop in facts["spatial_crop_offsets"].items():
        offsets = torch.tensor(spatial_crops(crop["h"], crop["w"], size))
        yield f"spatial_crop_offsets.{name}", offsets, torch.tensor(crop["offsets_yx"]), EXACT
    for count, indices in facts["uniform_temporal_subsample_2"].items():
        first_clip = frame_indices(int(count), int(count) / 2)[0]  # one clip of 2 s covers every frame
        yield f"uniform_temporal_subsample_2.{count}", torch.tensor(first_clip), torch.tensor(indices), EXACT


def _time_points(fixture: Path) -> Iterator[Row]:
    for i, row in enumerate(json.loads((fixture / "clip_timepoints.json").read_text())):
        spans = clip_spans(Fraction(row["duration"]), row["clips_per_video"], row["clip_duration"])
        seconds = torch.tensor([[float(start), float(end)] for start, end in spans], dtype=torch.float64)
        yield f"clip_timepoints.{i}", seconds, torch.tensor(row["clips"], dtype=torch.float64), 1e-12
        ranges = torch.tensor([[int(start * 16000), int(end * 16000)] for start, end in spans])
        if "sample_ranges_16k" in row:
            yield f"clip_sample_ranges.{i}", ranges, torch.tensor(row["sample_ranges_16k"]), EXACT
