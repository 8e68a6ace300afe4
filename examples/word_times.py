"""Adds the exact time of every word to the manifests of the bundled speech, as espeak-ng itself tells it."""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import sys
import zlib
from ctypes.util import find_library
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly
from tqdm import tqdm

from mandarin_commands import pinyin
from sottovoce.training.augmentation import SAMPLE_RATE, Waveform

Row = dict[str, Any]
# Names and numbers of espeak-ng's speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, RATE, PITCH = 2, 1, 1, 3
WITH_PHONEMES_AND_END_PAUSE = 0x1100
LIST_TERMINATED, WORD, PHONEME = 0, 1, 7


class EventId(ctypes.Union):
    """Subject of an event: the number of a word or the name of a phoneme."""

    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    """`espeak_EVENT`: something that happens at one sample of the speech."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", EventId),
    ]


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Spoken(NamedTuple):
    """Speech of espeak-ng: samples in -1 to 1, their rate, and the first and last sample of every word."""

    samples: Waveform
    rate: int
    words: list[tuple[int, int]]


def shared_library() -> str:
    """Name of espeak-ng's shared library.

    Raises:
        FileNotFoundError: It is not installed.
    """
    name = find_library("espeak-ng")
    if name is None:
        raise FileNotFoundError("espeak-ng's library is missing; install it (Debian: apt install espeak-ng)")
    return name


def word_spans(events: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """First and last sample of every word, from events of kind, sample and phoneme.

    A word starts with its first phoneme, so that the closure before a plosive is not part of it, and ends where the
    pause or word boundary after its last phoneme starts.
    """
    spans: list[tuple[int, int]] = []
    start = None
    for kind, sample, phoneme in events:
        if kind != PHONEME:
            continue
        silent = phoneme.startswith("_")
        if silent and start is not None:
            spans.append((start, sample))
            start = None
        elif not silent and start is None:
            start = sample
    return spans


def speak(arguments: tuple[str, str, int, int]) -> Spoken:
    """Speaks a sentence of pinyin as `espeak-ng -w` does, in a process that has not spoken yet.

    Args:
        arguments: The pinyin, the voice's variant, the rate and the pitch.

    Returns:
        The speech, sample for sample that of the program.
    """
    text, voice, speed, pitch = arguments
    library = ctypes.CDLL(shared_library())
    blocks: list[npt.NDArray[np.int16]] = []
    events: list[tuple[int, int, str]] = []

    def collect(wave: Any, count: int, happened: Any) -> int:
        if wave and count > 0:
            blocks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while (event := happened[index]).type != LIST_TERMINATED:
            name = event.id.string.decode() if event.type == PHONEME else ""
            events.append((event.type, event.sample, name))
            index += 1
        return 0

    callback, data = Callback(collect), text.encode()
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
    library.espeak_SetSynthCallback(callback)
    if rate <= 0 or library.espeak_SetVoiceByName(f"cmn-latn-pinyin+{voice}".encode()):
        raise ValueError(f"espeak-ng does not have the voice cmn-latn-pinyin+{voice}")
    library.espeak_SetParameter(RATE, speed, 0)
    library.espeak_SetParameter(PITCH, pitch, 0)
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, WITH_PHONEMES_AND_END_PAUSE, None, None)
    return Spoken(np.concatenate(blocks).astype(np.float32) / np.float32(32768), rate, word_spans(events))


def loud_part(speech: Waveform, key: str) -> tuple[int, int, int, int]:
    """Find the samples at which an utterance of the corpus is cut.

    Args:
        speech: The synthesiser's speech at 16 kHz.
        key: Key of the utterance, the seed of the silence around it.

    Returns:
        The first and the last loud sample, one past the end, and how many samples of silence go before and after.
    """
    loud = np.flatnonzero(np.abs(speech) > 0.01 * np.abs(speech).max())
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    before, after = (int(seconds * SAMPLE_RATE) for seconds in generator.uniform(0.1, 0.3, 2))
    return int(loud[0]), int(loud[-1]) + 1, before, after


def words_of(row: Row, spoken: Spoken, samples: int) -> list[Row]:
    """Return the words of a manifest line with their times in seconds from the start of the utterance.

    Args:
        row: The line of the manifest.
        spoken: Its sentence, as espeak-ng speaks it here.
        samples: Waveform that the utterance has in the corpus.

    Raises:
        ValueError: This espeak-ng speaks the sentence otherwise than the one that made the corpus.
    """
    speech = resample_poly(spoken.samples, SAMPLE_RATE // 50, spoken.rate // 50).astype(np.float32)
    first, last, before, after = loud_part(speech, row["key"])
    if len(spoken.words) != len(row["target"]) or before + last - first + after != samples:
        raise ValueError(f"{row['key']}: the audio is not what this espeak-ng says; make the corpus anew")
    words, shift, earliest = [], before / SAMPLE_RATE - first / SAMPLE_RATE, 0.0
    for text, span in zip(row["target"], spoken.words, strict=True):
        start, end = (min(max(at / spoken.rate + shift, earliest), samples / SAMPLE_RATE) for at in span)
        words.append({"text": text, "start": round(start, 4), "end": round(end, 4)})
        earliest = end
    return words


def sample_count(folder: Path, row: Row) -> int:
    """Read the samples of an utterance: its part of a voice's file, or its own file."""
    if "start" in row:
        return int(round(row["end"] * SAMPLE_RATE) - round(row["start"] * SAMPLE_RATE))
    return int(soundfile.info(folder / row["source"]).frames)


def add_words(manifest: Path) -> None:
    """Write the language and the words' times into every line of a manifest."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    sentences = [(pinyin(row["target"]), row["voice"], row["rate"], row["pitch"]) for row in rows]
    # What espeak-ng says depends a little on what it said before, so that every sentence gets a process of its own.
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for row, spoken in tqdm(
            zip(rows, pool.imap(speak, sentences), strict=True), f"{manifest.stem} words", len(rows), unit="utterance"
        ):
            row["language"] = "Chinese"
            row["words"] = words_of(row, spoken, sample_count(manifest.parent, row))
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    manifest.write_text("".join(lines), encoding="utf-8")


def main() -> int:
    """Add the words' times to the manifests of a corpus that has its audio already."""
    parser = argparse.ArgumentParser(description=__doc__)
    folder = Path(__file__).parent / "data" / "mandarin-commands"
    parser.add_argument("--data", type=Path, default=folder, help="the corpus (default: the bundled data)")
    options = parser.parse_args()
    try:
        shared_library()
    except FileNotFoundError as error:
        print(f"word_times.py: {error}", file=sys.stderr)
        return 1
    for split in ("train", "dev", "calibration", "test"):
        add_words(options.data / f"{split}.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
