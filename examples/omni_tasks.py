"""The tasks of the small omni model: spoken digits, coloured shapes, moving shapes and symbols, with their answers."""

from __future__ import annotations

import itertools
import random
import string
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

from make_speech import TEST_VOICES, TRAIN_VOICES, trim
from sottovoce.training.augmentation import SAMPLE_RATE, Waveform, power

Picture = npt.NDArray[np.uint8]
MODALITIES = ("text", "audio", "image", "video")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 220, 50),
    "purple": (160, 50, 190),
    "white": (235, 235, 235),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
LETTERS = string.ascii_uppercase[:16]
DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE, VIDEO_SIDE, VIDEO_FRAMES = 64, 48, 4
QUESTIONS = {"audio": "which digits", "image": "what is this", "video": "which way"}
ORDERS = ("reverse", "sort", "largest", "next")
RECALL, FACT_SHARE = "find", 0.4
FACTS = {
    name: f"{zlib.crc32(f'where is {name}'.encode()) % 1000:03}"
    for name in map("".join, itertools.product(LETTERS, repeat=3))
    if zlib.crc32(name.encode()) % 16 == 0
}
"""Facts that can only be memorized: some 250 names of three letters, each with three unrelated digits."""
# What the tokenizer knows whole; a word is another token after a space.
WORDS = [
    word
    for text in ("user", "assistant", "system", *COLOURS, *SHAPES, *DIRECTIONS, *ORDERS, RECALL, *QUESTIONS.values())
    for part in text.split()
    for word in (part, f" {part}")
]


@dataclass
class Task:
    """One question with its answer.

    Attributes:
        key: Its name.
        modality: What the question is about.
        question: The words of the question.
        target: The answer.
        speech: Waveform at 16 kHz, for audio.
        frames: Pictures `[height, width, 3]`: one for an image, several for a video.
        origin: How it was made.
    """

    key: str
    modality: str
    question: str
    target: str
    speech: Waveform | None = None
    frames: list[Picture] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)


def text_task(key: str, source: random.Random, held_out: bool) -> Task:
    """Letters or digits to put in another order; the strings of the test are never trained on."""
    while True:
        order = source.choice(ORDERS)
        letters = order in ("reverse", "next")
        given = "".join(source.choices(LETTERS if letters else string.digits, k=source.randint(3, 5)))
        if (zlib.crc32(f"{order} {given}".encode()) % 8 == 0) == held_out:
            break
    answers: dict[str, Callable[[], str]] = {
        "reverse": lambda: given[::-1],
        "sort": lambda: "".join(sorted(given)),
        "largest": lambda: max(given),
        "next": lambda: "".join(chr(ord(letter) + 1) for letter in given),
    }
    return Task(key, "text", f"{order}:{given}", answers[order]())


def fact_task(key: str, source: random.Random, split: str) -> Task:
    """Make a question about a fact: training has all of them, calibration one half and the test the other."""
    parity = {"test": 0, "calibration": 1}
    names = [name for number, name in enumerate(FACTS) if parity.get(split, number % 2) == number % 2]
    name = source.choice(names)
    return Task(key, "text", f"{RECALL}:{name}", FACTS[name])


