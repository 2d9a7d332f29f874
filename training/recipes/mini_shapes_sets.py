"""Write test objects for `benchmarks.shapes`.

    python -m training.recipes.mini_shapes_sets --out DIR [--per-class N] [--sweethome FOLDER]

`DIR/procedural` gets objects of seeds never trained on, in every format that the server reads. With `--sweethome`, the
folder that Debian's packages `sweethome3d` and `sweethome3d-furniture` were unpacked into (CC0 and CC BY models),
`DIR/real-dev` and `DIR/real-test` get half each of the models whose catalogue name means one of our classes, drawn by
hash, and `DIR/unfamiliar-dev` and `-test` those of other things. The network was never trained on any of them; the dev
halves fit the confidence.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from training.shapes.catalogue import NAMES, build
from training.shapes.clouds import sample
from training.shapes.parts import Triangles
from training.shapes.writers import WRITERS

TEST_SEED = 990_000  # training uses seeds below
CATALOGUE_NAMES: dict[str, str] = {  # a whole catalogue name, lower case, as an expression -> our class
    r"((plastic|oak|modern|cafe|ryokan|osaka|children|child|teck|folding|beach) )?chair( with cushion)?": "chair",
    r"baby high chair|class seat": "chair",
    r"(winchester |modern |rattan )?armchair|relax chair": "armchair",
    r".*\bsofa\b.*|couch|futon couch|sofa . seats": "sofa",
    r"(bar )?stool|bar chair|piano bench": "stool",
    r"(concrete |painted )?bench|wood bank|little bank": "bench",
    r"(?!pool|football|bedside|changing|dressing)(.* )?table|table on trestles|table with tablecloth": "table",
    r"(?!.*bedside)(.* )?desk|desk table|workbench": "desk",
    r"bed(?!side).*|(iron|child|(corner )?bunk|baby|captain's|hospital|day|mezzanine) bed|loft bed.*|crib": "bed",
    r"(filled |full )?bookcase|shelves|vertical shelves": "bookshelf",
    r"wardrobe|dresser.*|.*cabinet|bedside table|cupboard|fridge.*|large fridge|refrigerator": "cabinet",
    r".*locker|tv (unit|stand)|chest freezer": "cabinet",
    r"(open |front |double |exterior |garage |elevator |rounded )?door": "door",
    r"(curve |spiral )?staircase|(small )?step ladder|escalator": "stairs",
    r"(?!.*camping)(.* )?lamp|(hanging|park|street) light|floor uplight|classic lamppost": "lamp",
    r"seat leon|peugeot 308 cc|renault scenic|suv|chevrolet|van|smart car|vw new beetle|ford focus": "car",
    r"concept sedan.*|car model": "car",
    r"truck": "truck",
    r"(city )?bus": "bus",
    r"toy train": "train",
    r"biplane": "airplane",
    r"bicycle|bike": "bicycle",
    r"motorbike|yamaha yzr r6|scooter": "motorcycle",
    r"rowboat": "ship",
    r"(coffee )?(mug|cup)": "mug",
    r"(wine |beer |medicine |spray |yogurt )?bottle|flacon": "bottle",
    r"bowl|basin": "bowl",
    r"vase|pottery|old jar": "vase",
    r"teapot": "teapot",
    r"cocktail glass": "wine glass",
    r"large pan|utensils pot": "pot",
    r"spoon": "spoon",
    r"fork": "fork",
    r"(kitchen )?knife": "knife",
    r"(indoor |spider |decorative |succulent |little )?plant|spathiphyllum|yucca|ficus|cactus": "potted plant",
    r"bonsai tree|orchids|tulips|flowers|white lily|bamboo|plant box": "potted plant",
    r"(palm|christmas|coconut|bended coconut) tree|acacia|copper beech|cypress|(japanese|sycamore) maple": "tree",
    r"(blue )?pine.*|poplar|peach blossom": "tree",
    r"toilets? unit|toilet|small lavatory": "toilet",
    r"(corner |island |fitted )?bath(tub)?|jacuzzi": "bathtub",
    r"sink|washbasin.*": "sink",
    r"keyboard": "keyboard",
    r"tv( 16:9)?|(wall )?flat tv|screen|apple imac.*": "monitor",
    r"laptop|apple ibook": "laptop",
    r"mobile phone|apple iphone|wireless phone": "cell phone",
    r"electric guitar|guitar": "guitar",
    r"(upright |grand )?piano": "piano",
    r"(cuckoo )?clock": "clock",
    r"dog|bulldog": "dog",
    r"(siamese )?cat": "cat",
    r"(rocking )?horse": "horse",
    r"rabbit": "rabbit",
    r"((standing|sitting|holding) )?(fe)?male|(sitting )?(boy|girl)|mannequin.*": "person",
    r"teddy bear": "teddy bear",
    r"cap|hat": "hat",
    r"umbrella": "umbrella",
    r"hammer": "hammer",
    r"scissors": "scissors",
    r"glasses|sunglasses": "glasses",
    r"headphones": "headphones",
    r"sneakers|woman shoes|mocassin|slippers|bootie": "shoe",
    r"(garden hut|dog house|doll house)": "house",
    r"camping tent|barnum": "tent",
    r"soccer ball|basketball": "ball",
    r"cone": "cone",
    r"ring": "ring",
    r"(open |cardboard |open cardboard |medicine )?box|crate|shipping container": "box",
    r"skateboard": "skateboard",
}  # fmt: skip


def class_of(catalogue_name: str) -> str | None:
    """Return our class of a catalogue name, or None when it is none of ours."""
    return next(
        (ours for expression, ours in CATALOGUE_NAMES.items() if re.fullmatch(expression, catalogue_name.lower())), None
    )


def catalogue(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield the source, the English name and the OBJ bytes of every model of the unpacked Debian packages."""
    for archive in sorted([*folder.rglob("*.sh3f"), *folder.rglob("sweethome3d.jar")]):
        with zipfile.ZipFile(archive) as stored:
            members = set(stored.namelist())
            tables = sorted(name for name in members if name.endswith("FurnitureCatalog.properties"))
            found = [entry for table in tables for entry in entries(stored.read(table).decode("latin-1"))]
            models = [(name, model) for name, model in found if model in members and model.lower().endswith(".obj")]
            yield from ((archive.stem, name, stored.read(model)) for name, model in models)


