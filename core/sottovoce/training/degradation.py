"""Degraded copies of the audio of samples: in noise, with echo, at another speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sottovoce.calibration.held_out import evenly
from sottovoce.samples import Sample
from sottovoce.system.audio import read_audio
from sottovoce.training.augmentation import Waveform, change_speed, degrade, draw_condition

_TALKERS = 16
"""Samples whose speech is the babble behind others."""
_SNR = (5.0, 25.0)
_SPEED = (88, 113)
"""Percent of the speed, from the first up to below the second."""


class Degradation:
    """Degradation of a share of the samples, another one in every epoch."""

    def __init__(self, samples: Sequence[Sample], share: float, seed: int) -> None:
        """Read the speech of the babble.

        Raises:
            SamplesError: Audio cannot be read; names the sample.
        """
        self._share, self._seed = share, seed
        spoken = [sample for sample in samples if sample.spoken] if share else []
        self._talkers = [_read(sample.spoken[0], sample) for sample in evenly(spoken, _TALKERS)]

    def __call__(self, sample: Sample, number: int, epoch: int) -> Sample:
        """Return a sample, or its degraded copy; the same for the same numbers.

        Args:
            sample: The sample.
            number: Its number among all samples.
            epoch: The epoch, from 0.
        """
        if not self._share or not sample.spoken:
            return sample
        generator = np.random.default_rng([self._seed, epoch, number])
        if generator.random() >= self._share:
            return sample
        # The times of words would no longer fit.
        percent = 100 if sample.words else int(generator.integers(*_SPEED))

        def changed(audio: Any) -> Waveform:
            speech = change_speed(_read(audio, sample), percent)
            return degrade(speech, draw_condition(generator, _SNR), self._talkers, generator)

        audio = None if sample.audio is None else changed(sample.audio)
        return replace(sample, audio=audio, messages=[_changed(message, changed) for message in sample.messages])


def _changed(message: Mapping[str, Any], changed: Any) -> Mapping[str, Any]:
    if isinstance(content := message.get("content") or (), str):
        return message
    items = [{**item, "audio": changed(item["audio"])} if item["type"] == "audio" else item for item in content]
    return {**message, "content": items}


def _read(audio: Any, sample: Sample) -> Waveform:
    return read_audio(audio, name=f"sample {sample.key!r}")
