"""What a load test sends: chats of mixed kinds, each with media of its own, at times that a seed decides."""

from __future__ import annotations

import base64
import io
import itertools
import math
import random
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.errors import InvalidRequest

KINDS = ("text", "image", "audio", "video", "point_cloud")
PROMPTS = {
    "text": "Tell me something about the sea.",
    "image": "What is in this picture?",
    "audio": "What do you hear?",
    "video": "What happens in this film?",
    "point_cloud": "What shape is this?",
}
PICTURE_SIDE_PX, NUM_FRAMES, SOUND_S, SOUND_HZ, NUM_POINTS = 256, 4, 2.0, 16_000, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPlan:
    """Which chats, how many, and when.

    `mix` are shares by kind, not all 0. `rate_per_s` is the mean of a Poisson process; None sends the next request as
    soon as `max_in_flight` allows. `files` by kind take the place of made-up media, in turn.
    """

    mix: Mapping[str, float]
    num_requests: int = 100
    rate_per_s: float | None = None
    max_in_flight: int = 8
    max_tokens: int = 64
    prompt: str | None = None
    repeats_media: bool = False
    seed: int = 0
    files: Mapping[str, Sequence[Path] | None] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def kinds(self) -> list[str]:
        """Return the kind of each request, in order."""
        names = [name for name, share in self.mix.items() if share > 0]
        return random.Random(self.seed).choices(names, [self.mix[name] for name in names], k=self.num_requests)

    def arrivals_s(self) -> list[float]:
        """Return when each request is sent, in seconds from the start; all 0 without a rate."""
        if self.rate_per_s is None:
            return [0.0] * self.num_requests
        chance = random.Random(self.seed + 1)
        return list(itertools.accumulate(chance.expovariate(self.rate_per_s) for _ in range(self.num_requests)))


def parse_mix(text: str) -> dict[str, float]:
    """Return `image=2,text=1` as shares by kind. Raises `InvalidRequest` for another form or kind."""
    mix: dict[str, float] = {}
    for piece in text.split(","):
        name, _, share = piece.strip().partition("=")
        try:
            value = float(share or 1)
        except ValueError:
            value = -1.0
        if name not in KINDS or not 0 <= value < math.inf or name in mix:
            raise InvalidRequest(f"--mix takes KIND=SHARE, each kind of {', '.join(KINDS)} once, got {piece!r}")
        mix[name] = value
    if not any(mix.values()):
        raise InvalidRequest("--mix needs a share above 0")
    return mix


class ChatMaker:
    """Make the bodies of a plan's requests."""

    def __init__(self, plan: TrafficPlan, model: str) -> None:
        """Read the files of the plan. Raises `InvalidRequest` for one that cannot be read."""
        self._plan = plan
        self._model = model
        self._files: dict[str, Iterator[bytes]] = {
            kind: itertools.cycle([_read(path) for path in paths]) for kind, paths in plan.files.items() if paths
        }

    def body(self, kind: str, number: int) -> dict[str, Any]:
        """Return the body of the request of that number; its made-up media differ from those of all others."""
        plan = self._plan
        content: list[dict[str, Any]] = [{"type": "text", "text": plan.prompt or PROMPTS[kind]}]
        if kind != "text":
            content.append(self._part(kind, plan.seed if plan.repeats_media else plan.seed + number))
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": content if kind != "text" else content[0]["text"]}],
            "max_tokens": plan.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **plan.fields,
        }

    def _part(self, kind: str, seed: int) -> dict[str, Any]:
        given = next(self._files[kind]) if kind in self._files else None
        rng = np.random.default_rng(seed)
        if kind == "audio":
            data = base64.b64encode(given or sound(rng)).decode()
            return {"type": "input_audio", "input_audio": {"data": data, "format": _audio_format(given)}}
        name = f"{kind}_url"
        match kind:
            case "image":
                url = _data_uri(given, "image/png") if given else _data_uri(picture(rng), "image/png")
            case "video":
                url = _data_uri(given, "video/mp4") if given else film_uri(rng)
            case _:
                url = _data_uri(given or cloud(rng), "application/octet-stream")
        return {"type": name, name: {"url": url}}


def picture(rng: np.random.Generator, container: str = "PNG") -> bytes:
    """Return a picture of coloured squares: it compresses as drawings do, and no two are alike."""
    squares = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(squares).resize((PICTURE_SIDE_PX, PICTURE_SIDE_PX), Image.Resampling.BICUBIC)
    image.save(file, container)
    return file.getvalue()


def film_uri(rng: np.random.Generator) -> str:
    """Return a film as its frames, the form that vLLM and this server read: no encoder of films is needed."""
    frames = [base64.b64encode(picture(rng, "JPEG")).decode() for _ in range(NUM_FRAMES)]
    return f"data:video/jpeg;base64,{','.join(frames)}"


def sound(rng: np.random.Generator) -> bytes:
    """Return a WAV of a few tones and a little noise."""
    times_s = np.arange(int(SOUND_S * SOUND_HZ)) / SOUND_HZ
    tones = np.sin(2 * np.pi * rng.uniform(100, 2000, size=(3, 1)) * times_s).mean(axis=0)  # (S,)
    samples = (20_000 * (tones + 0.05 * rng.standard_normal(len(times_s)))).clip(-32_768, 32_767)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SOUND_HZ)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def cloud(rng: np.random.Generator) -> bytes:
    """Return the points of a box in the XYZ format."""
    points = rng.uniform(-1, 1, size=(NUM_POINTS, 3))
    faces = rng.integers(0, 3, size=NUM_POINTS)
    points[np.arange(NUM_POINTS), faces] = np.sign(points[np.arange(NUM_POINTS), faces])
    points *= rng.uniform(0.3, 1, size=3)
    return "\n".join(" ".join(f"{value:.4f}" for value in row) for row in points).encode()


def _audio_format(content: bytes | None) -> str:
    heads = {b"RIFF": "wav", b"OggS": "ogg", b"fLaC": "flac"}
    return "wav" if content is None else heads.get(content[:4], "mp3")


def _data_uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}; give a file of that kind") from None
