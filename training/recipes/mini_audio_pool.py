"""Draw augmented two-second sounds, let YAMNet listen to each, and keep log-mels and targets for training.

    python -m training.recipes.mini_audio_pool DATA --sounds DIR --out DIR --samples N [--first I]

DATA holds `esc10_16k.zip`; `--sounds` is what `mini_audio_sources` wrote. Every sample follows from seed and
number, so several runs may share the work. Folds 1 to 4 of ESC-10 are drawn from; fold 5 is never read.

K names, S samples of a sound.
"""

from __future__ import annotations

import argparse
import io
import wave
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from core.types import AnyArray, FloatArray, Modality
from media.audio import decode_audio
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from models.mini.assets import yamnet_archive
from models.mini.audio import TOWER_WINDOWS, tower_input
from models.mini.yamnet import YAMNET_WINDOWS, YamNet
from training.recipes import mini_audio_synth as synth

TRAIN_FOLDS = (1, 2, 3, 4)
NAMES_FILE = Path(__file__).with_name("mini_sound_names.txt")
ESC10 = {
    "dog_bark": "dog", "rain": "rain", "sea_waves": "sea waves", "baby_cry": "crying baby", "clock_tick": "clock tick",
    "person_sneeze": "sneezing", "helicopter": "helicopter", "chainsaw": "chainsaw", "rooster": "rooster",
    "fire_crackling": "crackling fire",
}  # fmt: skip
GENERIC = frozenset({  # parents in AudioSet's ontology: true of many sounds, the name of none
    "animal", "pet animal", "farm animal", "wild animal", "vehicle", "water", "liquid", "musical instrument", "music",
    "machine", "tools", "wood", "crying", "insect", "wind instrument", "brass instrument", "engine", "boat",
})  # fmt: skip
GENERIC_WEIGHT = 0.15
ESC_BELIEF, INSTRUMENT_BELIEF, SPEECH_BELIEF = 0.9, 0.8, 0.9
SHARE_OF_SOURCES = {"esc": 0.5, "sounds": 0.3, "synth": 0.2}
LOUD_SAMPLES = 3200


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound to draw from: what it is, how far that is to be believed, its ESC-10 fold (0 for the rest)."""

    samples: FloatArray
    name: str
    belief: float
    fold: int


def read_names() -> tuple[list[str], list[int]]:
    """Return the K names, and for each AudioSet class the position of its name or -1."""
    said: list[str | None] = [None] * 521
    for line in NAMES_FILE.read_text(encoding="utf-8").splitlines():
        span, name = line.split(" ", 1)
        first, _, last = span.partition("-")
        said[int(first) : int(last or first) + 1] = [name] * (int(last or first) - int(first) + 1)
    names = list(dict.fromkeys(name for name in said if name is not None))
    return names, [-1 if name is None else names.index(name) for name in said]


def read_esc10(archive: Path, folds: Sequence[int]) -> list[Clip]:
    """Return the clips of some folds; the first digit of a file's name is its fold."""
    job = DecodeJob(container="ogg", modality=Modality.AUDIO, limits=MediaLimits(), options=DecodeOptions())
    clips = []
    with zipfile.ZipFile(archive) as stored:
        for file in sorted(name for name in stored.namelist() if name.endswith(".ogg")):
            folder, _, stem = file.rpartition("/")
            if (fold := int(stem[0])) in folds:
                samples = decode_audio(stored.read(file), job).array.mean(axis=0)
                clips.append(Clip(samples, ESC10[folder], ESC_BELIEF, fold))
    return clips


def read_sounds(folder: Path) -> list[Clip]:
    """Return the 16-bit WAV files under `NAME/` folders, at 16 kHz."""
    clips = []
    for path in sorted(folder.glob("*/*.wav")):
        with wave.open(io.BytesIO(path.read_bytes())) as stored:
            frames = np.frombuffer(stored.readframes(stored.getnframes()), dtype="<i2").astype(np.float32) / 32768
            samples = frames.reshape(-1, stored.getnchannels()).mean(axis=1)
            samples = synth.respeed(samples, stored.getframerate() / synth.RATE_HZ)
        name = path.parent.name
        belief = SPEECH_BELIEF if name in ("speech", "whispering") else INSTRUMENT_BELIEF
        if samples.size > LOUD_SAMPLES and np.abs(samples).max() > 0.01:
            clips.append(Clip(samples, name, belief, 0))
    return clips


