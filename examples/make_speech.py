"""Makes a small corpus of synthetic Mandarin commands with espeak-ng: training, dev, calibration and test speech."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly
from tqdm import tqdm

from mandarin_commands import pinyin, sentences
from sottovoce.training.augmentation import SAMPLE_RATE, Waveform, degrade, draw_condition, power
from word_times import add_words, loud_part

TEST_VOICES = ("f3", "Annie", "linda", "belinda", "m4", "Michael", "pablo", "robert")
DEV_VOICES = ("f5", "Alicia", "Mike", "miguel")
TRAIN_VOICES = (
    "f1",
    "f2",
    "f4",
    "aunty",
    "Andrea",
    "anika",
    "grandma",
    "steph",
    "steph2",
    "shelby",
    "zac",
    "m1",
    "m2",
    "m3",
    "m5",
    "m6",
    "m7",
    "m8",
    "Alex",
    "Andy",
    "adam",
    "boris",
    "caleb",
    "david",
    "Denis",
    "Diogo",
    "ed",
    "edward",
    "gustave",
    "john",
    "Lee",
    "max",
    "Nguyen",
    "norbert",
    "paul",
    "sandro",
    "Storm",
    "travis",
    "victor",
    "klatt4",
)
# The Opus setting of libsndfile that gives about 16 kbit/s, at which 16 kHz speech still sounds clean.
OPUS_COMPRESSION = 0.96


@dataclass(frozen=True)
class Utterance:
    """One sentence to be spoken: its key and text, and the voice, rate (words a minute) and pitch (0 to 99)."""

    key: str
    text: str
    voice: str
    rate: int
    pitch: int


def plan(split: str, voices: tuple[str, ...], count: int, held_out: bool, seed: int) -> list[Utterance]:
    """Chooses the sentences of a split and deals them to its voices in turn."""
    source = random.Random(f"{seed}-{split}")
    texts = sentences(count, held_out, source, repeat=split == "train")
    utterances = []
    for number, text in enumerate(texts):
        voice, rate, pitch = voices[number % len(voices)], source.randint(110, 220), source.randint(20, 80)
        utterances.append(Utterance(f"{split}-{number:04d}", text, voice, rate, pitch))
    return utterances


def trim(speech: Waveform, key: str) -> Waveform:
    """Cuts the silence around speech to a random 0.1 to 0.3 seconds, faded to nothing."""
    first, last, before, after = loud_part(speech, key)
    return np.concatenate((np.zeros(before, np.float32), speech[first:last], np.zeros(after, np.float32)))


def speak(utterance: Utterance) -> Waveform:
    """Speaks one utterance with espeak-ng, at 16 kHz and a level of -23 dB of full scale."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        voice = f"cmn-latn-pinyin+{utterance.voice}"
        options = ["-v", voice, "-s", str(utterance.rate), "-p", str(utterance.pitch), "-w", str(path)]
        subprocess.run(["espeak-ng", *options, pinyin(utterance.text)], check=True)
        samples, rate = soundfile.read(path, dtype="float32")
    speech = resample_poly(samples, SAMPLE_RATE // 50, rate // 50).astype(np.float32)
    speech = trim(speech, utterance.key)
    speech *= np.float32(10 ** (-23 / 20) / np.sqrt(power(speech)))
    return speech / max(1.0, float(np.abs(speech).max()) / 0.97)


def spoken(utterances: list[Utterance], label: str) -> Iterator[tuple[Utterance, Waveform]]:
    """Speaks utterances, in order, with a progress bar."""
    with ThreadPoolExecutor() as executor:
        yield from tqdm(
            zip(utterances, executor.map(speak, utterances), strict=True), label, len(utterances), unit="utterance"
        )


def write_manifest(path: Path, rows: list[dict[str, object]]) -> None:
    """Write a manifest in JSON Lines with FunASR's keys."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def describe(utterance: Utterance, source: str) -> dict[str, object]:
    """Return the manifest line of an utterance."""
    row: dict[str, object] = {"key": utterance.key, "source": source, "target": utterance.text}
    return row | {"voice": utterance.voice, "rate": utterance.rate, "pitch": utterance.pitch}


def write_voice(path: Path, speech: list[Waveform]) -> None:
    """Write the utterances of a voice one after the other into one Ogg Opus file."""
    with soundfile.SoundFile(
        path, "w", SAMPLE_RATE, 1, "OPUS", format="OGG", compression_level=OPUS_COMPRESSION
    ) as file:
        for samples in speech:
            file.write(samples)


def make_clean(folder: Path, split: str, utterances: list[Utterance]) -> list[Waveform]:
    """Make the clean speech of a split, one file a voice, and a manifest with offsets in seconds."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    by_voice: dict[str, list[Waveform]] = {}
    rows: list[dict[str, object]] = []
    for utterance, speech in spoken(utterances, split):
        earlier = by_voice.setdefault(utterance.voice, [])
        start = sum(samples.size for samples in earlier)
        earlier.append(speech)
        span = {"start": start / SAMPLE_RATE, "end": (start + speech.size) / SAMPLE_RATE}
        rows.append(describe(utterance, f"{split}/{utterance.voice}.opus") | span)
    for voice, speeches in tqdm(by_voice.items(), f"{split} files", unit="voice"):
        write_voice(folder / split / f"{voice}.opus", speeches)
    write_manifest(folder / f"{split}.jsonl", rows)
    return [np.concatenate(speeches) for speeches in by_voice.values()]


def make_degraded(folder: Path, split: str, utterances: list[Utterance], talkers: list[Waveform], seed: int) -> None:
    """Make a split with noise and reverberation baked in, one FLAC file an utterance."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    rows = []
    for utterance, speech in spoken(utterances, split):
        generator = np.random.default_rng([seed, zlib.crc32(utterance.key.encode())])
        condition = draw_condition(generator)
        name = f"{split}/{utterance.key}.flac"
        samples = degrade(speech, condition, talkers, generator)
        soundfile.write(folder / name, samples, SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)
        recording = {"noise": condition.noise, "snr_db": condition.snr_db, "rt60": condition.rt60}
        rows.append(describe(utterance, name) | recording)
    write_manifest(folder / f"{split}.jsonl", rows)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    folder = Path(__file__).parent / "data" / "mandarin-commands"
    parser.add_argument("--output", type=Path, default=folder, help="folder to write to (default: the bundled data)")
    parser.add_argument("--train-per-voice", type=int, default=58, help="training utterances of each voice")
    parser.add_argument("--dev", type=int, default=160, help="dev utterances")
    parser.add_argument("--calibration", type=int, default=64, help="calibration utterances")
    parser.add_argument("--test", type=int, default=160, help="test utterances")
    parser.add_argument("--seed", type=int, default=7, help="seed of sentences, voices and noise")
    return parser.parse_args()


def main() -> int:
    """Make the corpus."""
    options = arguments()
    if shutil.which("espeak-ng") is None:
        print("make_speech.py: espeak-ng is missing; install it (Debian: apt install espeak-ng)", file=sys.stderr)
        return 1
    seed, folder = options.seed, options.output
    count = options.train_per_voice * len(TRAIN_VOICES)
    talkers = make_clean(folder, "train", plan("train", TRAIN_VOICES, count, False, seed))
    make_clean(folder, "dev", plan("dev", DEV_VOICES, options.dev, True, seed))
    for split, voices, number in (
        ("calibration", TRAIN_VOICES, options.calibration),
        ("test", TEST_VOICES, options.test),
    ):
        make_degraded(folder, split, plan(split, voices, number, split == "test", seed), talkers, seed)
    for split in ("train", "dev", "calibration", "test"):
        add_words(folder / f"{split}.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