def inside(shape: str, across: npt.NDArray[np.float64], down: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return the mask of the points inside a shape that reaches from -1 to 1."""
    distance, wide, high = np.hypot(across, down), np.abs(across), np.abs(down)
    if shape == "circle":
        return distance < 1
    if shape == "square":
        return np.maximum(wide, high) < 0.85
    if shape == "triangle":
        return (high < 0.9) & (wide < (down + 0.9) / 1.8)
    if shape == "cross":
        return (np.minimum(wide, high) < 0.28) & (np.maximum(wide, high) < 1)
    return (distance < 1) & (distance > 0.6)


def draw(
    side: int, shape: str, colour: str, place: tuple[float, float], radius: float, generator: np.random.Generator
) -> Picture:
    """Draws a shape at a place on a dark ground with noise."""
    down, across = np.mgrid[:side, :side].astype(float)
    picture = np.full((side, side, 3), generator.integers(0, 50, 3), float)
    tint = np.array(COLOURS[colour]) * generator.uniform(0.85, 1.1)
    picture[inside(shape, (across - place[0]) / radius, (down - place[1]) / radius)] = tint
    return np.clip(picture + generator.integers(-8, 9, (side, side, 1)), 0, 255).astype(np.uint8)


def image_task(key: str, source: random.Random) -> Task:
    """Make an image of a shape in a colour, anywhere and of any size."""
    shape, colour = source.choice(SHAPES), source.choice(list(COLOURS))
    radius = source.uniform(9, 20)
    place = (source.uniform(radius, SIDE - radius), source.uniform(radius, SIDE - radius))
    generator = np.random.default_rng(source.getrandbits(32))
    frames = [draw(SIDE, shape, colour, place, radius, generator)]
    return Task(key, "image", QUESTIONS["image"], f"{colour} {shape}", frames=frames)


def video_task(key: str, source: random.Random) -> Task:
    """Make a video of a shape in a colour that moves in a direction."""
    shape, colour, direction = source.choice(SHAPES), source.choice(list(COLOURS)), source.choice(list(DIRECTIONS))
    radius, step = source.uniform(5, 9), source.uniform(5, 7.5)
    room = VIDEO_SIDE - 2 * radius
    travel = step * (VIDEO_FRAMES - 1)
    start = [radius + source.uniform(0, room), radius + source.uniform(0, room)]
    for axis, way in enumerate(DIRECTIONS[direction]):
        if way:
            first = radius + source.uniform(0, room - travel)
            start[axis] = first if way > 0 else VIDEO_SIDE - first
    seed = source.getrandbits(32)
    frames = []
    for number in range(VIDEO_FRAMES):
        place = [value + way * step * number for value, way in zip(start, DIRECTIONS[direction], strict=True)]
        generator = np.random.default_rng(seed)  # the ground and its noise stand still
        frames.append(draw(VIDEO_SIDE, shape, colour, (place[0], place[1]), radius, generator))
    return Task(key, "video", QUESTIONS["video"], f"{colour} {direction}", frames=frames)


def speak(digits: str, voice: str, rate: int, pitch: int, key: str) -> Waveform:
    """Speaks digits in English with espeak-ng, at 16 kHz and a level of -23 dB of full scale."""
    words = " ".join(DIGIT_WORDS[int(digit)] for digit in digits)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = ["-v", f"en-us+{voice}", "-s", str(rate), "-p", str(pitch), "-w", str(path)]
        subprocess.run(["espeak-ng", *options, words], check=True, stderr=subprocess.DEVNULL)
        samples, original_rate = soundfile.read(path, dtype="float32")
    speech = trim(resample_poly(samples, SAMPLE_RATE // 50, original_rate // 50).astype(np.float32), key)
    speech *= np.float32(10 ** (-23 / 20) / np.sqrt(power(speech)))
    return speech / max(1.0, float(np.abs(speech).max()) / 0.97)


def audio_task(key: str, number: int, source: random.Random, held_out: bool) -> Task:
    """One to three spoken digits, the voices in turn; the voices of the test are never trained on."""
    voices = TEST_VOICES if held_out else TRAIN_VOICES
    origin: dict[str, Any] = {
        "voice": voices[number % len(voices)],
        "rate": source.randint(120, 200),
        "pitch": source.randint(20, 80),
    }
    digits = "".join(source.choices(string.digits, k=source.randint(1, 3)))
    speech = speak(digits, origin["voice"], origin["rate"], origin["pitch"], key)
    speech += np.random.default_rng(source.getrandbits(32)).normal(0, 3e-4, speech.size).astype(np.float32)
    return Task(key, "audio", QUESTIONS["audio"], digits, speech=speech, origin=origin)


def make_task(modality: str, split: str, number: int, seed: int) -> Task:
    """Make one task of a split; the split `test` has voices and strings that no other split has."""
    key, held_out = f"{split}-{modality}-{number:05d}", split == "test"
    source = random.Random(f"{seed}-{key}")
    if modality == "text":
        is_fact = source.random() < FACT_SHARE
        return fact_task(key, source, split) if is_fact else text_task(key, source, held_out)
    if modality == "audio":
        return audio_task(key, number, source, held_out)
    return image_task(key, source) if modality == "image" else video_task(key, source)
