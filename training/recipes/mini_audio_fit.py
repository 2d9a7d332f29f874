"""Fit what turns windows into an answer, and write `audio.safetensors`.

    python -m training.recipes.mini_audio_fit DATA --pool DIR --tower DIR --validation DIR --out DIR [--folds 1 2 3]

Fits YAMNet's correction on the pool's sounds of `--folds`, then, for the tower and for YAMNet, how loudness weighs and
when to trust, on the clips of ESC-10's fold 4 (as they are, over a telephone, in noise, and one second of them) and on
the sounds that `mini_audio_sources --validation` wrote. `--tower` holds the `tower.safetensors` that validates,
`--ship` the one to ship if that is another. Prints the accuracies.

W windows, K names, F features.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from core.types import AnyArray, DecodedMedia
from models.checkpoints import load_strictly
from models.mini.assets import yamnet_archive
from models.mini.audio import NUM_NAMES_BLENDED, AudioTower, Hearing, Listener, TowerListener
from models.mini.audio_files import TOWER_PREFIX, YAMNET_PREFIX
from models.mini.space import blend_names
from models.mini.windows import SAMPLE_RATE_HZ, hear
from models.mini.yamnet import NUM_FEATURES, NameTables, YamNet, YamNetListener, bounded, corrected_names
from training.recipes import mini_audio_synth as synth
from training.recipes.mini_audio import read_shards
from training.recipes.mini_audio_pool import Clip, name_weights, read_esc10, read_names, read_sounds
from training.recipes.mini_pictures import embed_texts

VALIDATION_FOLD = 4
LOUDNESS_POWERS = (0.0, 0.5, 1.0, 2.0)
CORRECTION_STEPS, CORRECTION_DECAY = 120, 3e-4
ALSO_RIGHT = {"rooster": ("chicken",), "crying baby": ("crying",), "bell": ("ding", "church bell")}


@dataclass(frozen=True, slots=True)
class Heard:
    """One validation sound: its windows' probabilities `(W, K)` and loudness `(W,)`, and the names that are right."""

    probabilities: Tensor
    rms: Tensor
    right: frozenset[int]


def fit_correction(pool: Path, folds: Sequence[int], names: Sequence[str], name_of_class: Sequence[int]) -> NameTables:
    """Return the tables with a linear correction fitted, by gradient descent, on the names that sources tell."""
    picked = read_shards(pool, folds)
    believed, logits, features = (picked[key].float() for key in ("target", "logits", "features"))
    taught = believed.sum(dim=0).nonzero()[:, 0]  # other names keep YAMNet's own score
    weight = torch.zeros(len(taught), NUM_FEATURES, requires_grad=True)
    bias = torch.zeros(len(taught), requires_grad=True)
    plain = NameTables(
        name_of_class=torch.tensor(name_of_class),
        name_weights=name_weights(names),
        correction=torch.zeros(len(names), NUM_FEATURES),
        correction_bias=torch.zeros(len(names)),
    )
    own = corrected_names(logits, features, plain)
    target = believed + (1 - believed.sum(dim=1, keepdim=True)) * own
    optimizer = torch.optim.Adam([weight, bias], lr=1e-2)
    for _ in tqdm(range(CORRECTION_STEPS), desc="correction"):
        corrected = own.log().index_add(1, taught, bounded(features @ weight.T + bias))
        loss = F.cross_entropy(corrected, target) + CORRECTION_DECAY * weight.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return NameTables(
        name_of_class=plain.name_of_class,
        name_weights=plain.name_weights,
        correction=plain.correction.index_copy(0, taught, weight.detach()),
        correction_bias=plain.correction_bias.index_copy(0, taught, bias.detach()),
    )


