"""Functions that run a model of a family."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.errors import as_source_error

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.samples import Prediction, Sample
    from sottovoce.transcription.transcript import Recognition, SpeakerTurn, Word


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The functions that run a model of a family, for calibration, evaluation and inference."""

    forward: Callable[..., Tensor]
    """Function ``forward(model, sample)`` that runs one :class:`~sottovoce.Sample` and returns its logits ``[tokens,
    vocabulary]``: for calibration, divergence, and the proof that a saved model is the same."""
    predict: Callable[..., Prediction]
    """Function ``predict(model, sample)`` that runs one sample as a user would and returns the text and the tokens."""
    probe: Callable[..., Sample]
    """Function ``probe(model)`` that returns a short, fixed sample that every model of the family takes."""
    answer_logits: Callable[..., Tensor | None] | None = None
    """Function ``answer_logits(model, sample)`` that returns the logits at every token of a sample's own answer
    ``[positions, vocabulary]``, for the divergence from a baseline; ``None`` for a sample without an answer."""
    counted_logits: Callable[..., Tensor] | None = None
    """Function ``counted_logits(model, sample, positions)`` that returns the logits at as many token positions as
    another model has, for a family that finds out by itself how many there are; ``None`` for its own number."""
    modalities: Callable[..., Sequence[str]] | None = None
    """Function ``modalities(model, sample, block)`` that returns the kind (``text``, ``audio`` ...) of every token that
    a block is given when ``forward`` runs the sample."""
    recognize: Callable[..., Sequence[Recognition]] | None = None
    """Function ``recognize(model, waveforms, hotwords, language)`` that returns what is said in each waveform
    ``[time]`` of 16 kHz, all in one batch, as :class:`~sottovoce.Recognition`; by default, one call of ``predict`` for
    each."""
    detect_speech: Callable[..., Sequence[tuple[float, float]]] | None = None
    """Function ``detect_speech(model, waveform)`` that returns where speech begins and ends, in seconds, in order."""
    diarize: Callable[..., Generator[float, None, Sequence[SpeakerTurn]]] | None = None
    """Generator function ``diarize(model, waveform, spans, count)`` that returns who speaks when, as
    :class:`~sottovoce.SpeakerTurn` in order of time. ``spans`` are start and end in seconds of each stretch of speech,
    and ``count`` is the number of speakers, or ``None``. It yields the seconds that are done after each step, so that
    other work gets its turn."""
    punctuate: Callable[..., str] | None = None
    """Function ``punctuate(model, text)`` that returns a text with its punctuation."""
    align: Callable[..., Sequence[Word]] | None = None
    """Function ``align(model, waveform, text, language)`` that returns the words of a text as
    :class:`~sottovoce.Word`, with the times at which they are said in a waveform ``[time]`` of 16 kHz."""
    optimize_for_inference: Callable[[nn.Module], tuple[str, ...]] | None = None
    """Function that makes a compressed module fast in place and returns a line for each change. Stored weights do not
    depend on it."""
    int8_copies: Callable[[nn.Module], Iterable[nn.Module]] | None = None
    """Function that returns the layers with packed weights that ``optimize_for_inference`` keeps in int8 as well, for
    the memory that the model takes. It is given modules without data too."""

    def __post_init__(self) -> None:
        """Wrap the functions that run a model: an error of a library becomes a ``SourceError`` that names the model.

        Raises:
            TypeError: A value is not a function.
        """
        for name, function in vars(self).items():
            if function is not None and not callable(function):
                raise TypeError(f"Runner.{name} takes a function, not {function!r}; see sottovoce.lazy")
        for name in ("forward", "predict", "probe", "answer_logits", "counted_logits"):
            if (function := getattr(self, name)) is not None:
                object.__setattr__(self, name, with_model_errors(function))


def with_model_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose errors of a library become a ``SourceError`` that names the model."""

    @functools.wraps(function)
    def run(model: Any, *arguments: Any) -> Any:
        on = f" on the sample {arguments[0].key[:40]!r}" if arguments else ""
        with as_source_error(model.source.name, f"the model does not run{on}"):
            return function(model, *arguments)

    return run
