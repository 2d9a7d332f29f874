"""What teaches `mini` colours and settings, and to repeat what it is told of them."""

from __future__ import annotations

import json
import random
import re

import numpy as np

from models.mini.attribute_questions import COLOURS, attribute_question
from models.mini.attributes import SETTINGS, AttributeWeights, colour_chances, setting_chances
from models.mini.colours import ThingColours
from training.recipes.mini_attributes import LABELS, LabelledPicture, fit_colours, fit_settings
from training.recipes.mini_attributes_told import AttributeTeller
from training.recipes.mini_pictures import Name, split_of

UNSEEN = {"Leopards", "barrel", "beaver", "binocular", "car_side", "cellphone", "cup", "electric_guitar", "elephant"}
UNSEEN |= {"grand_piano", "lamp", "llama", "lobster", "platypus", "revolver", "rooster", "saxophone", "scorpion"}
UNSEEN |= {"soccer_ball", "starfish", "watch"}
NOTHING = AttributeWeights(
    colour_table=np.zeros(0, dtype=np.float32),
    colour_biases=np.zeros(len(COLOURS), dtype=np.float32),
    colour_slope=1.0,
    setting_weights=np.zeros(0, dtype=np.float32),
    setting_biases=np.zeros(0, dtype=np.float32),
)


def picture(
    names: str, shares: dict[str, float], *, features: tuple[float, ...] = (1.0, 0.0), setting: int = 0
) -> LabelledPicture:
    row = np.array([shares.get(colour, 0.0) for colour in COLOURS], dtype=np.float32)
    colours = ThingColours(shares=row, palette=row, ground=None, lightness=(0.4, 0.6), has_colours=True)
    return LabelledPicture(
        group="", features=np.array(features, dtype=np.float32), colours=colours, names=names, setting=setting
    )


def test_only_training_photographs_of_trained_classes_are_labelled() -> None:
    files = json.loads(LABELS.read_text(encoding="utf-8"))
    assert len(files) > 400
    for file in files:
        number = int(re.findall(r"\d+", file)[-1])
        assert split_of(number) == "train", file
        assert file.split("/")[0] not in UNSEEN, file


def test_colours_that_shadows_make_common_are_believed_less() -> None:
    shaded = [picture("yellow", {"grey": 0.6, "yellow": 0.4}) for _ in range(6)]
    plain = [picture("grey+white", {"grey": 0.95, "white": 0.05}) for _ in range(3)]
    fitted = fit_colours(NOTHING, [*shaded, *plain])
    assert fitted.colour_biases[COLOURS.index("yellow")] > fitted.colour_biases[COLOURS.index("grey")]
    for known, name in ((shaded[0], "yellow"), (plain[0], "grey")):
        assert COLOURS[int(colour_chances(known.colours.shares, fitted).argmax())] == name


def test_a_linear_model_tells_settings_by_the_direction_of_features() -> None:
    ways = ((1.0, 0.1, 0.0), (0.0, 1.0, 0.1), (0.1, 0.0, 1.0))
    shown = [picture("", {}, features=way, setting=place) for place, way in enumerate(ways) for _ in range(5)]
    fitted = fit_settings(NOTHING, shown)
    for place in range(len(SETTINGS)):
        chances = setting_chances(np.array([ways[place]], dtype=np.float32) * 3, fitted)[0]
        assert chances.argmax() == place
        assert chances.max() > 0.4


def test_a_talk_tells_its_own_answer_to_a_question_that_is_recognised() -> None:
    teller = AttributeTeller(
        [Name("beagle", "dog", ()), Name("harp", "instrument", ()), Name("skis", "thing", ())], random.Random(1)
    )
    starts = set()
    for _ in range(400):
        talk = teller.talk()
        context, _, rest = talk.turns[-1][1].partition("</context>\n")
        assert context == f"<context>{talk.answer}"
        assert attribute_question(rest.split("\n")[0]) is not None
        starts.add(str(talk.answer).split()[0])
    assert {"The", "It", "I", "Yes,", "No,"} <= starts
