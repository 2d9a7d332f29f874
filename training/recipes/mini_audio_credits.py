"""Write who recorded the sounds that the ears of `mini` learnt from: `models/mini/audio_attributions.txt`.

    python -m training.recipes.mini_audio_credits DATA --out FILE

DATA holds `esc10_16k.zip` and `ESC-10_attributions.txt`, which credits every clip of ESC-50.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

HEAD = """\
ESC-10, a part of ESC-50: Dataset for Environmental Sound Classification (Karol J. Piczak, 2015),
https://github.com/karoldvl/ESC-50/, https://dx.doi.org/10.7910/DVN/YDEPUT
Licence of the ESC-10 subset: Creative Commons Attribution 3.0 Unported, https://creativecommons.org/licenses/by/3.0/

The clips of folds 1 to 4, resampled to 16 kHz mono, changed and mixed, trained models/mini/audio.safetensors.
The clips of fold 5 were used for measuring only. None of the clips is in this repository. Where each comes from:
"""
_CREDIT = re.compile(r"^- \[(\S+)\.ogg\]: (.*)$", re.MULTILINE)


def credits(archive: Path, attributions: Path) -> str:
    """Return the text that credits every clip of the archive. Raises `KeyError` of a clip that nobody is named for."""
    said = dict(_CREDIT.findall(attributions.read_text(encoding="utf-8")))
    with zipfile.ZipFile(archive) as stored:
        clips = sorted(Path(name) for name in stored.namelist() if name.endswith(".ogg"))
    parts = [
        f"\n{kind}:\n" + "".join(f"- {clip.stem}: {said[clip.stem]}\n" for clip in group)
        for kind, group in groupby(clips, key=lambda clip: clip.parent.name)
    ]
    return HEAD + "".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    text = credits(arguments.data / "esc10_16k.zip", arguments.data / "ESC-10_attributions.txt")
    arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
