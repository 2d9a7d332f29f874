"""Pictures drawn rather than photographed: Fluent emoji (MIT) on other grounds, turned, tinted and moved.

The frozen network was trained on photographs and knows few drawings; from these the head learns what an emoji or a
clean product picture of an everyday thing looks like.
"""

from __future__ import annotations

import random
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from torch import Tensor, nn
from tqdm import tqdm

from models.mini.encoder import THUMBNAIL_SIZE, FeatureNetwork, preprocess_image

VIEWS = 6  # of each emoji; the first is as it comes
BATCH = 256
DRAWING_STEPS = 400
EMOJI_SIDE = 112  # pixels of the files
WHITE = (255, 255, 255)
CLEAR = (1, 254, 3)  # a colour that no emoji has, to find the ground by


def read_emoji(archive: Path, spoken: Mapping[str, str]) -> list[tuple[str, Image.Image]]:
    """Return (spoken name, picture on a transparent ground) of each emoji that has a spoken name."""
    with zipfile.ZipFile(archive) as stored:
        return [(name, cut_out(Image.open(BytesIO(stored.read(f"{code}.webp"))))) for code, name in spoken.items()]


def cut_out(picture: Image.Image) -> Image.Image:
    """Return the picture with the white ground around it made transparent, `RGBA`."""
    flooded = picture.convert("RGB")
    width, height = flooded.size
    for corner in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        ImageDraw.floodfill(flooded, corner, CLEAR, thresh=24)
    ground = (np.asarray(flooded) == np.array(CLEAR)).all(axis=2)
    alpha = Image.fromarray(np.where(ground, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
    cut = picture.convert("RGB")
    cut.putalpha(alpha)
    return cut


def draw_view(emoji: Image.Image, rng: random.Random) -> Image.Image:
    """Return the emoji turned, tinted and moved on a plain or blotched ground, `RGB` 224 x 224."""
    view = emoji.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else emoji
    view = view.rotate(rng.uniform(-15, 15), resample=Image.Resampling.BICUBIC, expand=True)
    side = round(224 * rng.uniform(0.55, 1.0))
    view = view.resize((side, side), Image.Resampling.BICUBIC)
    alpha = view.getchannel("A")
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast):
        view = enhance(view.convert("RGB")).enhance(rng.uniform(0.7, 1.25))
    ground = _ground(rng)
    place = tuple(rng.randint(min(0, 224 - side), max(0, 224 - side)) for _ in range(2))
    ground.paste(view, (place[0], place[1]), alpha)
    return ground.filter(ImageFilter.GaussianBlur(rng.choice((0.0, 0.0, 0.8))))


def _ground(rng: random.Random) -> Image.Image:
    style = rng.random()
    if style < 0.3:
        return Image.new("RGB", (224, 224), WHITE)
    colours = [tuple(rng.randint(20, 255) for _ in range(3)) for _ in range(16)]
    if style < 0.7:
        return Image.new("RGB", (224, 224), colours[0])
    blotches = Image.fromarray(np.array(colours, dtype=np.uint8).reshape(4, 4, 3))
    return blotches.resize((224, 224), Image.Resampling.BICUBIC)


@torch.inference_mode()
def emoji_features(archive: Path, spoken: Mapping[str, str], network: FeatureNetwork, seed: int, size: int) -> Tensor:
    """Return the features `(num emoji x VIEWS, F)` of every view at an input size, those of one emoji together.

    Views for the size of thumbnails are made as small as those are.
    """
    rng = random.Random(f"{seed}-emoji")
    rows = []
    for _, emoji in tqdm(read_emoji(archive, spoken), desc="emoji"):
        plain = Image.new("RGB", emoji.size, WHITE)
        plain.paste(emoji, (0, 0), emoji.getchannel("A"))
        views = [plain, *(draw_view(emoji, rng) for _ in range(VIEWS - 1))]
        if size == THUMBNAIL_SIZE:
            views = [view.resize((EMOJI_SIDE, EMOJI_SIDE), Image.Resampling.BICUBIC) for view in views]
        rows.append(network([preprocess_image(np.asarray(view), size) for view in views]))
    return torch.cat(rows).clone()


def drawn_names(spoken: Mapping[str, str]) -> list[str]:
    """Return the names that the drawings teach, each once."""
    return list(dict.fromkeys(spoken.values()))


def train_drawings(
    features: Tensor, spoken: Mapping[str, str], photographs: Tensor, seed: int, *, num_steps: int = DRAWING_STEPS
) -> nn.Linear:
    """Learn what is drawn, `(1 + names, F)`: the first row tells drawings from photographs, the others name them.

    Takes the features of every view `(num emoji x VIEWS, F)` and of photographs `(N, F)`, real and simulated.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    names = drawn_names(spoken)
    targets = torch.tensor([names.index(name) for name in spoken.values()]).repeat_interleave(VIEWS)
    layer = nn.Linear(features.shape[1], 1 + len(names))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    is_drawing = torch.cat((torch.ones(BATCH), torch.zeros(BATCH)))
    for _ in tqdm(range(num_steps), desc="drawings", unit="step"):
        rows = torch.randint(len(features), (BATCH,), generator=generator)
        others = torch.randint(len(photographs), (BATCH,), generator=generator)
        logits = layer(F.dropout(torch.cat((features[rows], photographs[others])), 0.2))
        named = F.cross_entropy(logits[:BATCH, 1:], targets[rows], label_smoothing=0.05)
        loss = named + F.binary_cross_entropy_with_logits(logits[:, 0], is_drawing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return layer.requires_grad_(False)
