"""Make sounds to train on: instruments and music from a SoundFont, speech from two synthesisers.

    python -m training.recipes.mini_audio_sources --out DIR [--soundfont FILE] [--seed S] [--validation]

Needs the Debian packages `fluidsynth`, `fluid-soundfont-gm` (FluidR3, MIT licence), `espeak-ng` and `flite`, as tools;
none of their files ends up in the trained weights. Writes `DIR/NAME/NUMBER.wav` at 16 kHz mono, NAME what is heard.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from models.mini.assets import VOCABULARY

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
PROGRAMS: dict[str, Sequence[int]] = {  # what is heard -> programs of General MIDI, counted from 0
    "piano": (0, 1, 3), "electric piano": (4, 5), "harpsichord": (6, 7), "glockenspiel": (9,), "vibraphone": (11,),
    "xylophone": (12, 13), "tubular bells": (14,), "organ": (16, 17, 18, 19), "accordion": (21, 23),
    "harmonica": (22,), "acoustic guitar": (24, 25), "electric guitar": (26, 27, 29, 30), "bass guitar": (32, 33, 34),
    "violin": (40, 41, 110), "cello": (42,), "double bass": (43,), "string orchestra": (44, 48, 49), "harp": (46,),
    "timpani": (47,), "choir": (52, 53), "trumpet": (56, 59), "trombone": (57,), "brass instrument": (58, 61),
    "French horn": (60,), "saxophone": (64, 65, 66, 67), "wind instrument": (68, 69, 70), "clarinet": (71,),
    "flute": (72, 73, 74, 75), "whistling": (78,), "synthesizer": (80, 81, 87, 90, 95, 99), "sitar": (104,),
    "banjo": (105,), "bagpipes": (109,), "steel drum": (114,), "wood block": (115,), "sea waves": (122,),
    "telephone": (124,), "helicopter": (125,), "applause": (126,), "gunshot": (127,),
}  # fmt: skip
UNKNOWN: dict[str, Sequence[int]] = {  # never trained on: what an encoder should be unsure about, or name by luck
    "bell": (112,), "cowbell": (113,), "drum": (116, 117, 118), "cymbal": (119,), "scraping": (120,),
    "breathing": (121,), "bird": (123,),
}  # fmt: skip
NUM_VALIDATED_INSTRUMENTS = 15
NUM_MELODIES, NUM_BANDS, NUM_DRUMS, NUM_UTTERANCES = 5, 40, 12, 240
TICKS = 96  # of a quarter note
SCALE = (0, 2, 4, 5, 7, 9, 11, 12, 14, 16)
DRUM_KEYS = (35, 36, 38, 40, 41, 42, 44, 45, 46, 48, 49, 51)
ESPEAK_VOICES = ("en-us", "en-gb", "de", "fr", "es", "it", "ru", "pl", "pt", "nl", "sv", "hi", "cmn")
ESPEAK_VARIANTS = ("m1", "m2", "m3", "m5", "m7", "f1", "f2", "f3", "f4", "f5", "croak")
FLITE_VOICES = ("kal16", "awb", "rms", "slt")

Event = tuple[int, bytes]


def midi_file(events: Sequence[Event]) -> bytes:
    """Return a one-track Standard MIDI File of `(tick, message)` pairs."""
    track, now = b"", 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track += _variable_length(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"
    head = b"MThd" + (6).to_bytes(4, "big") + b"\x00\x00\x00\x01" + TICKS.to_bytes(2, "big")
    return head + b"MTrk" + len(track).to_bytes(4, "big") + track


def _variable_length(value: int) -> bytes:
    pieces = [value & 127]
    while value := value >> 7:
        pieces.append(value & 127 | 128)
    return bytes(reversed(pieces))


def tempo(rng: random.Random) -> Event:
    return 0, b"\xff\x51\x03" + round(60e6 / rng.uniform(60, 170)).to_bytes(3, "big")


def melody(rng: random.Random, program: int, channel: int, num_beats: int = 24) -> list[Event]:
    """Return a random tune, some of it in chords, for one instrument."""
    events: list[Event] = [(0, bytes([0xC0 | channel, program]))]
    root, tick = rng.randint(40, 66), 0
    if program >= 122:
        root = 60
    while tick < num_beats * TICKS:
        length = rng.choice((TICKS // 2, TICKS // 2, TICKS, TICKS, 2 * TICKS))
        step = rng.randrange(len(SCALE) - 4)
        steps = (step, step + 2, step + 4) if rng.random() < 0.25 else (step,)
        velocity = rng.randint(60, 120)
        for key in (root + SCALE[i] for i in steps):
            events.append((tick, bytes([0x90 | channel, key, velocity])))
            events.append((tick + round(length * rng.uniform(0.5, 1.0)), bytes([0x80 | channel, key, 0])))
        tick += length if rng.random() < 0.9 else 2 * length
    return events


def drums(rng: random.Random, num_beats: int = 24) -> list[Event]:
    """Return a repeated bar of drums with some hits left out."""
    bar = [(i * TICKS // 2, rng.choice(DRUM_KEYS)) for i in range(8) for _ in range(rng.randint(0, 2))] or [(0, 36)]
    events: list[Event] = []
    for start in range(0, num_beats * TICKS, 4 * TICKS):
        for tick, key in bar:
            if rng.random() < 0.9:
                events.append((start + tick, bytes([0x99, key, rng.randint(60, 120)])))
                events.append((start + tick + TICKS // 4, bytes([0x89, key, 0])))
    return events


def render(events: Sequence[Event], soundfont: Path, target: Path) -> None:
    """Play a tune with fluidsynth into a mono-compatible WAV file at 16 kHz."""
    tune = target.with_suffix(".mid")
    tune.write_bytes(midi_file(events))
    command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-r", "16000", "-F", str(target), str(soundfont), str(tune)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tune.unlink()


def make_music(out: Path, soundfont: Path, rng: random.Random, every: int = 1) -> None:
    """Write every instrument alone, drum kits, and small bands as "music"; or each n-th of those."""
    programs = [(name, program) for name, numbers in PROGRAMS.items() for program in numbers]
    for name, program in tqdm(programs[::every], desc="instruments"):
        for i in range(0, NUM_MELODIES if program < 122 else 2, every):
            render([tempo(rng), *melody(rng, program, 0)], soundfont, _target(out, name, f"{program}-{i}"))
    for i in tqdm(range(0, NUM_DRUMS, every), desc="drum kits"):
        render([tempo(rng), *drums(rng)], soundfont, _target(out, "drum kit", str(i)))
    pitched = [program for _, program in programs if program < 112]
    for i in tqdm(range(0, NUM_BANDS, every), desc="bands"):
        parts = [melody(rng, rng.choice(pitched), channel) for channel in range(rng.randint(2, 4))]
        events = [tempo(rng), *(event for part in parts for event in part), *drums(rng)]
        render(events, soundfont, _target(out, "music", str(i)))


def make_validation(out: Path, soundfont: Path, rng: random.Random, every: int = 1) -> None:
    """Write new tunes of some trained instruments and of programs that training leaves out."""
    known = [(name, numbers[0]) for name, numbers in PROGRAMS.items() if numbers[0] < 122]
    unknown = [(name, program) for name, numbers in UNKNOWN.items() for program in numbers for _ in range(2)]
    chosen = rng.sample(known, NUM_VALIDATED_INSTRUMENTS)
    for i, (name, program) in enumerate(tqdm((chosen + unknown)[::every], desc="validation")):
        render([tempo(rng), *melody(rng, program, 0, 12)], soundfont, _target(out, name, str(i)))


def make_speech(out: Path, rng: random.Random, every: int = 1) -> None:
    """Write sentences of random nouns in many voices, a twentieth of them whispered."""
    nouns = [entry["name"] for entry in json.loads(VOCABULARY.read_text(encoding="utf-8"))["nouns"]]
    for i in tqdm(range(0, NUM_UTTERANCES, every), desc="speech"):
        words = rng.sample(nouns, 4)
        text = f"The {words[0]} is near the {words[1]}, but the {words[2]} and the {words[3]} are not."
        if i % 3 == 0:
            voice, target = rng.choice(FLITE_VOICES), _target(out, "speech", f"flite-{i}")
            command = ["flite", "-voice", voice, "-t", text, "-o", str(target)]
        else:
            whispers = i % 20 == 1
            variant = "whisper" if whispers else rng.choice(ESPEAK_VARIANTS)
            target = _target(out, "whispering" if whispers else "speech", f"espeak-{i}")
            voice = f"{rng.choice(ESPEAK_VOICES)}+{variant}"
            pace, pitch = str(rng.randint(120, 220)), str(rng.randint(20, 80))
            command = ["espeak-ng", "-v", voice, "-s", pace, "-p", pitch, "-w", str(target), text]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _target(out: Path, name: str, number: str) -> Path:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{number}.wav"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validation", action="store_true", help="write the few sounds that confidence is fitted on")
    parser.add_argument("--every", type=int, default=1, help="make each n-th sound alone")
    arguments = parser.parse_args(argv)
    out, soundfont, every = arguments.out, arguments.soundfont, arguments.every
    if arguments.validation:
        make_validation(out, soundfont, random.Random(arguments.seed + 1), every)
        return
    rng = random.Random(arguments.seed)
    make_music(out, soundfont, rng, every)
    make_speech(out, rng, every)


if __name__ == "__main__":
    main()
