"""Make every trained file of `mini` anew: `python -m training.recipes.mini DATA [--stages STAGE...] [--out runs/mini]`.

DATA holds `caltech101_112.zip`, `fluent_emoji_3d_112.zip`, `fluent_emoji_names.json`, `esc10_16k.zip` and
`ESC-10_attributions.txt`. Stages run in the order below, each with the recipe of its own that it names; what it makes
goes to `models/mini` of this checkout as soon as it is finished, where the later stages and `git diff` find it:

{stages}

`--stages` chooses some; those left out keep their files. Without it all run, but `vocabulary` and `words`, which need
`--synsets` and `--wordnet` (see `mini_vocabulary`), keep theirs unless these are given. An interrupted run goes on:
`--out` keeps which stages are finished, and each stage its own steps; remove `--out` to begin again. `--small` takes a
few examples and steps a stage, to see that everything runs; keep nothing of it. With `--go-on` the stage `adapter`
begins with the shipped adapter and at half the learning rate, not from nothing; `--minutes` is how long it trains.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from models.mini.assets import (
    ATTRIBUTE_CONDITION,
    ATTRIBUTE_WEIGHTS,
    AUDIO_WEIGHTS,
    FOLDER,
    GALLERY,
    KINDS,
    POINT_WEIGHTS,
    TOLD_WEIGHTS,
    VOCABULARY,
    WEIGHTS,
    WORDS,
)
from training.recipes import (
    mini_adapter,
    mini_attributes,
    mini_attributes_told,
    mini_audio,
    mini_audio_credits,
    mini_audio_fit,
    mini_audio_pool,
    mini_audio_sources,
    mini_gallery,
    mini_kinds,
    mini_shapes,
    mini_shapes_sets,
    mini_told,
    mini_vocabulary,
    mini_words,
)

Options = list[str]
SMALL_EVERY = 40
SHARED = ("features.pt", "thumbnail.features.pt", "names.pt", "chat.pt")  # of all parts of `mini.safetensors`


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the stages are told: the data, where work is kept, and the sources that only some of them need."""

    data: Path
    out: Path
    is_small: bool
    seed: int
    workers: int
    synsets: Path | None
    wordnet: Path | None
    sweethome: Path | None
    minutes: float
    go_on: bool
    verdict_steps: int

    def sized(self, full: str, small: str) -> Options:
        """Return one of two lists of options."""
        return (small if self.is_small else full).split()

    def folder(self, name: str) -> str:
        """Return the folder that a recipe keeps its work in."""
        (self.out / name).mkdir(parents=True, exist_ok=True)
        return str(self.out / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One part of the model: which recipe makes which files of `models/mini`."""

    make: Callable[[Run], None]
    says: str
    minutes: float  # about, on one core; the progress bar counts by them
    needs: tuple[str, ...] = ()  # options without which it cannot run


def install(source: Path, target: Path) -> None:
    """Put a finished file in the place of the old one, which whoever reads it keeps until it is closed."""
    temporary = target.with_suffix(".tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def make_vocabulary(run: Run) -> None:
    emoji = run.data / "fluent_emoji_names.json"
    sources = ["--synsets", str(run.synsets), "--wordnet", str(run.wordnet), "--emoji", str(emoji)]
    mini_vocabulary.main([*sources, "--out", str(VOCABULARY)])


def make_words(run: Run) -> None:
    mini_words.main(["--wordnet", str(run.wordnet), "--out", str(WORDS)])


def part_of_adapter(part: str) -> Callable[[Run], None]:
    """Return the stage that makes one part of `mini.safetensors` and keeps the others."""
    return partial(make_part, part=part)


def adapter_options(run: Run) -> Options:
    """Return where the adapter begins, and how fast and for how long it learns."""
    begins = "--rate 0.5" if run.go_on else "--fresh"
    return run.sized(f"{begins} --minutes {run.minutes}", f"{begins} --steps 1")


def make_adapter(run: Run) -> None:
    options = " ".join(adapter_options(run))
    make_part(run, part="adapter", full=options, small=options)


def make_verdicts(run: Run) -> None:
    make_part(run, part="verdicts", full=f"--verdict-steps {run.verdict_steps}", small="--verdict-steps 1")


def make_part(run: Run, *, part: str, full: str = "", small: str = "") -> None:
    out = run.folder(part)
    for kept in SHARED:
        _share(run.out / kept, Path(out) / kept)
    options = ["--out", out, "--init", str(WEIGHTS), "--parts", part, "--seed", str(run.seed)]
    options += run.sized(full, f"{small} --every {SMALL_EVERY}")
    mini_adapter.main([str(run.data), *options, "--workers", str(run.workers)])
    for kept in SHARED:
        _share(Path(out) / kept, run.out / kept)
    install(Path(out) / WEIGHTS.name, WEIGHTS)


def _share(source: Path, target: Path) -> None:
    if source.exists() and not target.exists():
        target.hardlink_to(source)


def make_told(run: Run) -> None:
    out = run.folder("told")
    mini_told.main(["--out", out, "--seed", str(run.seed), *run.sized("--steps 200", "--steps 1 --open 2")])
    install(Path(out) / TOLD_WEIGHTS.name, TOLD_WEIGHTS)


def make_attributes(run: Run) -> None:
    """What colours and settings look like, and the replies that tell them; these begin where `told` ended."""
    fitted, learnt = run.folder("attributes"), run.folder("attributes_told")
    mini_attributes.main([str(run.data), "--out", fitted])
    mini_attributes_told.main(
        ["--out", learnt, "--seed", str(run.seed), *run.sized("--steps 80", "--steps 1 --open 2")]
    )
    install(Path(fitted) / ATTRIBUTE_WEIGHTS.name, ATTRIBUTE_WEIGHTS)
    install(Path(learnt) / ATTRIBUTE_CONDITION.name, ATTRIBUTE_CONDITION)


def make_audio(run: Run) -> None:
    """Sounds, a pool of them as YAMNet hears them, a tower that validates, one to ship, and what is fitted to them."""
    data, seed = str(run.data), ["--seed", str(run.seed)]
    sounds, checked, pool, first, ears, fitted = (
        run.folder(f"audio/{name}") for name in ("sounds", "checked-sounds", "pool", "checked", "ears", "fitted")
    )
    thinned = run.sized("", "--every 40")
    if not any(Path(pool).iterdir()):
        mini_audio_sources.main(["--out", sounds, *seed, *thinned])
        mini_audio_sources.main(["--out", checked, "--validation", *seed, *run.sized("", "--every 9")])
        mini_audio_pool.main(
            [data, "--sounds", sounds, "--out", pool, *seed, *run.sized("--samples 5466", "--samples 160")]
        )
    towers = {first: "1 2 3", ears: "1 2 3 4"}
    for out, epochs in ((first, "24"), (ears, "10")):
        options = ["--folds", *towers[out].split(), *run.sized(f"--epochs {epochs}", "--epochs 1"), *seed]
        mini_audio.main([data, "--pool", pool, "--out", out, *options])
    trees = ["--pool", pool, "--tower", first, "--ship", ears, "--validation", checked, "--out", fitted]
    mini_audio_fit.main([data, *trees, *seed, *thinned])
    install(Path(fitted) / AUDIO_WEIGHTS.name, AUDIO_WEIGHTS)
    mini_audio_credits.main([data, "--out", str(FOLDER / "audio_attributions.txt")])


def make_shapes(run: Run) -> None:
    """The point-cloud encoder; with the models of Sweet Home 3D, confidence is fitted on half of those as well."""
    out, real = run.folder("shapes"), []
    if run.sweethome is not None:
        sets = Path(run.folder("shapes-sets"))
        mini_shapes_sets.main(["--out", str(sets), "--per-class", "0", "--sweethome", str(run.sweethome)])
        real = ["--real", str(sets / "real-dev"), str(sets / "unfamiliar-dev")]
    sizes = run.sized(
        "--objects 30000 --chunks 120 --portraits 600 --occupancy-steps 1200 --trunk-steps 900",
        "--objects 500 --chunks 1 --portraits 20 --occupancy-steps 1 --trunk-steps 1 --validation 4",
    )
    mini_shapes.main(["--out", out, *sizes, "--workers", str(run.workers), "--seed", str(run.seed), *real])
    install(Path(out) / POINT_WEIGHTS.name, POINT_WEIGHTS)


def make_gallery(run: Run) -> None:
    mini_gallery.main([str(run.data), "--out", str(GALLERY), *run.sized("", "--photos-per-class 1 --every 40")])


def make_kinds(run: Run) -> None:
    mini_kinds.main(["--out", str(KINDS)])


STAGES: dict[str, Stage] = {
    "vocabulary": Stage(
        make=make_vocabulary, says="what can be named: vocabulary.json", minutes=0.1, needs=("synsets", "wordnet")
    ),
    "words": Stage(make=make_words, says="everyday nouns: words.safetensors", minutes=1, needs=("wordnet",)),
    "heads": Stage(
        make=part_of_adapter("heads"), says="names learnt from photographs and drawings: mini.safetensors", minutes=15
    ),
    "calibration": Stage(
        make=part_of_adapter("calibration"), says="when to hedge, in the same file like the next three", minutes=2
    ),
    "relevance": Stage(make=part_of_adapter("relevance"), says="which questions concern the medium", minutes=30),
    "adapter": Stage(make=make_adapter, says="what is seen, into words", minutes=170),
    "verdicts": Stage(make=make_verdicts, says="yes and no", minutes=25),
    "told": Stage(make=make_told, says="replies about several media: told.safetensors", minutes=40),
    "attributes": Stage(
        make=make_attributes,
        says="colours and settings: attributes.safetensors, attributes_told.safetensors",
        minutes=20,
    ),
    "audio": Stage(make=make_audio, says="the ears: audio.safetensors, audio_attributions.txt", minutes=30),
    "shapes": Stage(make=make_shapes, says="the point-cloud encoder: points.safetensors", minutes=11),
    "kinds": Stage(make=make_kinds, says="what kinds all these names belong to: kinds.json", minutes=0.1),
    "gallery": Stage(make=make_gallery, says="pictures and names to search: gallery/", minutes=3),
}


def chosen_stages(wanted: Sequence[str] | None, run: Run) -> list[str]:
    """Return the stages to run in their order. Raises `SystemExit` when a stage asked for lacks what it needs."""
    lacking = {
        name: [f"--{option}" for option in stage.needs if getattr(run, option) is None]
        for name, stage in STAGES.items()
    }
    for name in wanted or ():
        if lacking[name]:
            raise SystemExit(f"the stage {name} needs {' and '.join(lacking[name])}; see --help of mini_vocabulary")
    return [name for name in STAGES if name in wanted] if wanted else [name for name in STAGES if not lacking[name]]


def run_stages(names: Sequence[str], run: Run) -> None:
    """Run the stages that `out` does not say are finished, under one progress bar."""
    record = run.out / "finished.json"
    finished: dict[str, float] = json.loads(record.read_text()) if record.exists() else {}
    with tqdm(total=sum(STAGES[name].minutes for name in names), unit="min", desc="mini") as bar:
        for name in names:
            bar.set_description(f"mini: {name}")
            if name not in finished:
                started = time.perf_counter()
                STAGES[name].make(run)
                finished[name] = round((time.perf_counter() - started) / 60, 2)
                record.write_text(json.dumps(finished, indent=1) + "\n")
            bar.update(STAGES[name].minutes)
    for name in names:
        print(f"{name:<12} {finished[name]:>7.1f} minutes")


def parse_arguments(argv: Sequence[str] | None) -> tuple[Sequence[str] | None, Run]:
    stages = "\n".join(f"- `{name}`: {stage.says}" for name, stage in STAGES.items())
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").format(stages=stages), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), metavar="STAGE")
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="where the stages keep their work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread that train together")
    parser.add_argument("--synsets", type=Path, help="timm's data/_info")
    parser.add_argument("--wordnet", type=Path, help="WordNet's dict")
    parser.add_argument("--sweethome", type=Path, help="Debian's sweethome3d and sweethome3d-furniture, unpacked")
    parser.add_argument("--minutes", type=float, default=170, help="of the adapter's training")
    parser.add_argument("--go-on", action="store_true", help="train the shipped adapter further, not one from nothing")
    parser.add_argument(
        "--verdict-steps", type=int, default=120, help="of the adapter's yes and no; 0: the judge alone"
    )
    parser.add_argument("--small", action="store_true", help="a few examples and steps a stage")
    given = vars(parser.parse_args(argv))
    wanted, is_small = given.pop("stages"), given.pop("small")
    return wanted, Run(is_small=is_small, **given)


def main(argv: Sequence[str] | None = None) -> None:
    wanted, run = parse_arguments(argv)
    names = chosen_stages(wanted, run)
    run.out.mkdir(parents=True, exist_ok=True)
    for name in [name for name in STAGES if name not in names]:
        print(f"{name}: kept as it is")
    run_stages(names, run)


if __name__ == "__main__":
    main()
