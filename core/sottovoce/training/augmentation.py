"""Noise, reverberation and speed changes for speech at 16 kHz, drawn from a seeded generator; SpecAugment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve, resample_poly

SAMPLE_RATE = 16000
NOISE_KINDS = ("white", "pink", "babble")
Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Condition:
    """Recording condition of an utterance."""

    level_db: float
    """Root mean square level of the speech, in dB of full scale."""
    floor: float
    """Standard deviation of the microphone's own noise, in units of the last bit of 16."""
    noise: str | None = None
    """Kind of the added noise; ``None`` for a quiet room."""
    snr_db: float | None = None
    """Speech to noise ratio of the added noise."""
    rt60: float | None = None
    """Seconds in which the room's echo falls by 60 dB; ``None`` for no echo."""
    direct_db: float = 6.0
    """Energy of the direct sound over that of the echo, in dB."""


def draw_condition(generator: np.random.Generator, snr_db: tuple[float, float] = (10.0, 25.0)) -> Condition:
    """Draw a condition: noise on half of the utterances and an echo on a third of them."""
    noisy, echoing = generator.random() < 1 / 2, generator.random() < 1 / 3
    return Condition(
        level_db=round(generator.uniform(-30, -18), 1),
        floor=round(generator.uniform(0.5, 3), 2),
        noise=str(generator.choice(NOISE_KINDS)) if noisy else None,
        snr_db=round(generator.uniform(*snr_db), 1) if noisy else None,
        rt60=round(generator.uniform(0.15, 0.6), 2) if echoing else None,
        direct_db=round(generator.uniform(0, 10), 1),
    )


def power(samples: Waveform) -> float:
    """Compute the mean power of a signal, never zero."""
    return float(np.mean(np.square(samples, dtype=np.float64))) + 1e-12


def pink_noise(length: int, generator: np.random.Generator) -> Waveform:
    """Return noise whose power falls with the frequency."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.size), 1))
    return np.fft.irfft(spectrum, length).astype(np.float32)


def babble(length: int, talkers: list[Waveform], generator: np.random.Generator) -> Waveform:
    """Return five people talking at once, cut from the talkers' speech."""
    mixture = np.zeros(length, np.float32)
    for talker in generator.choice(len(talkers), size=5):
        speech = talkers[talker]
        shifted = np.roll(np.resize(speech, max(length, speech.size)), -int(generator.integers(speech.size)))
        mixture += shifted[:length] / np.float32(np.sqrt(power(speech)))
    return mixture


def add_noise(
    speech: Waveform, kind: str, snr_db: float, talkers: list[Waveform], generator: np.random.Generator
) -> Waveform:
    """Add noise of one kind at a speech to noise ratio in dB."""
    if kind == "babble":
        noise = babble(speech.size, talkers, generator)
    elif kind == "pink":
        noise = pink_noise(speech.size, generator)
    else:
        noise = generator.standard_normal(speech.size, dtype=np.float32)
    scale = np.sqrt(power(speech) / power(noise) / 10 ** (snr_db / 10))
    return speech + noise * np.float32(scale)


def reverberate(speech: Waveform, rt60: float, direct_db: float, generator: np.random.Generator) -> Waveform:
    """Convolve speech with a direct sound followed by exponentially decaying noise."""
    time = np.arange(1, int(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = generator.standard_normal(time.size) * 10 ** (-3 * time / rt60)
    tail *= np.sqrt(10 ** (-direct_db / 10) / np.sum(tail**2))
    response = np.concatenate(([1.0], tail)).astype(np.float32)
    echoing: Waveform = fftconvolve(speech, response)[: speech.size].astype(np.float32)
    return echoing


def change_speed(speech: Waveform, percent: int) -> Waveform:
    """Play speech at a speed in percent, which also moves its pitch, as a tape does."""
    return speech if percent == 100 else resample_poly(speech, 100, percent).astype(np.float32)


def degrade(
    speech: Waveform, condition: Condition, talkers: list[Waveform], generator: np.random.Generator
) -> Waveform:
    """Put clean speech into a recording condition.

    Args:
        speech: Clean speech.
        condition: The recording condition.
        talkers: Clean speech of others, for babble.
        generator: Source of the noise.

    Returns:
        Waveform within full scale.
    """
    speech = speech * np.float32(10 ** (condition.level_db / 20) / np.sqrt(power(speech)))
    if condition.rt60 is not None:
        speech = reverberate(speech, condition.rt60, condition.direct_db, generator)
    if condition.noise is not None and condition.snr_db is not None:
        speech = add_noise(speech, condition.noise, condition.snr_db, talkers, generator)
    speech = speech + generator.standard_normal(speech.size, dtype=np.float32) * np.float32(condition.floor / 32768)
    speech /= np.float32(max(1.0, float(np.abs(speech).max()) / 0.97))
    return speech