def variants(clip: Clip, rng: np.random.Generator) -> list[tuple[AnyArray, int]]:
    """Return a clip as it is, at 8 kHz over a telephone, in noise, and its loudest second, with their rates."""
    samples = clip.samples
    phone = synth.band_pass(samples, 300, 3400, order=4)[::2]
    noisy = samples + np.sqrt(np.mean(np.square(samples))) * 10 ** (-0.5) * synth.coloured_noise(rng, 1, samples.size)
    starts = range(0, max(1, samples.size - SAMPLE_RATE_HZ + 1), SAMPLE_RATE_HZ // 4)
    loudest = max(starts, key=lambda start: float(np.square(samples[start : start + SAMPLE_RATE_HZ]).sum()))
    second = samples[loudest : loudest + SAMPLE_RATE_HZ]
    return [(samples, SAMPLE_RATE_HZ), (phone, 8000), (noisy, SAMPLE_RATE_HZ), (second, SAMPLE_RATE_HZ)]


def listen(listener: Listener, clips: Sequence[Clip], names: Sequence[str], seed: int) -> list[Heard]:
    """Return what a listener makes of every variant of every clip."""
    rng, heard = np.random.default_rng(seed), []
    for clip in tqdm(clips, desc="validation", unit="clip"):
        right = frozenset(names.index(name) for name in (clip.name, *ALSO_RIGHT.get(clip.name, ())) if name in names)
        for samples, rate_hz in variants(clip, rng):
            array = np.asarray(samples, dtype=np.float32)[None]
            windows = hear(DecodedMedia(container="wav", array=array, sample_rate_hz=float(rate_hz)), listener.spec)
            with torch.inference_mode():
                heard.append(Heard(listener(windows.windows), windows.rms, right))
    return heard


def judged(heard: Sequence[Heard], vectors: Tensor, power: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best name's probability, the blend's raw confidence, and whether its nearest name is right."""
    pooled = torch.stack([((one.rms**power) / (one.rms**power).sum()) @ one.probabilities for one in heard])
    blended = blend_names(pooled, vectors, num_blended=NUM_NAMES_BLENDED)
    nearest = blended.nearest[:, 0].tolist()
    right = torch.tensor([float(name in one.right) for name, one in zip(nearest, heard, strict=True)])
    return pooled.amax(dim=1), blended.confidence, right


def fit_hearing(heard: Sequence[Heard], known: int, vectors: Tensor) -> tuple[Hearing, dict[str, float]]:
    """Choose the loudness power by accuracy on the first `known` sounds and fit the confidence on all of them.

    The known and the other sounds weigh the same in total: half of what people send will be something else.
    """
    accuracy = {power: float(judged(heard[:known], vectors, power)[2].mean()) for power in LOUDNESS_POWERS}
    power = max(accuracy, key=lambda p: accuracy[p])
    top, blended, right = judged(heard, vectors, power)
    inputs = torch.stack((top.logit(eps=1e-4), blended.logit(eps=1e-4), torch.ones_like(top)), dim=1)  # (n, 3)
    weights = torch.full_like(top, 0.5 / (len(heard) - known))
    weights[:known] = 0.5 / known
    slopes = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.LBFGS([slopes], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(inputs @ slopes, right, weights, reduction="sum")
        loss = loss + 1e-3 * slopes[:2].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    top_slope, blend_slope, bias = slopes.detach().tolist()
    hearing = Hearing(loudness_power=power, top_slope=top_slope, blend_slope=blend_slope, bias=bias)
    return hearing, _figures(hearing, top, blended, right, known)


def _figures(hearing: Hearing, top: Tensor, blended: Tensor, right: Tensor, known: int) -> dict[str, float]:
    trust = hearing.confidence(top, blended)
    sure = trust >= 0.5
    edges = torch.linspace(0, 1, 11)
    bins = [(trust > low) & (trust <= high) for low, high in pairwise(edges.tolist())]
    gaps = [float(b.float().mean() * (trust[b].mean() - right[b].mean()).abs()) for b in bins if b.any()]
    plain = slice(0, known, 4)
    return {
        "loudness_power": hearing.loudness_power,
        "right, clips as they are": float(right[plain].mean()),
        "right, all variants": float(right[:known].mean()),
        "right, other sounds": float(right[known:].mean()),
        "sure, clips": float(sure[:known].float().mean()),
        "sure, other sounds": float(sure[known:].float().mean()),
        "right when sure": float(right[sure].mean()),
        "calibration error": sum(gaps),
    }


def _report(kind: str, figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        print(f"{kind:<8} {name:<26} {value:6.3f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    for name in ("pool", "tower", "validation", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--ship", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="listen to each n-th clip alone")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    names, name_of_class = read_names()
    vectors = embed_texts(names)
    tables = fit_correction(arguments.pool, arguments.folds, names, name_of_class)
    state = load_file(arguments.tower / "tower.safetensors")
    tower = load_strictly(AudioTower(len(names)), state, str(arguments.tower))
    clips = read_esc10(arguments.data / "esc10_16k.zip", [VALIDATION_FOLD])[:: arguments.every]
    others = read_sounds(arguments.validation)
    listeners: dict[str, Listener] = {
        "tower": TowerListener(tower),
        "yamnet": YamNetListener(YamNet(yamnet_archive()), tables),
    }
    hearing = {}
    for kind, listener in listeners.items():
        heard = listen(listener, clips + others, names, arguments.seed)
        hearing[kind], figures = fit_hearing(heard, 4 * len(clips), vectors)
        _report(kind, figures)
    shipped = load_file((arguments.ship or arguments.tower) / "tower.safetensors")
    tensors = {f"{TOWER_PREFIX}{key}": value.half() for key, value in shipped.items() if value.is_floating_point()}
    tensors["names.vectors"] = vectors.half()
    tensors[f"{YAMNET_PREFIX}correction"] = tables.correction.half()
    tensors[f"{YAMNET_PREFIX}correction_bias"] = tables.correction_bias
    tensors[f"{YAMNET_PREFIX}name_weights"] = tables.name_weights
    metadata = {
        "names": json.dumps(names),
        "name_of_class": json.dumps(name_of_class),
        "hearing": json.dumps({kind: asdict(one) for kind, one in hearing.items()}),
    }
    save_file(
        {key: value.contiguous() for key, value in tensors.items()}, arguments.out / "audio.safetensors", metadata
    )


if __name__ == "__main__":
    main()
