"""The functions of families that a transcription calls: who has them, and calling them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from sottovoce.errors import UsageError, as_source_error
from sottovoce.samples import Sample
from sottovoce.transcription.transcript import Recognition, SpeakerTurn, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.architecture import Architecture
    from sottovoce.model import Model

_ABLE = {
    "recognize": "recognize speech",
    "detect_speech": "detect where somebody speaks",
    "diarize": "tell speakers apart",
    "punctuate": "punctuate text",
    "align": "align words with audio",
}
"""By name of a runner's function, what families with it can do."""


def has(architecture: Architecture, function: str) -> bool:
    """Return whether a family has a function; one that transcribes and has no ``recognize`` is run by ``predict``."""
    by_predict = function == "recognize" and architecture.task == "transcription" and "audio" in architecture.inputs
    return by_predict or getattr(architecture.runner, function) is not None


def require(model: Model, function: str) -> None:
    """Refuse a model whose family lacks a function.

    Raises:
        UsageError: It lacks it; names the installed families that have it.
    """
    if has(model.architecture, function):
        return
    from sottovoce.plugins.host import default_host

    families = [name for name, family in default_host().architectures.items() if has(family, function)]
    raise UsageError(
        f"{model.source.name}: a model of {model.architecture.name} does not {_ABLE[function]}; "
        f"families that do: {', '.join(families) or 'none is installed'}"
    )


def call(model: Model, function: str, *arguments: Any) -> Any:
    """Call a family's function without gradients.

    Raises:
        SourceError: The model does not run.
    """
    import torch

    with torch.inference_mode(), as_source_error(model.source.name, "the model does not run"):
        return getattr(model.architecture.runner, function)(model, *arguments)


def recognize(
    model: Model, waveforms: Sequence[NDArray[np.float32]], hotwords: Sequence[str], language: str | None
) -> Sequence[Recognition]:
    """Return what is said in each waveform ``[time]`` of 16 kHz.

    Raises:
        SourceError: The model does not run.
        UsageError: The model takes no hotwords.
    """
    if model.architecture.runner.recognize is not None:
        recognitions: Sequence[Recognition] = call(model, "recognize", waveforms, tuple(hotwords), language)
        return recognitions
    if hotwords:
        raise UsageError(f"{model.source.name}: a model of {model.architecture.name} takes no hotwords; leave them out")
    import torch

    with torch.inference_mode():
        samples = [Sample(key="audio", audio=waveform) for waveform in waveforms]
        predictions = [model.architecture.runner.predict(model, sample) for sample in samples]
    return [Recognition(text=prediction.text or "", cut_off=prediction.cut_off) for prediction in predictions]


def align(model: Model, waveform: NDArray[np.float32], text: str, language: str | None) -> tuple[Word, ...]:
    """Return the words of a text with their times in a waveform ``[time]`` of 16 kHz.

    Raises:
        SourceError: The model does not run.
    """
    return tuple(call(model, "align", waveform, text, language))


def diarize(
    model: Model, waveform: NDArray[np.float32], spans: Sequence[tuple[float, float]], count: int | None
) -> Generator[float, None, tuple[SpeakerTurn, ...]]:
    """Return who speaks when in a waveform ``[time]`` of 16 kHz; yield the seconds that are done after each step.

    Args:
        model: The model.
        waveform: The whole audio.
        spans: Start and end in seconds of each stretch in which somebody speaks.
        count: Number of speakers, if it is known.

    Raises:
        SourceError: The model does not run.
        UsageError: There cannot be so many speakers, or a package is missing.
    """
    import torch

    steps = call(model, "diarize", waveform, spans, count)
    while True:
        # For each step by itself: between them, other work runs in this thread.
        with torch.inference_mode(), as_source_error(model.source.name, "the model does not run"):
            try:
                seconds = next(steps)
            except StopIteration as end:
                return tuple(end.value)
        yield seconds
