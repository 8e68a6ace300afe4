"""Diagnosis of an engine's run: what slows it down, takes memory or ends early, in a sentence each."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sottovoce.engines.measurement import EngineRun, spread
from sottovoce.report.number_format import counted
from sottovoce.system.environment import INT8, instructions

WIDEST = 0.15
"""Distance between rounds, as a share of the median, above which times say little."""
_ROUNDED = ("int8", "quantized")
"""Parts of the names of engines that run quantized graphs."""
GROWN = 200_000_000
"""Bytes of growth while samples were run again that are worth a sentence."""


def diagnose(run: EngineRun, other_cores: float | None) -> Iterator[str]:
    """Yield a sentence for each thing that makes a run slower or larger than it need be, or leaves answers unfinished.

    Args:
        run: The engine's run.
        other_cores: Cores that other processes used meanwhile; ``None`` if it is not known.
    """
    cores = _cores()
    if run.int8_engine not in (None, "onednn"):
        yield f"int8 layers run by {run.int8_engine}, slower than oneDNN's; {_missing_instructions()}"
    elif any(word in run.engine for word in _ROUNDED) and not INT8 & set(instructions()):
        yield f"{_missing_instructions()}, so int8 gains little here"
    yield from disturbances(run, other_cores)
    if run.threads is not None and run.threads > cores:
        yield f"{run.threads} threads share {counted(cores, 'core')}: set OMP_NUM_THREADS={cores}"
    if (run.memory_growth_bytes or 0) > GROWN:
        grown = (run.memory_growth_bytes or 0) / 1e6
        yield (
            f"memory grew by {grown:.0f} MB over inputs of different lengths, for each of which oneDNN keeps its work: "
            "set ONEDNN_PRIMITIVE_CACHE_CAPACITY=64 to keep less"
        )
    if unfinished := sum(prediction.cut_off for prediction in run.predictions):
        ends = "ends" if unfinished == 1 else "end"
        answers = counted(len(run.predictions), "answer")
        yield f"{unfinished} of {answers} {ends} at the model's limit of tokens: what comes after it is not compared"


def disturbances(run: EngineRun, other_cores: float | None) -> Iterator[str]:
    """Yield a sentence for each thing that makes the times of a run meaningless; for arguments see :func:`diagnose`."""
    cores = _cores()
    if other_cores is not None and other_cores > WIDEST * cores:
        used = f"{other_cores:.1f} of its {counted(cores, 'core')}"
        yield f"the machine is busy: other processes used {used}, so times are too long"
    if (width := spread(run)) > WIDEST:
        yield f"the rounds differ by {width:.0%} of their median: measure again on a quiet machine"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _missing_instructions() -> str:
    named = instructions()
    if not named:
        return "this system does not tell the processor's instruction sets"
    if INT8 & set(named):
        return "the processor has int8 instructions, so see `sottovoce env --probe`"
    return "the processor has no int8 instructions (AVX512-VNNI, AVX-VNNI or AMX)"
