"""Sounds made by code: tones, noises, signals and crude engines, two seconds at 16 kHz, and what makes copies differ.

S samples of float32; every function takes the generator it draws from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from core.types import AnyArray

RATE_HZ = 16000
NUM_SAMPLES = 2 * RATE_HZ
Generator = np.random.Generator
Maker = Callable[[Generator], AnyArray]


def times() -> AnyArray:
    return np.arange(NUM_SAMPLES, dtype=np.float32) / RATE_HZ


def coloured_noise(rng: Generator, exponent: float, num_samples: int = NUM_SAMPLES) -> AnyArray:
    """Return noise whose power falls with frequency to the `exponent`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.maximum(np.fft.rfftfreq(num_samples, 1 / RATE_HZ), 20.0)
    return unit(np.fft.irfft(spectrum * frequencies ** (-exponent / 2), num_samples))


def unit(samples: AnyArray) -> AnyArray:
    """Return samples of root mean square 1."""
    return np.asarray(samples / (np.sqrt(np.mean(np.square(samples))) + 1e-9), dtype=np.float32)


def band_pass(samples: AnyArray, low_hz: float, high_hz: float, order: int = 2) -> AnyArray:
    limits = [max(low_hz, 20.0), min(high_hz, 0.48 * RATE_HZ)]
    return np.asarray(sosfilt(butter(order, limits, "band", fs=RATE_HZ, output="sos"), samples), dtype=np.float32)


def _buzz(frequency_hz: AnyArray, num_harmonics: int, tilt: float) -> AnyArray:
    """Return a harmonic tone along a curve of frequencies; `tilt` is how fast the harmonics fall."""
    phase = 2 * np.pi * np.cumsum(frequency_hz) / RATE_HZ
    parts = [np.sin(n * phase) * n**-tilt * (n * frequency_hz < 0.45 * RATE_HZ) for n in range(1, num_harmonics + 1)]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float32)


def _pulses(rng: Generator, on_s: float, off_s: float) -> AnyArray:
    return ((times() + rng.uniform(0, on_s + off_s)) % (on_s + off_s) < on_s).astype(np.float32)


def tone(rng: Generator) -> AnyArray:
    return np.asarray(np.sin(2 * np.pi * np.exp(rng.uniform(np.log(80), np.log(6000))) * times()))


def noise(rng: Generator) -> AnyArray:
    return coloured_noise(rng, rng.choice([0.0, 1.0, 2.0]))


def chirp(rng: Generator) -> AnyArray:
    low, high = np.sort(np.exp(rng.uniform(np.log(100), np.log(6000), 2)))
    position = (times() * rng.uniform(0.3, 3)) % 1
    position = position if rng.random() < 0.5 else 1 - position
    return _buzz((low * (high / low) ** position).astype(np.float32), 1, 1)


def siren(rng: Generator) -> AnyArray:
    low, high = rng.uniform(400, 800), rng.uniform(1000, 1700)
    sweep = times() * np.exp(rng.uniform(np.log(0.2), np.log(5))) + rng.random()
    shapes = (0.5 - 0.5 * np.cos(2 * np.pi * sweep), (sweep % 1 < 0.5).astype(float), np.abs(2 * (sweep % 1) - 1))
    shape = shapes[rng.integers(3)]
    return _buzz((low + (high - low) * shape).astype(np.float32), int(rng.integers(2, 10)), rng.uniform(0.7, 2))


def beep(rng: Generator) -> AnyArray:
    on_s, off_s = rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.8)
    frequency = np.full(NUM_SAMPLES, rng.uniform(600, 3500), np.float32)
    return _buzz(frequency, int(rng.integers(1, 6)), 1) * _pulses(rng, on_s, off_s)


def alarm_clock(rng: Generator) -> AnyArray:
    """Groups of four short beeps."""
    frequency = np.full(NUM_SAMPLES, rng.uniform(1800, 3000), np.float32)
    return _buzz(frequency, 3, 1) * _pulses(rng, 0.06, 0.06) * _pulses(rng, 0.5, 0.5)


def smoke_alarm(rng: Generator) -> AnyArray:
    frequency = np.full(NUM_SAMPLES, rng.uniform(2800, 3400), np.float32)
    return _buzz(frequency, 2, 1) * _pulses(rng, rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.5))


def telephone(rng: Generator) -> AnyArray:
    """A ringing bell: inharmonic partials beaten about twenty times a second."""
    base = rng.uniform(800, 1600)
    partials = sum(np.sin(2 * np.pi * base * ratio * times()) for ratio in (1, 1.26, 2.1, 2.9))
    strikes = 0.55 + 0.45 * np.sign(np.sin(2 * np.pi * rng.uniform(16, 25) * times()))
    return np.asarray(partials * strikes * _pulses(rng, 1.2, 0.8), dtype=np.float32)


def _two_tones(rng: Generator, low_hz: float, high_hz: float) -> AnyArray:
    shift = rng.uniform(0.98, 1.02)
    return np.sin(2 * np.pi * low_hz * shift * times()) + np.sin(2 * np.pi * high_hz * shift * times())


def dial_tone(rng: Generator) -> AnyArray:
    return _two_tones(rng, 350, 440) if rng.random() < 0.7 else np.sin(2 * np.pi * 425 * times())


def busy_signal(rng: Generator) -> AnyArray:
    return _two_tones(rng, 480, 620) * _pulses(rng, rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.5))


