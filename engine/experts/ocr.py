"""The expert `ocr`: the text in a picture, by RapidOCR, whose wheel carries PP-OCR's weights."""

from __future__ import annotations

import math
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from core.errors import ConfigError, MediaTooLarge
from core.types import AnyArray, Modality
from engine.experts import ExpertContext, ExpertMedium, Reading
from engine.experts.reading_order import TextBox, lines_in_order
from engine.experts.threads import ExpertThread, IsAbandoned

MAX_FOUND_PIXELS = 1_500_000  # lines are found in a picture of this size and read at the picture's own
MAX_LINES = 300
MIN_HEIGHT_PX, MAX_ASPECT = 64, 8
MIN_SCORE = 0.5  # of a line, as RapidOCR's own default
LINES_PER_CALL = 12  # between two looks at whether anyone still waits


def build_ocr(context: ExpertContext) -> OcrExpert:
    """Return the expert. Raises `ConfigError` without RapidOCR."""
    if missing := [name for name in ("rapidocr", "onnxruntime") if find_spec(name) is None]:
        raise ConfigError(
            f"the expert ocr needs {' and '.join(missing)}; the operator installs it with `make setup-experts`"
        )
    return OcrExpert(context.options.num_threads)


class OcrExpert:
    """Detect lines of text, turn those that stand on their head, read them, and put them in reading order."""

    modalities = frozenset({Modality.IMAGE})
    heading = "Text in {medium}:"
    instruction = "Answer by quoting the text."
    reads_details = True

    def __init__(self, num_threads: int | None) -> None:
        self.expert_id = f"ocr-rapidocr-{_version('rapidocr')}"
        self._num_threads = num_threads
        self._thread = ExpertThread("ocr")
        self._engine: Any = None  # RapidOCR has no types

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return the lines of the picture. Raises `MediaTooLarge` for more than `MAX_LINES`."""
        media = await medium.decode()
        return Reading(text=await self._thread.run(partial(self._read, media.array)))

    async def stop(self) -> None:
        await self._thread.stop()

    def _read(self, pixels: AnyArray, is_abandoned: IsAbandoned) -> str:
        engine = self._loaded()
        picture = np.ascontiguousarray(padded(pixels)[:, :, ::-1])  # (H, W, 3) BGR, as OpenCV has it
        corners = self._found(engine, picture)
        if len(corners) > MAX_LINES:
            raise MediaTooLarge(f"the picture holds {len(corners)} lines of text; at most {MAX_LINES} are read; cut it")
        boxes: list[TextBox] = []
        for start in range(0, len(corners), LINES_PER_CALL):
            if is_abandoned():
                return ""
            some = corners[start : start + LINES_PER_CALL]
            upright, _ = engine.cls_and_rotate(engine.crop_text_regions(picture, some))
            read = engine.recognize_txt(upright)
            boxes += [
                TextBox.around(around, text)
                for around, text, score in zip(some, read.txts, read.scores, strict=True)
                if score >= MIN_SCORE and text.strip()
            ]
        return "\n".join(lines_in_order(boxes))

    @staticmethod
    def _found(engine: Any, picture: AnyArray) -> AnyArray:
        """Return the corners `(N, 4, 2)` of every line in the picture's own pixels."""
        from rapidocr.main import RapidOCRError

        small, factor = scaled(picture)
        try:
            _, found = engine.detect_and_crop(small, {"preprocess": {"ratio_h": 1.0, "ratio_w": 1.0}})
        except RapidOCRError:  # how it says that there is no text
            return np.empty((0, 4, 2), dtype=np.float32)
        height, width = picture.shape[:2]
        corners: AnyArray = np.asarray(found.boxes, dtype=np.float32) / factor
        return corners.clip(0, (width - 1, height - 1)).astype(np.float32)

    def _loaded(self) -> Any:
        if self._engine is None:
            from rapidocr import RapidOCR

            threads = self._num_threads or -1
            chosen = {
                "Global.log_level": "critical",
                "Global.use_vertical_padding": False,  # it would move the corners
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            }
            self._engine = RapidOCR(params=chosen)
        return self._engine


def scaled(pixels: AnyArray) -> tuple[AnyArray, float]:
    """Return `(H, W, 3)` uint8 with about `MAX_FOUND_PIXELS` at most, and by which factor it was scaled."""
    height, width = pixels.shape[:2]
    factor = min(1.0, math.sqrt(MAX_FOUND_PIXELS / (height * width)))
    if factor == 1.0:
        return pixels, factor
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)), factor


def padded(pixels: AnyArray) -> AnyArray:
    """Return `(H, W, 3)` with its edge drawn out where it is too low a strip for the detector to find lines in."""
    height, width = pixels.shape[:2]
    missing = max(MIN_HEIGHT_PX, width // MAX_ASPECT) - height
    return np.pad(pixels, ((missing // 2 + 1,) * 2, (0, 0), (0, 0)), mode="edge") if missing > 0 else pixels


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
