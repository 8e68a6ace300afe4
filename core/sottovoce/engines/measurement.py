"""Measurement of one engine, in a process of its own: load, first answer, latency by rounds, memory."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from sottovoce.errors import SottovoceError, reason
from sottovoce.system.progress import Progress

if TYPE_CHECKING:
    from sottovoce.engines.engine import Engine
    from sottovoce.samples import Prediction, Sample

ROUNDS = 5
"""Rounds over the samples; the worst one counts for limits."""
TIMED = 8
"""Samples that are timed in every round, evenly chosen; all samples are run once."""


@dataclass(frozen=True, kw_only=True)
class EngineRun:
    """Answers of one engine, and what they took."""

    engine: str
    answers: list[str] = field(default_factory=list)
    """Answer to each sample, without spaces."""
    texts: list[str | None] = field(default_factory=list)
    """Text of each sample."""
    predictions: list[Prediction] = field(default_factory=list)
    """Output for each sample."""
    load_seconds: float = 0.0
    first_answer_seconds: float = 0.0
    """Seconds from the start of the process to the first answer."""
    rounds: list[list[float]] = field(default_factory=list)
    """By round, the seconds of each timed sample."""
    audio_seconds: list[float] = field(default_factory=list)
    """Length of the timed samples' audio."""
    tokens: list[int] = field(default_factory=list)
    """Tokens of the timed samples' answers."""
    peak_memory_bytes: int | None = None
    memory_growth_bytes: int | None = None
    """Resident memory after all rounds less that after the first answer."""
    threads: int | None = None
    """Threads of PyTorch, where the engine uses it."""
    int8_engine: str | None = None
    """Sottovoce's engine of int8 products, where the model has such layers."""


def measure(engine: Engine, directory: Path, samples: Sequence[Sample], rounds: int, progress: Progress) -> EngineRun:
    """Load a directory in an engine and run samples; called in a new process.

    Args:
        engine: The engine.
        directory: A model's directory, or an exported one.
        samples: The samples.
        rounds: Number of rounds over a part of them that are timed.
        progress: Called after every sample.

    Raises:
        SottovoceError: The engine does not run it; says why.
    """
    from sottovoce.system.machine import peak_memory, resident_memory

    # What libraries say while they load is not about the model.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    begin = time.perf_counter()
    try:
        run = engine.load(directory)
        loaded = time.perf_counter()
        heard = [_decoded(sample) for sample in samples]
        run(heard[0])
        first = time.time() - psutil.Process().create_time()
        before = resident_memory()
        predictions = _answers(run, heard, engine.name, progress)
        timed = _chosen(len(heard))
        times = [[seconds_of(run, heard[number]) for number in timed] for _ in range(rounds)]
    except SottovoceError:
        raise
    except Exception as error:
        raise SottovoceError(reason(error)) from error
    after = resident_memory()
    return EngineRun(
        engine=engine.name,
        answers=["".join(prediction.tokens or (prediction.text or "",)).replace(" ", "") for prediction in predictions],
        texts=[prediction.text for prediction in predictions],
        predictions=predictions,
        load_seconds=loaded - begin,
        first_answer_seconds=first,
        rounds=times,
        audio_seconds=[heard[number].seconds for number in timed],
        tokens=[len(predictions[number].tokens) for number in timed],
        peak_memory_bytes=peak_memory(),
        memory_growth_bytes=after - before if after is not None and before is not None else None,
        **_facts(),
    )


def latency_ms(run: EngineRun, quantile: float) -> float:
    """Return a quantile of the latency in milliseconds: that of the worst round.

    Args:
        run: The engine's run.
        quantile: 0.5 for the median, 0.95 for the slow ones.
    """
    return 1000 * max(_quantile(seconds, quantile) for seconds in run.rounds)


def spread(run: EngineRun) -> float:
    """Return the distance between the slowest and the fastest round, as a share of the median round."""
    totals = [sum(seconds) for seconds in run.rounds]
    return (max(totals) - min(totals)) / statistics.median(totals)


def _quantile(seconds: Sequence[float], quantile: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, round(quantile * (len(ordered) - 1)))]


def _decoded(sample: Sample) -> Sample:
    """Return a sample whose audio is in memory, so that all engines are given the same."""
    from sottovoce.system.audio import read_audio

    if sample.audio is None:
        return sample
    return dataclasses.replace(sample, audio=read_audio(sample.audio, name=f"sample {sample.key!r}"))


def _answers(
    run: Callable[[Sample], Prediction], samples: Sequence[Sample], name: str, progress: Progress
) -> list[Prediction]:
    predictions = []
    for number, sample in enumerate(samples, 1):
        predictions.append(run(sample))
        progress(f"check in {name}", number, len(samples))
    return predictions


def seconds_of(run: Callable[[Sample], Prediction], sample: Sample) -> float:
    """Run one sample, and return the seconds that it took."""
    begin = time.perf_counter()
    run(sample)
    return time.perf_counter() - begin


def _chosen(count: int) -> list[int]:
    """Return the numbers of the samples that are timed."""
    most = min(TIMED, count)
    return [number * count // most for number in range(most)]


def _facts() -> dict[str, Any]:
    """Return facts of a process that has loaded torch, and Sottovoce's int8 layers."""
    import sys

    torch = sys.modules.get("torch")
    int8 = sys.modules.get("sottovoce.runtime.backends.int8_engine")
    runs_int8 = int8 is not None and "sottovoce.runtime.int8_linear" in sys.modules
    return {
        "threads": torch.get_num_threads() if torch is not None else None,
        "int8_engine": int8.engine() if runs_int8 and int8 is not None else None,
    }
