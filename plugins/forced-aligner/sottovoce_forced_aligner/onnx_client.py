#!/usr/bin/env python3
"""Find when each word of a text is said, by an exported aligner; needs onnxruntime, numpy and tokenizers alone.

python align.py talk.wav --text "what was said" --language English  # or: Aligner(directory)(samples, text)
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import unicodedata
import wave
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

try:
    import numpy as np
except ImportError:
    sys.exit("align.py needs numpy: pip install numpy onnxruntime tokenizers")

Run = Callable[[Mapping[str, Any]], Any]
_CJK = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f]"
)


class Aligner:
    """Aligner by a graph, with the tokenizer and the settings that lie beside it."""

    def __init__(self, directory: Path, run: Run | None = None, threads: int = 0) -> None:
        """Load an exported directory; ``run`` takes the inputs by name and returns logits, by default onnxruntime."""
        self.settings: dict[str, Any] = json.loads((directory / "aligner.json").read_text(encoding="utf-8"))
        self._tokenizer = _needed("tokenizers").Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._run = run or onnx_run(directory / self.settings["graph"], threads)
        self._filters = mel_filters(self.settings)

    def __call__(self, samples: Any, text: str, language: str = "Chinese") -> list[dict[str, Any]]:
        """Return the words of a text in samples ``[time]`` of the model's rate, with their times in seconds."""
        seconds, longest = len(samples) / self.settings["sampling_rate"], self.settings["longest_seconds"]
        if not 0 < seconds <= longest:
            raise ValueError(f"the audio has {seconds:.2f} s: this graph takes up to {longest:g}; cut it at a silence")
        words = split_words(text, find_language(language, self.settings["languages"]))
        if not words:
            raise ValueError(f"the text {text[:40]!r} has no words to align")
        logits, markers = self.logits(samples, words)
        bins = logits[markers].argmax(axis=-1).astype(np.float64)
        times = np.array(repaired((bins * self.settings["bin_milliseconds"]).tolist())) / 1000
        pairs = np.maximum.accumulate(times).clip(0, seconds).round(3).reshape(-1, 2).tolist()
        return [{"text": word, "start": start, "end": end} for word, (start, end) in zip(words, pairs, strict=True)]

    def logits(self, samples: Any, words: Sequence[str]) -> tuple[Any, Any]:
        """Return logits ``[tokens, bins]``, and which tokens mark the start or the end of a word."""
        features, frames = self.features(samples)
        ids = self.tokens(words, frames)
        logits = self._run({"input_features": features, "frames": np.array([frames]), "input_ids": ids[None]})
        return logits[0], ids == self.settings["timestamp_token"]

    def features(self, samples: Any) -> tuple[Any, int]:
        """Return log-mel features ``[1, mels, frames]`` in whole attention windows, and how many frames are real."""
        size, hop = self.settings["n_fft"], self.settings["hop_length"]
        samples = np.pad(samples, (0, max(0, self.settings["least_samples"] - len(samples)))).astype(np.float32)
        frames = len(samples) // hop
        samples = np.pad(samples, size // 2, mode="reflect")
        pieces = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop][:frames]
        window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
        mel = (np.abs(np.fft.rfft(pieces * window)) ** 2).astype(np.float32) @ self._filters
        log = np.log10(np.maximum(mel, 1e-10)).T
        log = (np.maximum(log, log.max() - 8) + 4) / 4
        return np.pad(log, ((0, 0), (0, -frames % self.settings["window_frames"])))[None].astype(np.float32), frames

    def tokens(self, words: Sequence[str], frames: int) -> Any:
        """Return the tokens ``[tokens]`` of the prompt: the audio's, and each word with its two markers."""
        chunk, prompt = self.settings["chunk_frames"], self.settings["prompt"]
        # Three convolutions halve each chunk.
        count = frames // chunk * -(-chunk // 8) - -(frames % chunk) // 8
        text = prompt["before"] + prompt["audio"] * count + prompt["after"]
        text += prompt["between"].join(words) + prompt["end"]
        ids = np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
        if np.sum(ids == self.settings["timestamp_token"]) != 2 * len(words):
            raise ValueError("tokenizer.json and aligner.json are of different models; export the model again")
        return ids


def onnx_run(path: Path, threads: int = 0) -> Run:
    """Return what runs a graph in onnxruntime on the CPU; 0 threads are one for each core."""
    runtime = _needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["logits"], dict(inputs))[0]