class SoundDrawer:
    """Draw one augmented sound with the names it should get `(K,)` as far as its sources tell."""

    def __init__(self, clips: Sequence[Clip], names: Sequence[str]) -> None:
        self._position = {name: i for i, name in enumerate(names)}
        self._groups: dict[str, dict[str, list[Clip]]] = {"esc": {}, "sounds": {}}
        for clip in clips:
            group = self._groups["esc" if clip.fold else "sounds"]
            group.setdefault(clip.name, []).append(clip)

    def draw(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, int]:
        """Return `(S,)`, the believed names `(K,)` (they sum to at most 1) and the largest fold that was used."""
        samples, target, fold = self._one(rng)
        if rng.random() < 0.3:
            other, other_target, other_fold = self._one(rng)
            gain = 10 ** (-rng.uniform(0, 20) / 20)
            share = 1 / (1 + gain)
            samples, fold = samples + gain * other, max(fold, other_fold)
            target = share * target + (1 - share) * other_target
        return self._record(rng, samples), target, fold

    def _one(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, int]:
        kind = str(rng.choice(list(SHARE_OF_SOURCES), p=list(SHARE_OF_SOURCES.values())))
        target = np.zeros(len(self._position), np.float32)
        if kind == "synth":
            name = str(rng.choice(list(synth.MAKERS)))
            maker, belief = synth.MAKERS[name]
            target[self._position[name]] = belief
            return synth.unit(maker(rng)), target, 0
        group = self._groups[kind]
        of_name = group[str(rng.choice(list(group)))]
        clip = of_name[rng.integers(len(of_name))]
        target[self._position[clip.name]] = clip.belief
        piece = _loud_piece(rng, clip.samples)
        if rng.random() < 0.5:
            piece = synth.respeed(piece, rng.uniform(0.85, 1.18))
        if rng.random() < 0.15:
            piece = piece[: rng.integers(LOUD_SAMPLES, synth.NUM_SAMPLES)]
        piece = np.pad(piece[: synth.NUM_SAMPLES], (0, max(0, synth.NUM_SAMPLES - piece.size)))
        return synth.unit(piece), target, clip.fold

    def _record(self, rng: np.random.Generator, samples: AnyArray) -> FloatArray:
        """Imitate rooms, microphones and channels, then shift and scale."""
        if rng.random() < 0.25:
            samples = synth.reverberate(rng, samples)
        if rng.random() < 0.4:
            samples = synth.shelve(rng, samples)
        if rng.random() < 0.25:
            samples = synth.band_limit(rng, samples)
        if rng.random() < 0.4:
            noise = synth.coloured_noise(rng, rng.uniform(0, 2))
            samples = synth.unit(samples) + 10 ** (-rng.uniform(8, 40) / 20) * noise
        if rng.random() < 0.1:
            samples = synth.clip_peaks(rng, samples)
        samples = np.roll(samples, rng.integers(samples.size)) if rng.random() < 0.2 else samples
        return (synth.unit(samples) * 0.1 * 10 ** (-rng.uniform(-3, 8) / 20)).astype(np.float32)


def _loud_piece(rng: np.random.Generator, samples: FloatArray) -> FloatArray:
    """Return about two seconds around a point drawn in proportion to loudness."""
    blocks = samples[: samples.size // 800 * 800].reshape(-1, 800)
    loudness = np.sqrt(np.mean(np.square(blocks), axis=1)) + 1e-6
    centre = 800 * rng.choice(len(blocks), p=loudness / loudness.sum())
    length = int(synth.NUM_SAMPLES * 1.2)
    start = int(np.clip(centre - rng.uniform(0, length), 0, max(0, samples.size - length)))
    return samples[start : start + length]


def name_weights(names: Sequence[str]) -> Tensor:
    """Return how far each name's score counts `(K,)`: generic ones little, silence not at all, it is the level's."""
    return torch.tensor([GENERIC_WEIGHT if name in GENERIC else float(name != "silence") for name in names])


def teach(teacher: YamNet, samples: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return YAMNet's logits `(521,)` and features `(1024,)` of two seconds, patches weighted by loudness."""
    length = YAMNET_WINDOWS.num_samples
    starts = (0, (samples.size - length) // 2, samples.size - length)
    patches = np.stack([samples[start : start + length] for start in starts])
    logits, features = teacher(torch.from_numpy(patches))
    weights = np.sqrt(np.mean(np.square(patches), axis=1)) + 1e-6
    weights /= weights.sum()
    return weights @ logits, weights @ features


def fill_pool(drawer: SoundDrawer, teacher: YamNet, numbers: range, seed: int) -> Mapping[str, Tensor]:
    """Return inputs, believed names, teacher's logits and features, and folds of the numbered samples."""
    rows: dict[str, list[Tensor]] = {key: [] for key in ("mel", "target", "logits", "features", "fold")}
    for number in tqdm(numbers, desc="sounds", unit="sound"):
        samples, target, fold = drawer.draw(np.random.default_rng([seed, number]))
        logits, features = teach(teacher, samples)
        rows["mel"].append(tower_input(torch.from_numpy(samples)[None])[0].half())
        rows["target"].append(torch.from_numpy(target).half())
        rows["logits"].append(torch.from_numpy(logits).half())
        rows["features"].append(torch.from_numpy(features).half())
        rows["fold"].append(torch.tensor(fold, dtype=torch.uint8))
    return {key: torch.stack(values) for key, values in rows.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sounds", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=8000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first sample")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if TOWER_WINDOWS.num_samples != synth.NUM_SAMPLES:
        raise SystemExit("the pool's sounds must be as long as the tower's windows")
    names, _ = read_names()
    clips = read_esc10(arguments.data / "esc10_16k.zip", TRAIN_FOLDS) + read_sounds(arguments.sounds)
    numbers = range(arguments.first, arguments.first + arguments.samples)
    pool = fill_pool(SoundDrawer(clips, names), YamNet(yamnet_archive()), numbers, arguments.seed)
    save_file(dict(pool), arguments.out / f"pool-{arguments.first:06d}.safetensors")


if __name__ == "__main__":
    main()
