"""Samples, and the files that they are read from: JSON Lines and Kaldi directories."""

from sottovoce.samples.argument import SamplesArgument, as_samples, as_samples_or_none
from sottovoce.samples.samples import Prediction, Run, Sample, Samples, check_audio, read_samples
from sottovoce.samples.sketch import TRAINED_SAMPLES_FILE, SampleSketch, trained_samples

__all__ = [
    "TRAINED_SAMPLES_FILE",
    "Prediction",
    "Run",
    "Sample",
    "SampleSketch",
    "Samples",
    "SamplesArgument",
    "as_samples",
    "as_samples_or_none",
    "check_audio",
    "read_samples",
    "trained_samples",
]
