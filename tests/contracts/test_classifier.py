"""What every classifier that the expert `classify` may look with promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.registry import CLASSIFIERS

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "watch.webp"


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_a_classifier_gives_falling_probabilities_of_a_photograph(name: str) -> None:
    with Image.open(SAMPLE) as photo:
        likely = CLASSIFIERS.load(name)().likeliest(np.asarray(photo.convert("RGB")), 3)
    shares = [share for _, share in likely]
    assert len({label for label, _ in likely}) == 3
    assert 1 >= shares[0] >= shares[1] >= shares[2] > 0
