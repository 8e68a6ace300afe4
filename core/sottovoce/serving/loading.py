"""Loading of the models of a service, and a first run of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sottovoce.entrypoints.load import load
from sottovoce.serving.models import ServedModel, ServedModels, arrange
from sottovoce.system.process_state import ignored_warnings

if TYPE_CHECKING:
    from sottovoce.model import Model


_SHARED = ("device", "hub")
"""Options that count for all models."""


def load_models(
    model: str,
    compare: str | None = None,
    *,
    vad: str | None = None,
    punctuation: str | None = None,
    aligner: str | None = None,
    diarizer: str | None = None,
    **options: Any,
) -> ServedModels:
    """Load the models of a service and run each once: the first run of a model takes longer than others.

    Args:
        model: A directory, an alias or a hub id.
        compare: A model to show beside it, usually the original.
        vad: A model that finds speech.
        punctuation: A model that punctuates text.
        aligner: A model that finds the times of words.
        diarizer: A model that tells speakers apart.
        **options: Options of :func:`sottovoce.load`.

    Raises:
        SottovoceError: A model cannot be loaded or has no place in a service.
    """
    shared = {option: options[option] for option in _SHARED if option in options}

    def optional(name: str | None) -> Model | None:
        return None if name is None else load(name, **shared)

    served = arrange(
        load(model, **options),
        optional(compare),
        vad=optional(vad),
        punctuation=optional(punctuation),
        aligner=optional(aligner),
        diarizer=optional(diarizer),
    )
    with ignored_warnings():
        for served_model in served:
            _run_once(served_model)
    return served


def _run_once(served: ServedModel) -> None:
    runner = served.model.architecture.runner
    sample = runner.probe(served.model)
    if served.transcriber is None:
        runner.forward(served.model, sample)
    else:
        served.transcriber.transcribe(sample.audio)
