"""The samples that a step calibrates on, the checks of those samples, and the limits of the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SamplesError
from sottovoce.report.number_format import counted
from sottovoce.samples import Sample, Samples, check_audio
from sottovoce.system.audio import FRAME, SAMPLE_RATE, audio_info, read_audio
from sottovoce.system.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.architecture import Architecture
    from sottovoce.checkpoint.float_backup import FloatBackup
    from sottovoce.model import Model

LEAST_SECONDS = 10.0
"""Seconds of audio that a calibration set must have: with less, most statistics are of a few frames."""
_FLATTEST = 0.5
"""Spectral flatness above which audio is noise: white noise has about 0.98, speech in loud noise under 0.3."""
_WINDOW = 512


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Samples and limits that a step works with; false without samples."""

    samples: Samples | None = None
    memory_bytes: int | None = None
    """Bytes of memory that the process may take."""
    directory: Path | None = None
    """Directory that completed blocks are kept in, for interrupted work to resume from."""
    key: str = ""
    """Digest of all that completed blocks depend on: the model, the recipe and the samples."""
    float_backup: FloatBackup | None = None
    """Keeper of the float layers, for a recipe with a gate."""
    training_samples: Samples | None = None
    """Samples for steps that train, where they are not those of the calibration."""
    load_teacher: Callable[[str | None], Model] | None = None
    """Function that loads the model of a name, or, for ``None``, the one that the recipe began with."""
    log: Path | None = None
    """Directory for TensorBoard's log of training."""
    progress: Progress = silent
    is_divided: bool = False
    """If true, every process of the run has the same samples, and each works on a share of them."""

    def __bool__(self) -> bool:
        return self.samples is not None

    def has_original(self, model: Model) -> bool:
        """Return whether samples can run through the model before any change as well: all of it, without a limit."""
        return model.stream is None and self.memory_bytes is None

    def step(self, number: int) -> Calibration:
        """Return the calibration for one step of a recipe, with a subdirectory for its completed blocks."""
        return replace(self, directory=self.directory / f"step-{number}") if self.directory else self


def check_samples(samples: Samples, architecture: Architecture) -> tuple[str, ...]:
    """Refuse samples that a model of the family cannot be calibrated on.

    Returns:
        Notes for the report, such as that samples were resampled.

    Raises:
        SamplesError: A sample lacks what the family reads, its audio cannot be read, is too short, or is noise.
    """
    for name in architecture.inputs:
        if lacking := [sample.key for sample in samples if _lacks(sample, name)]:
            raise SamplesError(
                f"{samples.path or 'calibration'}: {architecture.name} is calibrated on "
                f"{' and '.join(architecture.inputs)}; {counted(len(lacking), 'sample has', 'samples have')} no "
                f"{name}, such as {lacking[0]!r}"
            )
    where = samples.path or "calibration"
    if "audio" not in architecture.inputs:
        check_audio(samples)
    elif (seconds := sum(sample.seconds for sample in samples)) < LEAST_SECONDS:
        raise SamplesError(
            f"{where}: {seconds:.1f} s of audio are too short to calibrate on; "
            f"give at least {LEAST_SECONDS:.0f} s of real speech"
        )
    elif noise := [sample.key for sample in samples if is_noise(_audio(sample))]:
        raise SamplesError(
            f"{where}: {counted(len(noise), 'sample is', 'samples are')} noise, such as {noise[0]!r}; "
            "give real speech: ranges calibrated on noise are wrong for everything else"
        )
    if short := [sample.key for sample in samples if sample.too_short]:
        raise SamplesError(
            f"{where}: the audio of {counted(len(short), 'sample')} is shorter than one frame of "
            f"{1000 * FRAME:.0f} ms, such as {short[0]!r}; leave them out"
        )
    other = [sample.key for sample in samples if any(_rate(audio) != SAMPLE_RATE for audio in sample.spoken)]
    if not other:
        return ()
    are = counted(len(other), "calibration sample is", "calibration samples are")
    return (f"{are} not of {SAMPLE_RATE} Hz, such as {other[0]!r}; resampled",)


def is_noise(audio: NDArray[np.float32]) -> bool:
    """Return true if the spectrum of audio ``[time]`` is flat, as that of random numbers is."""
    import numpy as np

    frames = len(audio) // _WINDOW
    if frames < 4:
        return False
    windows = audio[: frames * _WINDOW].reshape(frames, _WINDOW) * np.hanning(_WINDOW)
    power = (np.abs(np.fft.rfft(windows, axis=1)) ** 2).mean(0)[1:-1]
    if not np.isfinite(power).all() or power.max() <= 0:
        return False
    return bool(np.exp(np.log(power + 1e-20).mean()) / power.mean() > _FLATTEST)


def _lacks(sample: Sample, name: str) -> bool:
    value = getattr(sample, name)
    return value is None or (isinstance(value, tuple | list | str) and not len(value))


def _rate(audio: Any) -> int:
    return audio_info(audio).sampling_rate


def _audio(sample: Sample) -> NDArray[np.float32]:
    """Read a sample's audio ``[time]`` at its own rate: once resampled, noise has no flat spectrum."""
    return read_audio(sample.audio, _rate(sample.audio), name=f"sample {sample.key!r}")