def dialing(rng: Generator) -> AnyArray:
    length = int(RATE_HZ * rng.uniform(0.08, 0.3))
    pieces = [
        _two_tones(rng, rng.choice([697, 770, 852, 941]), rng.choice([1209, 1336, 1477]))[:length]
        for _ in range(NUM_SAMPLES // length + 1)
    ]
    gaps = (np.arange(length) < length * rng.uniform(0.4, 0.8)).astype(np.float32)
    return np.concatenate([piece * gaps for piece in pieces])[:NUM_SAMPLES]


def mains_hum(rng: Generator) -> AnyArray:
    base = np.full(NUM_SAMPLES, rng.choice([50, 60, 100, 120]), np.float32)
    return _buzz(base, int(rng.integers(3, 20)), rng.uniform(0.5, 2))


def engine(rng: Generator) -> AnyArray:
    """A train of firings at a wandering rate through a resonance, over a rumble."""
    rate = rng.uniform(18, 110) * (1 + rng.uniform(-0.3, 0.6) * times() / 2)
    wander = 1 + 0.02 * np.cumsum(rng.standard_normal(NUM_SAMPLES)) / np.sqrt(RATE_HZ)
    firing = _buzz((rate * wander).astype(np.float32), 40, rng.uniform(0.3, 0.9))
    low = rng.uniform(60, 300)
    return unit(firing) + 0.7 * unit(band_pass(firing, low, 4 * low)) + rng.uniform(0.1, 0.6) * coloured_noise(rng, 2)


def horn(rng: Generator) -> AnyArray:
    base = rng.uniform(280, 480)
    ratios = (1.0, rng.choice([1.2, 1.25, 1.26, 1.5]))
    parts = [_buzz(np.full(NUM_SAMPLES, base * ratio, np.float32), 16, rng.uniform(0.4, 1)) for ratio in ratios]
    held = _pulses(rng, rng.uniform(0.3, 3), rng.uniform(0.2, 1))
    faded = fftconvolve(held, np.hanning(400) / 200, "same")
    return np.asarray(np.sum(parts, axis=0) * faded, dtype=np.float32)


def church_bell(rng: Generator) -> AnyArray:
    base, out = rng.uniform(150, 500), np.zeros(NUM_SAMPLES, np.float32)
    for start in np.arange(rng.uniform(0, 0.3), 2, rng.uniform(0.8, 2)):
        age = times() - start
        for ratio, decay in ((0.5, 0.6), (1, 1), (1.2, 1.5), (1.5, 2), (2, 2.5), (2.7, 4), (3, 5), (4.2, 7)):
            partial = np.sin(2 * np.pi * base * ratio * rng.uniform(0.995, 1.005) * age)
            out += np.where(age > 0, np.exp(-np.maximum(age, 0) * decay) * partial, 0)
    return out


def wind(rng: Generator) -> AnyArray:
    """Brown noise through a slow, swaying band."""
    gusts = np.interp(times(), np.linspace(0, 2, 8), rng.uniform(0.2, 1, 8)).astype(np.float32)
    low = rng.uniform(80, 400)
    return gusts * band_pass(coloured_noise(rng, rng.uniform(1, 2)), low, low * rng.uniform(2, 6))


MAKERS: dict[str, tuple[Maker, float]] = {  # what is heard -> how, and how far the name is to be believed
    "tone": (tone, 0.9), "noise": (noise, 0.9), "chirp": (chirp, 0.6), "siren": (siren, 0.8), "beep": (beep, 0.8),
    "alarm clock": (alarm_clock, 0.8), "smoke alarm": (smoke_alarm, 0.7), "telephone": (telephone, 0.6),
    "dial tone": (dial_tone, 0.8), "busy signal": (busy_signal, 0.8), "telephone dialing": (dialing, 0.8),
    "mains hum": (mains_hum, 0.8), "engine": (engine, 0.5), "car horn": (horn, 0.5), "church bell": (church_bell, 0.6),
    "wind": (wind, 0.5),
}  # fmt: skip


def respeed(samples: AnyArray, factor: float) -> AnyArray:
    """Play faster (and higher) by `factor`."""
    positions = np.arange(0, samples.size - 1, factor)
    return np.asarray(np.interp(positions, np.arange(samples.size), samples), dtype=np.float32)


def reverberate(rng: Generator, samples: AnyArray) -> AnyArray:
    length = int(RATE_HZ * rng.uniform(0.1, 0.6))
    tail = rng.standard_normal(length) * np.exp(-np.arange(length) / (length / rng.uniform(4, 8)))
    tail[0] = rng.uniform(5, 40)
    return unit(fftconvolve(samples, tail)[: samples.size])


def band_limit(rng: Generator, samples: AnyArray) -> AnyArray:
    """Imitate telephones, small loudspeakers and low sample rates."""
    return band_pass(samples, rng.choice([30, 30, 100, 300]), rng.choice([3300, 3800, 5500, 7000]), order=4)


def shelve(rng: Generator, samples: AnyArray) -> AnyArray:
    """Tilt the spectrum by up to 6 dB an octave, as other microphones and distances do."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.maximum(np.fft.rfftfreq(samples.size, 1 / RATE_HZ), 50.0) / 1000
    return np.fft.irfft(spectrum * frequencies ** rng.uniform(-0.5, 0.5), samples.size).astype(np.float32)


def clip_peaks(rng: Generator, samples: AnyArray) -> AnyArray:
    limit = np.abs(samples).max() * rng.uniform(0.2, 0.8)
    return np.clip(samples, -limit, limit)
