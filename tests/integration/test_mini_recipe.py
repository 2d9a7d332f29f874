"""One command makes the trained files of the built-in model, here in a copy of the checkout that it may overwrite."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from models.mini.assets import VOCABULARY
from training.recipes import mini
from training.recipes.mini_pictures import NAMES_FILE, read_vocabulary

ROOT = Path(__file__).parents[2]
STAGES = ("heads", "calibration", "told", "gallery")
LEARNT = ("head.weight", "drawings.weight", "thumbnail.head.weight", "thumbnail.drawings.weight")


def picture(rng: np.random.Generator) -> bytes:
    drawn = Image.new("RGB", (112, 112), "white")
    left, right = sorted(rng.integers(10, 100, size=2).tolist())
    colour = tuple(rng.integers(0, 200, 3).tolist())
    ImageDraw.Draw(drawn).ellipse((left, left, right + 5, right + 5), fill=colour)
    with io.BytesIO() as file:
        drawn.save(file, "webp")
        return file.getvalue()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: of it all the recipe sees one in forty."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    pictures = [picture(rng) for _ in range(8)]
    classes = [name.text.replace(" ", "_") for name in read_vocabulary(VOCABULARY)[0][300:990:20]]
    with zipfile.ZipFile(folder / "caltech101_112.zip", "w") as stored:
        for place, name in enumerate([*classes, "pagoda", "okapi"]):
            for number in range(1, 76):
                stored.writestr(f"{name}/image_{number:04d}.webp", pictures[(place + number) % 8])
    emoji = json.loads(NAMES_FILE.read_text(encoding="utf-8"))["emoji"]
    with zipfile.ZipFile(folder / "fluent_emoji_3d_112.zip", "w") as stored:
        for place, code in enumerate(emoji):
            stored.writestr(f"{code}.webp", pictures[place % 8])
    table = {code: {"name": name} for code, name in emoji.items()}
    (folder / "fluent_emoji_names.json").write_text(json.dumps(table))
    return folder


def test_one_command_makes_the_files_and_goes_on_where_it_was_interrupted(data: Path, tmp_path: Path) -> None:
    for part in ("core", "media", "models", "cache_index", "training"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    model = tmp_path / "models" / "mini"
    before = load_file(model / "mini.safetensors")

    def run(*options: str) -> str:
        command = [sys.executable, "-m", "training.recipes.mini", str(data), "--small", "--stages", *STAGES, *options]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    said = run()
    assert "adapter: kept as it is" in said
    assert all(f"{stage} " in said for stage in STAGES)
    after = load_file(model / "mini.safetensors")
    assert all(not after[key].equal(before[key]) for key in LEARNT if after[key].shape == before[key].shape)
    kept = [key for key in before if key.startswith(("adapter.", "verdict.", "relevance."))]
    assert all(after[key].equal(before[key]) for key in kept)
    assert (model / "told.safetensors").read_bytes() != (ROOT / "models/mini/told.safetensors").read_bytes()
    written = {path: path.stat().st_mtime_ns for path in model.rglob("*") if path.suffix in (".safetensors", ".jsonl")}
    record = tmp_path / "runs" / "mini" / "finished.json"
    finished = json.loads(record.read_text())
    record.write_text(json.dumps({stage: finished[stage] for stage in STAGES[:3]}))
    run()
    changed = {path.name for path, when in written.items() if not path.exists() or path.stat().st_mtime_ns != when}
    assert changed
    assert all(name.startswith("segment-") for name in changed)


def test_a_stage_that_lacks_its_sources_is_refused_and_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    _, run = mini.parse_arguments([str(tmp_path)])
    assert mini.chosen_stages(None, run) == [name for name in mini.STAGES if name not in ("vocabulary", "words")]
    with pytest.raises(SystemExit, match="the stage words needs --wordnet"):
        mini.chosen_stages(["words"], run)
    _, run = mini.parse_arguments([str(tmp_path), "--wordnet", "dict"])
    assert mini.chosen_stages(["gallery", "words"], run) == ["words", "gallery"]


def test_the_adapter_begins_from_nothing_unless_it_is_to_go_on(tmp_path: Path) -> None:
    _, run = mini.parse_arguments([str(tmp_path)])
    assert mini.adapter_options(run) == ["--fresh", "--minutes", "170"]
    _, run = mini.parse_arguments([str(tmp_path), "--go-on", "--minutes", "50"])
    assert mini.adapter_options(run) == ["--rate", "0.5", "--minutes", "50.0"]
