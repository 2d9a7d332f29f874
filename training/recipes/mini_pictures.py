"""The joint space of `mini`: name embeddings, picture features, and the head that learns new names.

K names, F features, E embedding. Photographs are split by file number: multiples of 5 test, ending in 1 validate.
"""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from models.mini.assets import text_network_file
from models.mini.encoder import FeatureNetwork, preprocess_image
from models.mini.text import MiniTextEncoder

NAMES_FILE = Path(__file__).with_name("mini_names.json")
NUM_UNSEEN_CLASSES = 21
SPOKEN = {
    "Faces": "human face", "Faces_easy": "human face", "Leopards": "leopard", "Motorbikes": "motorbike",
    "airplanes": "airplane", "binocular": "binoculars", "car_side": "car", "cougar_body": "cougar",
    "cougar_face": "cougar", "crocodile_head": "crocodile", "flamingo_head": "flamingo", "sea_horse": "seahorse",
    "water_lilly": "water lily", "yin_yang": "yin yang symbol", "garfield": "Garfield the cartoon cat",
    "snoopy": "Snoopy the cartoon dog", "buddha": "Buddha statue", "cellphone": "cell phone", "brain": "human brain",
    "hawksbill": "hawksbill turtle", "bass": "bass fish", "lotus": "lotus flower", "joshua_tree": "Joshua tree",
    "stegosaurus": "stegosaurus dinosaur", "brontosaurus": "brontosaurus dinosaur",
}  # fmt: skip
KINDS = {  # class -> (everyday kind, groups) for names that ImageNet's vocabulary does not place
    "airplanes": ("aircraft", ("vehicle",)), "Motorbikes": ("motorcycle", ("vehicle",)), "bass": ("fish", ("animal",)),
    "bonsai": ("tree", ("plant",)), "brontosaurus": ("dinosaur", ("animal",)), "stegosaurus": ("dinosaur", ("animal",)),
    "chandelier": ("lamp", ()), "dolphin": ("sea animal", ("animal",)), "emu": ("bird", ("animal",)),
    "euphonium": ("musical instrument", ("musical instrument",)), "ferry": ("boat", ("vehicle",)),
    "gerenuk": ("antelope", ("animal",)), "gramophone": ("device", ()), "hawksbill": ("turtle", ("animal",)),
    "helicopter": ("aircraft", ("vehicle",)), "ibis": ("bird", ("animal",)), "joshua_tree": ("tree", ("plant",)),
    "ketch": ("boat", ("vehicle",)), "lotus": ("flower", ("plant",)), "mayfly": ("insect", ("animal",)),
    "mandolin": ("musical instrument", ("musical instrument",)), "minaret": ("building", ("building",)),
    "octopus": ("sea animal", ("animal",)), "okapi": ("hoofed animal", ("animal",)),
    "pagoda": ("building", ("building",)),
    "pigeon": ("bird", ("animal",)), "rhino": ("hoofed animal", ("animal",)), "scissors": ("tool", ("tool",)),
    "sea_horse": ("fish", ("animal",)), "stapler": ("tool", ("tool",)), "sunflower": ("flower", ("plant",)),
    "water_lilly": ("flower", ("plant",)), "wheelchair": ("vehicle", ("vehicle",)), "wild_cat": ("cat", ("animal",)),
    "windsor_chair": ("chair", ("piece of furniture",)), "wrench": ("tool", ("tool",)),
    "butterfly": ("insect", ("animal",)),
    "crab": ("sea animal", ("animal",)), "elephant": ("mammal", ("animal",)), "kangaroo": ("mammal", ("animal",)),
    "cougar_body": ("big cat", ("animal",)), "cougar_face": ("big cat", ("animal",)), "panda": ("bear", ("animal",)),
    "crocodile": ("reptile", ("animal",)), "crocodile_head": ("reptile", ("animal",)),
    "inline_skate": ("piece of footwear", ("piece of clothing",)),
    "chair": ("piece of furniture", ("piece of furniture",)),
    "pyramid": ("structure", ("building",)), "Faces": ("person", ("person",)),
    "Faces_easy": ("person", ("person",)), "car_side": ("car", ("vehicle",)), "lobster": ("sea animal", ("animal",)),
}  # fmt: skip


