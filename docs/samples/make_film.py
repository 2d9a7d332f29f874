"""Make cat_then_coffee.mp4 from the two photographs: three seconds of one, two of the other, a slow zoom into each."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent
SIZE, FRAMES_PER_S = (320, 240), 10
SHOTS = (("cat.jpg", 3), ("coffee.jpg", 2))  # seconds of each


def main() -> None:
    with av.open(str(FOLDER / "cat_then_coffee.mp4"), "w") as target:
        stream: Any = target.add_stream("libsvtav1", rate=FRAMES_PER_S, options={"crf": "40", "preset": "8"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_S)
        for name, seconds in SHOTS:
            picture = ImageOps.fit(Image.open(FOLDER / name).convert("RGB"), SIZE)
            for step in range(seconds * FRAMES_PER_S):
                inset = 0.12 * step / (seconds * FRAMES_PER_S)
                box = (SIZE[0] * inset, SIZE[1] * inset, SIZE[0] * (1 - inset), SIZE[1] * (1 - inset))
                frame = av.VideoFrame.from_image(picture.resize(SIZE, Image.Resampling.BILINEAR, box=box))
                target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


if __name__ == "__main__":
    main()