def mel_filters(settings: Mapping[str, Any]) -> Any:
    """Return Slaney's mel filters ``[frequencies, mels]`` up to the model's highest frequency."""
    count, rate = settings["mels"], settings["sampling_rate"]
    # Linear below 1000 Hz, where there are 15 mels; above, 27 mels are a factor of 6.4.
    step = np.log(6.4) / 27
    points = np.linspace(0, 15 + np.log(settings["highest_hz"] / 1000) / step, count + 2)
    points = np.where(points < 15, points * 200 / 3, 1000 * np.exp(step * (points - 15)))  # in Hz
    slopes = points - np.linspace(0, rate // 2, settings["n_fft"] // 2 + 1)[:, None]
    widths = np.diff(points)
    filters = np.maximum(0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    return (filters * (2 / (points[2:] - points[:-2]))).astype(np.float32)


def find_language(language: str, languages: Mapping[str, str]) -> str:
    """Return the name of a language from its name or code."""
    for code, name in languages.items():
        if language.strip().lower() in (code, name.lower()):
            return name
    raise ValueError(f"the language {language[:40]!r} cannot be aligned; languages: {', '.join(languages.values())}")


def split_words(text: str, language: str) -> list[str]:
    """Split a text as the model was trained: Chinese by characters, others by spaces; without punctuation."""
    text = unicodedata.normalize("NFC", text).strip()
    if language == "Japanese":
        return _kept(_needed("nagisa", " to split Japanese").tagging(text).words)
    if language == "Korean":
        return _kept(_needed("soynlp.tokenizer", " to split Korean").LTokenizer().tokenize(text))
    return _kept(_CJK.sub(r" \g<0> ", text).split())


def repaired(times: list[float]) -> list[int]:
    """Return times that never go back: those outside the longest rising series lie between their neighbours."""
    values, count = np.array(times), len(times)
    length, parent = np.ones(count, int), np.full(count, -1)
    for place in range(1, count):
        reach = np.where(values[:place] <= values[place], length[:place], 0)
        if reach.max() > 0:
            parent[place], length[place] = reach.argmax(), reach.max() + 1
    good = [int(length.argmax())]
    while parent[good[0]] >= 0:
        good.insert(0, int(parent[good[0]]))
    result = times.copy()
    for left, right in zip([-1, *good], [*good, count], strict=True):
        low = times[left] if left >= 0 else times[right]
        high = times[right] if right < count else times[left]
        for place in range(left + 1, right):
            result[place] = low if place - left <= right - place else high
            if right - left > 3:
                result[place] = low + (high - low) / (right - left) * (place - left)
    return [int(value) for value in result]


def read_audio(path: Path, rate: int) -> Any:
    """Return the samples ``[time]`` of a file; channels are averaged."""
    try:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                raise wave.Error(f"{8 * file.getsampwidth()} bits")
            values = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            samples, actual = values.astype(np.float32) / 32768, file.getframerate()
    except (wave.Error, EOFError):
        soundfile = _needed("soundfile", " for all but WAV of 16 bits")
        samples, actual = soundfile.read(path, dtype="float32", always_2d=True)
    if actual != rate:
        raise ValueError(f"{path}: has {actual} Hz, not {rate}; convert it: ffmpeg -i {path} -ac 1 -ar {rate} talk.wav")
    return samples.mean(axis=1)


def _kept(words: Sequence[str]) -> list[str]:
    kept = (
        "".join(x for x in word if x == "'" or unicodedata.category(x)[0] in "LN" or _CJK.match(x)) for word in words
    )
    return [word for word in kept if word]


def _needed(name: str, purpose: str = "") -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ValueError(f"{name} is needed{purpose}; pip install {name.partition('.')[0]}") from None


def main() -> None:
    """Print the times of the words as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--text", required=True, help="all that is said")
    parser.add_argument("--language", default="Chinese", help="name or code")
    parser.add_argument("--graph", help="file beside this one; by default that of the model's own precision")
    options = parser.parse_args()
    try:
        here = Path(__file__).resolve().parent
        aligner = Aligner(here, onnx_run(here / options.graph) if options.graph else None)
        samples = read_audio(options.audio, aligner.settings["sampling_rate"])
        words = aligner(samples, options.text, options.language)
    except Exception as error:
        sys.exit(f"align.py: {' '.join(str(error).split())}")
    sys.stdout.write(json.dumps({"text": options.text, "words": words}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
