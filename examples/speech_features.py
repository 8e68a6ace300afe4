"""Features of the bundled speech: read from manifests, put into random recording conditions, normalised."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from funasr.frontends.wav_frontend import WavFrontend
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from sottovoce.training.augmentation import SAMPLE_RATE, Waveform, change_speed, degrade, draw_condition

Row = dict[str, Any]
# Half precision halves the memory of several copies; the log energies lie within 30, where it is exact to 0.02.
Features = npt.NDArray[np.float16]
Statistics = npt.NDArray[np.float64]


@dataclass
class Example:
    """An utterance ready for training: its token numbers and its features in one or more conditions."""

    tokens: torch.Tensor
    copies: list[Features]


def read_manifest(path: Path) -> list[Row]:
    """Read a manifest in JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@lru_cache
def read_speech(manifest: Path) -> list[Waveform]:
    """Cuts the utterances of a manifest out of the files of their voices; read once in every process."""
    rows, files = read_manifest(manifest), {}
    for source in sorted({row["source"] for row in rows}):
        files[source], rate = soundfile.read(manifest.parent / source, dtype="float32")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{source}: the sample rate is {rate}, not {SAMPLE_RATE}")
    return [files[row["source"]][round(row["start"] * SAMPLE_RATE) : round(row["end"] * SAMPLE_RATE)] for row in rows]


def extract(frontend: WavFrontend, samples: Waveform) -> Features:
    """Extract FunASR's stacked filterbank features of one utterance, without normalisation."""
    features, _ = frontend(torch.from_numpy(samples)[None], [samples.size])
    half: Features = features[0].numpy().astype(np.float16)
    return half


def degraded_features(
    copy: int, manifest: Path, frontend_conf: dict[str, Any], seed: int, training: bool
) -> list[Features]:
    """Features of one copy of a split, every utterance in a recording condition of its own.

    Args:
        copy: Number of the copy; each has other conditions.
        manifest: Manifest of the clean speech.
        frontend_conf: Options of FunASR's frontend.
        seed: Seed of the conditions.
        training: Whether to change the speed as well and to go to lower speech to noise ratios.

    Returns:
        Features of every line of the manifest.
    """
    torch.set_num_threads(1)
    frontend, speech, features = WavFrontend(**frontend_conf), read_speech(manifest), []
    for row, clean in zip(read_manifest(manifest), speech, strict=True):
        generator = np.random.default_rng([seed, copy, zlib.crc32(row["key"].encode())])
        condition = draw_condition(generator, (5.0, 25.0) if training else (10.0, 25.0))
        samples = change_speed(clean, int(generator.integers(88, 113))) if training else clean
        features.append(extract(frontend, degrade(samples, condition, speech, generator)))
    return features


def training_copies(manifest: Path, frontend_conf: dict[str, Any], seed: int, count: int) -> list[list[Features]]:
    """Features of several degraded copies of the training speech, with a progress bar."""
    make = partial(degraded_features, manifest=manifest, frontend_conf=frontend_conf, seed=seed, training=True)
    with ProcessPoolExecutor(max_workers=2) as executor:
        return list(tqdm(executor.map(make, range(count)), "degraded copies", count, unit="copy"))


def moments(features: Iterable[Features]) -> tuple[Statistics, Statistics]:
    """Mean and standard deviation of every feature."""
    total, squares, frames = np.zeros(0), np.zeros(0), 0
    for item in features:
        values = item.astype(np.float64)
        total = values.sum(0) + (total if frames else 0)
        squares = np.square(values).sum(0) + (squares if frames else 0)
        frames += len(values)
    mean = total / frames
    return mean, np.sqrt(np.maximum(squares / frames - mean**2, 1e-8))


def write_cmvn(path: Path, mean: Statistics, deviation: Statistics) -> None:
    """Write the normalisation in the Kaldi text format that FunASR's frontend reads."""
    size = mean.size
    shift, scale = (" ".join(f"{value:.6f}" for value in values) for values in (-mean, 1 / deviation))
    path.write_text(
        f"<Nnet>\n<Splice> {size} {size}\n[ 0 ]\n"
        f"<AddShift> {size} {size}\n<LearnRateCoef> 0 [ {shift} ]\n"
        f"<Rescale> {size} {size}\n<LearnRateCoef> 0 [ {scale} ]\n</Nnet>\n",
        encoding="utf-8",
    )


def examples_of(rows: list[Row], copies: list[list[Features]], tokens: list[str]) -> list[Example]:
    """Join the manifest lines of a split with their features."""
    number = {token: index for index, token in enumerate(tokens)}
    return [
        Example(torch.tensor([number[character] for character in row["target"]]), list(features))
        for row, features in zip(rows, zip(*copies, strict=True), strict=True)
    ]


def batches(
    examples: list[Example], size: int, source: random.Random | None
) -> Iterator[list[tuple[torch.Tensor, Features]]]:
    """Group utterances of like length, each in one of its conditions; shuffled if a source is given."""
    chosen = [(item, source.choice(item.copies) if source else item.copies[0]) for item in examples]
    chosen.sort(key=lambda pair: len(pair[1]) + (source.uniform(0, 10) if source else 0))
    groups = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    if source:
        source.shuffle(groups)
    yield from ([(item.tokens, features) for item, features in group] for group in groups)


class Collator:
    """Makes padded tensors of a batch, with the normalisation that FunASR's frontend will apply."""

    def __init__(self, mean: Statistics, deviation: Statistics) -> None:
        """Keep the mean and the standard deviation of the features."""
        self.mean = torch.tensor(mean, dtype=torch.float32)
        self.scale = torch.tensor(1 / deviation, dtype=torch.float32)

    def __call__(self, batch: list[tuple[torch.Tensor, Features]]) -> dict[str, torch.Tensor]:
        """Make the arguments of the model's forward pass."""
        speech = [(torch.from_numpy(features).float() - self.mean) * self.scale for _, features in batch]
        text = [tokens for tokens, _ in batch]
        return {
            "speech": pad_sequence(speech, batch_first=True),
            "speech_lengths": torch.tensor([len(item) for item in speech]),
            "text": pad_sequence(text, batch_first=True, padding_value=-1),
            "text_lengths": torch.tensor([len(item) for item in text]),
        }
