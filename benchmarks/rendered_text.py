"""A seeded set of pictures with rendered text, signs, receipts and slides, each with a question and its answer.

Fonts are those that matplotlib carries. Sizes, colours, grounds, a turn of a few degrees, blur, noise and the file
format change from picture to picture, so that no two are read under the same conditions.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSerif", "STIXGeneralBol", "DejaVuSansMono-Bold")
MONO_FONTS = ("DejaVuSansMono", "DejaVuSansMono-Bold")
SIGNS = (
    "NO PARKING", "Beware of the dog", "Wet floor", "Keep left", "Exit only", "Mind the gap", "No swimming",
    "Please ring the bell", "Staff only", "Road closed ahead", "Push to open", "Out of order", "Fresh eggs for sale",
    "Speed limit 40", "Gate 12", "Library closed on Monday", "Lost cat reward 50", "Bus stop 27", "Quiet please",
    "Do not feed the ducks", "Fire assembly point", "Tickets sold here", "Slippery when icy", "Private beach",
    "Trail to Eagle Peak", "No entry", "Cash only", "Deliveries at rear", "Pool closes at 8", "Hard hats required",
)  # fmt: skip
TOWNS = ("Ashford", "Millbrook", "Stonehaven", "Riverton", "Oakdale", "Kingsport", "Fairview", "Redhill", "Lakewood")
SHOPS = (
    "Corner Cafe", "Green Grocer", "Harbour Books", "Sunrise Bakery", "City Hardware", "Luna Pizza", "Maple Diner",
    "Blue Door Deli", "Oak Street Market", "Royal Stationers",
)  # fmt: skip
GOODS = (
    "Coffee", "Green tea", "Muffin", "Sandwich", "Apples", "Notebook", "Pencils", "Milk", "Bread", "Cheese", "Soup",
    "Orange juice", "Batteries", "Postcard", "Salad", "Cookies", "Rice", "Tomatoes", "Honey", "Butter",
)  # fmt: skip
TALKS = (
    ("Quarterly Sales Report", ("Revenue grew by 12 percent", "Two new offices opened", "Costs stayed flat")),
    ("Introduction to Beekeeping", ("Choose a sunny place", "Wear a veil and gloves", "Inspect the hive weekly")),
    ("Water on Mars", ("Ice at the poles", "Ancient river valleys", "Salt in the soil")),
    ("Safety in the Laboratory", ("Wear your goggles", "Label every bottle", "Know the exits")),
    ("A Short History of Tea", ("First grown in China", "Brought to Europe by ship", "Now a global drink")),
    ("Growing Tomatoes Indoors", ("Use a large pot", "Give ten hours of light", "Water every second day")),
    ("Learning to Sail", ("Check the wind first", "Balance the boat", "Practise your knots")),
    ("City Bicycle Plan", ("Forty kilometres of new lanes", "Repair stations in every district", "Free helmets")),
    ("Cooking with Cast Iron", ("Heat the pan slowly", "Never use soap", "Oil it after washing")),
    ("The Night Sky in Winter", ("Find Orion in the south", "Look for the Pleiades", "Dress warmly")),
)
SPEAKERS = ("Anna Keller", "David Osei", "Maria Lopez", "Tom Fischer", "Priya Nair", "Jack Moore", "Elena Rossi")
INKS = ((20, 20, 20), (120, 20, 20), (20, 50, 120), (10, 80, 40))
GROUNDS = ((255, 255, 255), (250, 240, 210), (225, 235, 245), (245, 225, 225))
SIGN_COLOURS = (
    ((255, 255, 255), (20, 90, 50)), ((255, 255, 255), (30, 60, 140)), ((20, 20, 20), (250, 205, 40)),
    ((255, 255, 255), (180, 30, 35)), ((20, 20, 20), (240, 240, 235)),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPicture:
    """One picture file, a question about its text, and what a right answer must hold."""

    kind: str
    content: bytes
    media_type: str
    question: str
    answer: str


def text_pictures(num_pictures: int, seed: int) -> list[TextPicture]:
    """Return signs, receipts and slides in turn; the same seed gives the same files."""
    makers: Sequence[Callable[[random.Random], tuple[Image.Image, str, str]]] = (_sign, _receipt, _slide)
    pictures = []
    for place in range(num_pictures):
        rng = random.Random(f"{seed} {place}")
        maker = makers[place % len(makers)]
        drawn, question, answer = maker(rng)
        content, media_type = _file_of(_photographed(drawn, rng), rng)
        kind = maker.__name__.removeprefix("_")
        pictures.append(
            TextPicture(kind=kind, content=content, media_type=media_type, question=question, answer=answer)
        )
    return pictures


def _font(name: str, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"), size_px)


def _sign(rng: random.Random) -> tuple[Image.Image, str, str]:
    """Draw a board with a few words on a wall."""
    words, question = rng.choice(SIGNS), "What does the sign say?"
    answer = words
    if rng.random() < 0.3:
        town, miles = rng.choice(TOWNS), rng.randint(2, 95)
        words = f"{town} {miles} miles"
        question, answer = f"How many miles is it to {town}?", str(miles)
    ink, board = rng.choice(SIGN_COLOURS)
    font = _font(rng.choice(FONTS), rng.randint(34, 80))
    lines = _wrapped(words, rng.choice((10, 16, 30)))
    text = "\n".join(lines)
    left, top, right, bottom = font.getbbox("\n".join(lines)) if len(lines) == 1 else _block(text, font)
    pad = rng.randint(20, 60)
    width, height = int(right - left) + 2 * pad, int(bottom - top) + 2 * pad
    wall = tuple(rng.randint(90, 200) for _ in range(3))
    picture = Image.new("RGB", (width + 160, height + 160), wall)
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle((80, 80, 80 + width, 80 + height), radius=18, fill=board, outline=ink, width=4)
    draw.multiline_text((80 + pad - left, 80 + pad - top), text, font=font, fill=ink, align="center")
    return picture, question, answer


def _block(text: str, font: ImageFont.FreeTypeFont) -> tuple[float, float, float, float]:
    return ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font=font)


def _wrapped(words: str, max_chars: int) -> list[str]:
    lines = [""]
    for word in words.split():
        joined = f"{lines[-1]} {word}".strip()
        if len(joined) > max_chars and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = joined
    return lines


def _receipt(rng: random.Random) -> tuple[Image.Image, str, str]:
    """Draw a till receipt: shop, date, two to six goods, tax and total."""
    shop, goods = rng.choice(SHOPS), rng.sample(GOODS, rng.randint(2, 6))
    prices = [rng.randint(80, 1900) for _ in goods]
    tax, total = round(sum(prices) * 0.08), round(sum(prices) * 1.08)
    date = f"{rng.randint(1, 28):02d}.{rng.randint(1, 12):02d}.2026"
    rows = [(name, f"{price / 100:.2f}") for name, price in zip(goods, prices, strict=True)]
    rows += [("Tax", f"{tax / 100:.2f}"), ("TOTAL", f"{total / 100:.2f}")]
    asked = rng.randrange(len(goods))
    question, answer = rng.choice(
        (
            ("What is the total on the receipt?", f"{total / 100:.2f}"),
            ("What is the total on the receipt?", f"{total / 100:.2f}"),
            ("What is the name of the shop on the receipt?", shop),
            ("What is the date on the receipt?", date),
            (f"How much does the {goods[asked].lower()} cost?", rows[asked][1]),
        )
    )
    size_px = rng.randint(20, 34)
    font, line_px = _font(rng.choice(MONO_FONTS), size_px), round(size_px * 1.6)
    width = size_px * 19
    picture = Image.new("RGB", (width, line_px * (len(rows) + 6)), (252, 252, 248))
    draw, ink = ImageDraw.Draw(picture), (40, 40, 40)
    draw.text((width / 2, line_px), shop.upper(), font=_font("DejaVuSansMono-Bold", size_px + 6), fill=ink, anchor="mt")
    draw.text((size_px, 3 * line_px), f"Date {date}", font=font, fill=ink)
    for row, (name, price) in enumerate(rows, start=4):
        draw.text((size_px, row * line_px), name, font=font, fill=ink)
        draw.text((width - size_px, row * line_px), price, font=font, fill=ink, anchor="ra")
    return picture, question, answer


def _slide(rng: random.Random) -> tuple[Image.Image, str, str]:
    """Draw a slide of a talk: title, speaker, three points, page number."""
    (title, points), speaker = rng.choice(TALKS), rng.choice(SPEAKERS)
    page = rng.randint(2, 40)
    question, answer = rng.choice(
        (
            ("What is the title of the slide?", title),
            ("Who is the speaker on the slide?", speaker),
            ("What is the first point on the slide?", points[0]),
            ("What does the slide say?", title),
        )
    )
    ground, ink = rng.choice(GROUNDS), rng.choice(INKS)
    scale = rng.choice((0.8, 1.0, 1.25))
    picture = Image.new("RGB", (round(960 * scale), round(540 * scale)), ground)
    draw, name = ImageDraw.Draw(picture), rng.choice(FONTS)
    big, middle, small = (_font(name, round(size * scale)) for size in (46, 30, 20))
    draw.text((60 * scale, 50 * scale), title, font=big, fill=ink)
    draw.text((60 * scale, 120 * scale), f"Speaker: {speaker}", font=small, fill=(90, 90, 90))
    for row, point in enumerate(points):
        x, y = 80 * scale, (200 + 80 * row) * scale
        draw.ellipse((x, y + 12 * scale, x + 10 * scale, y + 22 * scale), fill=ink)
        draw.text((x + 30 * scale, y), point, font=middle, fill=ink)
    draw.text((900 * scale, 500 * scale), str(page), font=small, fill=(90, 90, 90), anchor="ra")
    return picture, question, answer


def _photographed(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Turn, blur and soil a drawing a little, as a camera does."""
    ground = picture.getpixel((2, 2))
    turned = picture.rotate(
        rng.uniform(-4, 4),
        Image.Resampling.BICUBIC,
        expand=True,
        fillcolor=ground,
    )
    softened = turned.filter(ImageFilter.GaussianBlur(rng.choice((0.0, 0.0, 0.6, 1.0))))
    levels = np.asarray(softened, dtype=np.float32)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, rng.choice((0, 3, 8)), levels.shape)
    light = np.linspace(1.0, rng.uniform(0.75, 1.0), levels.shape[1], dtype=np.float32)[None, :, None]
    return Image.fromarray((levels * light + noise).clip(0, 255).astype(np.uint8))


def _file_of(picture: Image.Image, rng: random.Random) -> tuple[bytes, str]:
    file = io.BytesIO()
    if rng.random() < 0.3:
        picture.save(file, "PNG")
        return file.getvalue(), "image/png"
    picture.save(file, "JPEG", quality=rng.randint(60, 95))
    return file.getvalue(), "image/jpeg"
