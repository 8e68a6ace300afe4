"""Sentences on what a measurement does not say, the same in every report, page and command."""

from __future__ import annotations

from collections.abc import Iterable

from sottovoce.report.number_format import count, counted


def trained_on(model: str, number: int, samples: int) -> Iterable[str]:
    """Yield the sentence on samples that a model was trained on, if there are some."""
    if number:
        yield f"{model} was trained on {_share(number, samples, 'sample')}, which measure nothing of it."


def cut_off(model: str, number: int, samples: int) -> Iterable[str]:
    """Yield the sentence on outputs that end at the limit of tokens, if there are some."""
    if number:
        ends = "ends" if number == 1 else "end"
        yield (
            f"{model}: {_share(number, samples, 'output')} {ends} at the model's limit of tokens, unfinished; "
            "predictions.jsonl (of --output) says which."
        )


def too_short(number: int, samples: int) -> Iterable[str]:
    """Yield the sentence on samples that no model is run on, if there are some."""
    if number:
        yield (
            f"{_share(number, samples, 'sample')} {'has' if number == 1 else 'have'} audio of less than one frame: no "
            "model is run there, and the output is empty."
        )


def _share(number: int, whole: int, noun: str) -> str:
    return f"{count(number)} of {counted(whole, noun)}"
