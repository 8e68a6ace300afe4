"""Models that recognize, detect, punctuate and align by rules, and remember what they were given."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sottovoce import Architecture, Layers, Model, Prediction, Recognition, Runner, Sample, Source, SpeakerTurn, Word


def model(name: str = "rule", task: str = "transcription", **functions: Any) -> Model:
    """A model of a family of its own with these functions."""
    base = {"forward": lambda model, sample: torch.zeros(1, 1), "probe": lambda model: None}
    runner = Runner(**base, **{"predict": lambda model, sample: Prediction(text="said"), **functions})
    family = Architecture(name=name, matches=(name,), layers=Layers(targets=()), runner=runner, task=task)
    source = Source(name=f"models/{name}", directory=Path("models") / name)
    return Model(module=torch.nn.Identity(), architecture=family, source=source, native=None)


class Recognizer:
    """Recognizes every waveform as its length in tenths of a second; ``words`` says whether it has times."""

    def __init__(self, words: bool = False, language: str | None = None) -> None:
        self.words, self.language = words, language
        self.batches: list[tuple[int, ...]] = []
        self.hotwords: tuple[str, ...] = ()
        self.model = model(recognize=self)

    def __call__(
        self, model: Model, waveforms: Sequence[NDArray[np.float32]], hotwords: Sequence[str], language: str | None
    ) -> list[Recognition]:
        self.batches.append(tuple(len(waveform) for waveform in waveforms))
        self.hotwords = tuple(hotwords)
        return [self._recognition(len(waveform)) for waveform in waveforms]

    def _recognition(self, length: int) -> Recognition:
        text = f"long {round(length / 1600)}"
        words = (Word("long", 0.0, 0.1), Word(text[5:], 0.2, length / 16000)) if self.words else ()
        return Recognition(text=text, words=words, language=self.language)


def stopping(seconds: float) -> Model:
    """A model that is run by ``predict``, and reaches its limit of tokens in longer audio than this."""

    def predict(model: Model, sample: Sample) -> Prediction:
        return Prediction(text="and so", cut_off=sample.seconds > seconds)

    return model("stopping", predict=predict)


def detector(*spans: tuple[float, float]) -> Model:
    """A detector that finds these spans in any audio."""
    return model("detector", "voice-activity-detection", detect_speech=lambda model, waveform: list(spans))


def punctuator() -> Model:
    return model("marks", "punctuation", punctuate=lambda model, text: f"{text}.")


def aligner() -> Model:
    """An aligner that gives every word a tenth of a second."""

    def align(model: Model, waveform: NDArray[np.float32], text: str, language: str | None) -> list[Word]:
        return [Word(f"{word}/{language}", n / 10, n / 10 + 0.1) for n, word in enumerate(text.split())]

    return model("aligner", "alignment", align=align)


def diarizer(*turns: SpeakerTurn) -> Model:
    """A diarizer that gives these turns after two steps, and remembers what it was given."""

    def diarize(
        model: Model, waveform: NDArray[np.float32], spans: Sequence[tuple[float, float]], count: int | None
    ) -> Generator[float, None, list[SpeakerTurn]]:
        model.settings["given"] = (list(spans), count)
        yield 0.5
        yield 1.0
        return list(turns)

    return model("speakers", "speaker-diarization", diarize=diarize)
