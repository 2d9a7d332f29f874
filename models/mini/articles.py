"""Names as English says them: a, an, some, or nothing before them."""

from __future__ import annotations

BARE = frozenset(  # names that take no article
    {"rain", "snow", "fog", "lightning", "sand", "ice", "fire", "smoke", "grass", "thunder", "wind", "water", "music",
     "speech", "laughter", "applause", "traffic", "silence", "noise", "static", "mains hum", "steam", "wood", "liquid",
     "spray", "artillery", "conversation", "bread", "cheese", "butter", "honey", "rice", "soup", "salad", "spaghetti",
     "pasta", "sushi", "popcorn", "bacon", "meat", "chocolate", "ice cream", "candy", "milk", "tea", "coffee", "beer",
     "wine", "juice", "champagne", "soda", "hot chocolate", "toilet paper", "toothpaste", "soap", "hair", "corn",
     "garlic", "broccoli", "spinach", "cauliflower", "lettuce", "celery", "curry", "cereal", "ivy", "clover", "bamboo",
     "cutlery", "birdsong", "hail", "heavy rain", "light rain", "strong wind", "hip hop music", "beatboxing", "opera",
     "breaking glass", "chopping wood", "cracking wood", "thunder and rain", "night sky", "ocean spray", "countryside"}
)  # fmt: skip
COUNTED = frozenset({"string", "clothing", "ring", "wing", "king", "spring", "building", "painting", "earring", "swing",
                     "bearing", "dumpling", "seedling", "railing", "awning", "ceiling",
                     "pudding", "herring", "duckling", "starling", "sting", "sibling",
                     "lightning", "ding", "zing", "boing", "stocking", "covering", "carving", "drawing"})  # fmt: skip


def is_bare(name: str) -> bool:
    """Say whether English gives the name no article: a mass, or something that is done."""
    last = name.split()[-1].lower()
    if name.lower() in BARE or last in ("music", "water", "food", "paper", "metal", "teeth"):
        return True
    return last.endswith("ing") and last not in COUNTED


def article(name: str) -> str:
    """Return the name with a, an or some; masses and proper names keep it bare where English does."""
    if is_bare(name):
        return name
    if name.endswith("pajamas") or (name.endswith("s") and not name.endswith(("ss", "us", "is", "as", "os", "lens"))):
        return f"some {name}" if " of " not in name else f"a {name}"
    vowel = name[0].lower() in "aeiou" and not name.lower().startswith(("uni", "eu", "one-", "ukulele"))
    return f"{'an' if vowel or name.lower().startswith('hourglass') else 'a'} {name}"
