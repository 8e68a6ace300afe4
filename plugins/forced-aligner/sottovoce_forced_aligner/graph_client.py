"""Running an exported aligner in any engine, for checks: the client of the export with the engine's session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sottovoce.errors import OutputError, SourceError, reason

if TYPE_CHECKING:
    from sottovoce import Prediction, Sample
    from sottovoce_forced_aligner.onnx_client import Aligner

_WORDS = ("打", "开", "灯")
_SECONDS = 2


class Session(Protocol):
    """A loaded graph of any engine."""

    path: Path

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the graph on NumPy arrays, and return its outputs by name."""
        ...


def client(directory: Path, session: Session) -> Aligner:
    """Return the client of an exported directory, which runs a session.

    Raises:
        SourceError: A file beside the graph is missing or damaged.
    """
    from sottovoce_forced_aligner.onnx_client import Aligner

    try:
        return Aligner(directory, lambda inputs: session.run(inputs)["logits"])
    except Exception as error:  # of tokenizers too, which has a class of its own for none
        raise SourceError(f"{directory}: {reason(error)}; export the model again") from error


def predict(aligner: Aligner, sample: Sample) -> Prediction:
    """Return the times of every word in seconds, as the family's own prediction has them."""
    from sottovoce import Prediction

    if sample.too_short:
        return Prediction()
    words = aligner(sample.audio, sample.text or "", sample.language or "Chinese")
    tokens = tuple(f"{word['text']}@{word['start']:.2f}-{word['end']:.2f}" for word in words)
    return Prediction(text=sample.text, tokens=tokens, timestamps=[(word["start"], word["end"]) for word in words])


def check_graph(directory: Path, session: Session) -> None:
    """Run a graph on noise.

    Raises:
        OutputError: What it gives is not finite.
        SourceError: A file beside the graph is missing or damaged.
    """
    import numpy

    aligner = client(directory, session)
    count = _SECONDS * aligner.settings["sampling_rate"]
    noise = numpy.random.default_rng(0).standard_normal(count).astype(numpy.float32)
    logits, markers = aligner.logits(0.1 * noise, _WORDS)
    if markers.sum() != 2 * len(_WORDS) or not numpy.isfinite(logits).all():
        raise OutputError(f"{session.path.name}: gives numbers that are not finite; is a weight damaged?")
