"""What makes numbers of audio and pictures: sizes that take all memory, and other processors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attack.case import Case, Expect
from attack.model import HonestModel
from attack.settings import with_values

KIND = "processors"

FEATURES: Mapping[str, dict[str, Any]] = {
    "8 GB of filters": {"n_fft": 2_000_000, "feature_size": 1_000},
    "filters without end": {"n_fft": 10**9, "feature_size": 10**6},
    "many filters": {"feature_size": 10**6},
    "no filters": {"feature_size": 0},
    "filters of another number": {"feature_size": 80},
    "no shift": {"hop_length": 0},
    "a shift of one": {"hop_length": 1},
    "a long shift": {"hop_length": 10**9},
    "no rate": {"sampling_rate": 0},
    "a rate of 8 kHz": {"sampling_rate": 8_000},
    "a rate of a GHz": {"sampling_rate": 10**9},
    "a window of one": {"n_fft": 1},
    "an odd window": {"n_fft": 399},
    "chunks of a year": {"chunk_length": 31_536_000, "n_samples": 31_536_000 * 16_000, "nb_max_frames": 10**9},
    "chunks of a day": {"chunk_length": 86_400},
    "no chunks": {"chunk_length": 0},
    "windows of none": {"n_window": 0},
    "windows of a million": {"n_window": 10**6},
    "padded with NaN": {"padding_value": float("nan")},
    "padded on the left": {"padding_side": "left"},
    "padded nowhere": {"padding_side": "nowhere"},
    "noisy": {"dither": 1e30},
    "long at least": {"min_length": 10**10},
    "without a mask": {"return_attention_mask": False},
    "of another kind": {"feature_extractor_type": "EncodecFeatureExtractor"},
    "of Whisper": {"feature_extractor_type": "WhisperFeatureExtractor"},
    "of no kind": {"feature_extractor_type": "\x1b[31m"},
}

PICTURES: Mapping[str, dict[str, Any]] = {
    "no patches": {"patch_size": 0},
    "large patches": {"patch_size": 10**6},
    "no merging": {"merge_size": 0},
    "no steps": {"temporal_patch_size": 0},
    "large pictures": {"size.shortest_edge": 10**12, "size.longest_edge": 10**12},
    "small pictures": {"size.shortest_edge": 0, "size.longest_edge": 0},
    "no deviation": {"image_std": [0, 0, 0]},
    "one mean": {"image_mean": [0.5]},
    "no scale": {"rescale_factor": 0},
    "of no kind": {"image_processor_type": "\x1b[31m", "video_processor_type": "\x1b[31m"},
    "of code": {"image_processor_type": "os.system", "auto_map": {"AutoImageProcessor": "evil.P"}},
    "of another": {"image_processor_type": "CLIPImageProcessor"},
    "frames without end": {"max_frames": 10**9, "min_frames": 10**9, "do_sample_frames": True},
}

WHOLE: Mapping[str, dict[str, Any]] = {
    "of another class": {"processor_class": "WhisperProcessor"},
    "of no class": {"processor_class": "\x1b[31m\u202e"},
    "of code": {"processor_class": "os.system"},
    "of the base class": {"processor_class": "ProcessorMixin"},
    "a number for a class": {"processor_class": 7},
    "times of nothing": {"timestamp_segment_time": 0},
    "times of a day": {"timestamp_segment_time": 86_400_000},
    "times backward": {"timestamp_segment_time": -80},
    "times of nonsense": {"timestamp_segment_time": "x"},
    "an audio tokenizer": {
        "audio_tokenizer.audio_tokenizer_class": "DacModel",
        "audio_tokenizer.audio_tokenizer_name_or_path": "evil-owner/evil-model",
    },
    "an extractor elsewhere": {"feature_extractor": "/etc/passwd"},
    "a tokenizer within": {"tokenizer": {"tokenizer_class": "LlamaTokenizer"}},
    "a tokenizer elsewhere": {"tokenizer_name_or_path": "evil-owner/evil-model"},
}

DESCRIBES = (
    "padded on",
    "padded with",
    "noisy",
    "a rate of 8",
    "a long shift",
    "a shift of one",
    "chunks",
    "no chunks",
    "windows",
    "times",
    "an odd",
    "no rate",
    "a rate",
    "without a mask",
    "of Whisper",
    "long at least",
)
"""Beginnings of the names of what describes another model."""

_REPORTED = ("8 GB of filters", "an audio tokenizer")


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield settings of every processor that a model has."""
    name = next((name for name in ("processor_config.json", "preprocessor_config.json") if name in model.files), None)
    if name is None or model.family == "paraformer":
        return
    nested = name == "processor_config.json"
    yield from _cases(model, name, "feature_extractor." if nested else "", FEATURES, "features")
    yield from _cases(model, name, "", WHOLE, "whole")
    if model.family == "omni":
        for part in ("image_processor", "video_processor"):
            yield from _cases(model, name, f"{part}.", PICTURES, part)


def _cases(
    model: HonestModel, name: str, prefix: str, table: Mapping[str, dict[str, Any]], group: str
) -> Iterator[Case]:
    for what, values in table.items():
        change = with_values(name, {f"{prefix}{key}": value for key, value in values.items()})
        expect = Expect.UNKNOWABLE if what.startswith(DESCRIBES) else Expect.SAME
        yield Case(
            kind=KIND,
            name=f"{group}/{what}",
            model=model.name,
            change=change,
            expect=expect,
            reported=what in _REPORTED and not model.compressed,
        )