OTHER_NAMES = {
    "Faces": ["face", "person"], "Faces_easy": ["face", "person"],
    "Motorbikes": ["motorcycle", "moped", "motor scooter"],
    "airplanes": ["plane", "airliner", "aircraft"], "car_side": ["car", "automobile"],
    "cougar_body": ["cougar", "puma"],
    "cougar_face": ["cougar", "puma"], "crocodile_head": ["crocodile"], "flamingo_head": ["flamingo"],
    "water_lilly": ["water lily"], "rhino": ["rhinoceros"], "cup": ["mug"], "cellphone": ["cell phone", "mobile phone"],
    "watch": ["stopwatch", "digital watch", "wristwatch"], "garfield": ["Garfield"], "sea_horse": ["seahorse"],
    "soccer_ball": ["football"], "wild_cat": ["wildcat"], "stop_sign": ["street sign"], "panda": ["giant panda"],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Name:
    """One thing that can be named."""

    text: str
    kind: str
    groups: tuple[str, ...]
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Photographs:
    """The labelled pictures as features `(N, F)`, with the class and file number of each."""

    features: Tensor
    classes: tuple[str, ...]
    numbers: tuple[int, ...]

    def rows(self, split: str, classes: Sequence[str]) -> Tensor:
        """Return the indices of one split (`train`, `validation`, `test`) of the given classes."""
        wanted = set(classes)
        kept = [i for i, name in enumerate(self.classes) if name in wanted and split_of(self.numbers[i]) == split]
        return torch.tensor(kept, dtype=torch.long)


def split_of(number: int) -> str:
    """Return the split of a file number."""
    if number % 5 == 0:
        return "test"
    return "validation" if number % 10 == 1 else "train"


def spoken(class_name: str) -> str:
    """Return a folder's name as people say it."""
    return SPOKEN.get(class_name, class_name.replace("_", " "))


def read_vocabulary(path: Path) -> tuple[list[Name], list[Name]]:
    """Return the 1000 ImageNet names in class order, and the other nouns, of `vocabulary.json`."""
    stored = json.loads(path.read_text(encoding="utf-8"))

    def names(entries: list[dict[str, Any]]) -> list[Name]:
        return [Name(e["name"], e["kind"], tuple(e["groups"]), tuple(e.get("synonyms", ()))) for e in entries]

    return names(stored["imagenet"]), names(stored["nouns"])


def read_other_names(path: Path) -> dict[str, list[Name]]:
    """Return the parts of `mini_names.json`: `everyday`, `sounds`, `shapes`, and names `corrected` in their kind."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    parts = ("everyday", "sounds", "shapes", "corrected")
    return {part: [Name(e["name"], e["kind"], tuple(e["groups"])) for e in stored[part]] for part in parts}


def read_spoken_emoji(path: Path, every: int = 1) -> dict[str, str]:
    """Return each n-th emoji of everyday things: code point -> what it is called, of `mini_names.json`."""
    return dict(list(json.loads(path.read_text(encoding="utf-8"))["emoji"].items())[::every])


def corrected(names: Sequence[Name], everyday: Sequence[Name]) -> list[Name]:
    """Return the names with kind and groups as the everyday list places them, where WordNet's first sense differs."""
    placed = {name.text.lower(): name for name in everyday}

    def correct(name: Name) -> Name:
        right = placed.get(name.text.lower())
        return name if right is None else replace(name, kind=right.kind, groups=right.groups)

    return [correct(name) for name in names]


def choose_unseen(classes: Sequence[str], imagenet: Sequence[Name], seed: int) -> list[str]:
    """Draw the classes that training never sees, among those whose spoken name ImageNet's words contain.

    A class that neither ImageNet nor the training photographs know has no way into the space and would only measure
    that; such classes are trained on instead.
    """
    words = {word.lower() for name in imagenet for word in (name.text, *name.synonyms)}
    words |= {word.split()[-1] for word in words}
    once = [name for name in classes if sum(spoken(other) == spoken(name) for other in classes) == 1]
    return sorted(
        random.Random(seed).sample([name for name in once if spoken(name).lower() in words], NUM_UNSEEN_CLASSES)
    )


def extra_names(classes: Sequence[str], imagenet: Sequence[Name]) -> list[Name]:
    """Return the names of the trained classes, each once, placed as ImageNet's vocabulary places them."""
    placed = {word.lower(): name for name in imagenet for word in (*name.synonyms, name.text)}
    names: dict[str, Name] = {}
    for class_name in classes:
        text = spoken(class_name)
        if class_name in KINDS:
            kind, groups = KINDS[class_name]
        else:
            known = placed.get(text.lower())
            kind, groups = (known.kind, known.groups) if known else ("object", ())
        names.setdefault(text, Name(text, kind, groups))
    return list(names.values())


def synonyms_of(class_name: str, imagenet: Iterable[Name]) -> list[str]:
    """Return the spoken name, the listed others, and the words of the ImageNet class of the same name."""
    names = [spoken(class_name), *OTHER_NAMES.get(class_name, ())]
    for name in imagenet:
        words = [word.lower() for word in (name.text, *name.synonyms)]
        if spoken(class_name).lower() in words:
            names += [name.text, *name.synonyms]
    return list(dict.fromkeys(names))


def embed_texts(texts: Sequence[str]) -> Tensor:
    """Return unit MiniLM embeddings `(n, 384)`, the joint space."""
    return MiniTextEncoder(text_network_file(), "training").embed(texts)


def read_photographs(archive: Path, network: FeatureNetwork, cache: Path, *, every: int = 1, size: int) -> Photographs:
    """Return the features of each n-th picture of a `class/image_NNNN` zip at an input size, kept in `cache`."""
    with zipfile.ZipFile(archive) as stored:
        files = sorted(name for name in stored.namelist() if name.endswith(".webp"))[::every]
        if cache.exists():
            features = torch.load(cache, weights_only=True)
        else:
            features = _extract(stored, files, network, size)
            torch.save(features, cache)
    numbers = tuple(int(re.findall(r"\d+", Path(name).stem)[-1]) for name in files)
    return Photographs(features, tuple(Path(name).parent.name for name in files), numbers)


@torch.inference_mode()
def _extract(stored: zipfile.ZipFile, files: Sequence[str], network: FeatureNetwork, size: int) -> Tensor:
    rows = []
    for start in tqdm(range(0, len(files), 32), desc="photographs", unit="batch"):
        images = [Image.open(BytesIO(stored.read(name))).convert("RGB") for name in files[start : start + 32]]
        rows.append(network([preprocess_image(np.asarray(image), size) for image in images]))
    return torch.cat(rows).clone()


class FeatureSimulator:
    """Make features that the frozen classifier takes for a given ImageNet class, more or less surely.

    A random photograph's features, half way to the mean, pushed along the class's weight row: a stand-in for the
    ImageNet photographs that are not here. The length of the push sets how sure the classifier is.
    """

    def __init__(self, features: Tensor, imagenet: tuple[Tensor, Tensor]) -> None:
        centred = imagenet[0] - imagenet[0].mean(dim=0)
        self._directions = centred / centred.norm(dim=1, keepdim=True)
        self._features, self._mean = features, features.mean(dim=0)

    def draw(self, classes: Tensor, push: Tensor, generator: torch.Generator) -> Tensor:
        """Return features `(n, F)` for `classes` `(n,)` with lengths `push` `(n,)`."""
        rows = torch.randint(len(self._features), (len(classes),), generator=generator)
        base = 0.5 * self._features[rows] + 0.5 * self._mean
        return torch.relu(base + push[:, None] * self._directions[classes])


def training_rows(photographs: Photographs, classes: Sequence[str], imagenet: Sequence[Name]) -> tuple[Tensor, Tensor]:
    """Return the features `(N, F)` of the training photographs of some classes, and which of their names each shows."""
    position = {name.text: i for i, name in enumerate(extra_names(classes, imagenet))}
    rows = photographs.rows("train", classes)
    targets = [position[spoken(photographs.classes[row])] for row in rows.tolist()]
    return photographs.features[rows], torch.tensor(targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPlan:
    """How many names a head learns, in how many steps, and what is added to their bias at the end."""

    num_names: int
    num_steps: int
    shift: float
    seed: int


def train_head(features: Tensor, targets: Tensor, imagenet: tuple[Tensor, Tensor], plan: HeadPlan) -> nn.Linear:
    """Learn logits for new names beside ImageNet's frozen ones, from features `(N, F)`.

    Cross-entropy over both sets together, on photographs (targets index the new names) and, so that the new names do
    not swallow the old ones, on simulated features of ImageNet classes.
    """
    torch.manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    weight, bias = imagenet
    simulator = FeatureSimulator(features, imagenet)
    counts = torch.bincount(targets, minlength=plan.num_names).clamp(min=1).float()
    balance = counts.rsqrt()[targets]
    balance = balance / balance.mean()
    head = nn.Linear(features.shape[1], len(counts))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.num_steps)
    classes = torch.arange(len(bias))
    for _ in tqdm(range(plan.num_steps), desc="head", unit="step"):
        batch = torch.randint(len(features), (512,), generator=generator)
        simulated = simulator.draw(classes, 3.5 + 7.0 * torch.rand(len(classes), generator=generator), generator)
        x = torch.cat((features[batch], simulated))
        logits = torch.cat((x @ weight.T + bias, head(x)), dim=-1)
        on_photographs = F.cross_entropy(logits[:512], len(bias) + targets[batch], reduction="none") * balance[batch]
        loss = on_photographs.mean() + F.cross_entropy(logits[512:], classes)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        head.bias.add_(plan.shift)
    return head