def entries(table: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the model's path of every entry of a properties file."""
    found = dict(line.split("=", 1) for line in table.splitlines() if re.match(r"(name|model)#\d+=", line))
    for key, value in found.items():
        if key.startswith("name#"):
            yield value.strip(), found.get(key.replace("name#", "model#"), "").lstrip("/")


def write_real(folder: Path, out: Path) -> dict[str, int]:
    counts = {"real-dev": 0, "real-test": 0, "unfamiliar-dev": 0, "unfamiliar-test": 0}
    seen: set[str] = set()
    for source, name, content in catalogue(folder):
        digest = hashlib.sha256(content).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        ours = class_of(name)
        tree = ("unfamiliar" if ours is None else "real") + ("-dev", "-test")[int(digest, 16) % 2]
        file_name = f"{re.sub(r'[^A-Za-z0-9]+', '-', name)}-{source}-{digest[:6]}.obj"
        target = out / tree / (ours or "unfamiliar") / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        counts[tree] += 1
    return counts


def write_procedural(out: Path, per_class: int) -> int:
    """Write objects of unused seeds, formats in turn, half of them y-up, at any scale."""
    formats = list(WRITERS)
    for label, name in enumerate(NAMES):
        for number in range(per_class):
            random = np.random.default_rng((TEST_SEED, label, number))
            triangles = posed(build(label, random), random)
            suffix = formats[(label * per_class + number) % len(formats)]
            points, _ = sample(triangles, 5000, random)
            target = out / "procedural" / name / f"{number:03d}.{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(WRITERS[suffix](triangles, points))
    return len(NAMES) * per_class


def posed(triangles: Triangles, random: np.random.Generator) -> Triangles:
    """Turn about the vertical, choose z or y as up, and scale by up to a thousand either way."""
    angle = random.uniform(0, 2 * np.pi)
    spin = np.array(((np.cos(angle), -np.sin(angle), 0), (np.sin(angle), np.cos(angle), 0), (0, 0, 1)))
    turned = triangles @ spin.T
    turned = turned[..., [1, 2, 0]] if random.random() < 0.5 else turned
    return np.asarray(turned * 10.0 ** random.uniform(-3, 3) + random.normal(size=3))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--sweethome", type=Path)
    arguments = parser.parse_args(argv)
    print(f"procedural   {write_procedural(arguments.out, arguments.per_class):>5} objects")
    if arguments.sweethome:
        for tree, count in write_real(arguments.sweethome, arguments.out).items():
            print(f"{tree:<12} {count:>5} models")


if __name__ == "__main__":
    main()
