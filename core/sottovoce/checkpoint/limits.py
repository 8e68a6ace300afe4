"""Bounds of the numbers in a configuration; larger ones would fill the memory or end the process before any check.

The bounds are far beyond every published model; they separate large models from mistakes and attacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.safe_config import entries
from sottovoce.errors import SourceError
from sottovoce.text.plain_text import one_line

Limits = Mapping[str, tuple[float, float]]
"""Least and largest number by pattern of a whole key; the first pattern that matches counts.

Under a key that is given in full, not by its end (``.*``), only a number is valid.
"""

ANY = 2.0**40
"""Bound of all other numbers."""

LIMITS: Limits = {
    r".*(theta|seed|model_max_length)": (-1e300, 1e300),
    # Audio and images, by the names in transformers' processors.
    r"sampling_rate": (1_000, 400_000),
    r"n_fft|win_length": (16, 65_536),
    r"hop_length": (1, 65_536),
    r"feature_size|num_mel_bins": (1, 1_024),
    r"chunk_length": (0, 3_600),
    r"n_samples|nb_max_frames": (0, 1e8),
    r"n_window|n_window_infer": (1, 100_000),
    r"dither": (0, 1),
    r"patch_size|merge_size|temporal_patch_size|spatial_merge_size": (1, 256),
    r"(min|max)_frames|fps": (0, 100_000),
    r"timestamp_segment_time": (1, 10_000),
    r"image_std": (1e-6, 1e6),
    # Generation.
    r"num_beams|num_beam_groups|num_return_sequences": (1, 64),
    r"(min|max)(_new)?_(length|tokens)": (0, 1e7),
    # Models.
    r".*(layers|blocks|depth|experts|experts_per_tok|groups|quantizers|codebooks)": (-1, 100_000),
    r"num_labels|classify_num": (0, 1_000_000),
    r".*(_eps|epsilon)": (0, 0.1),
    r".*(size|dim|positions|d_model|window|heads|channels|chunksize|intermediate)": (-1, 2**24),
}
"""Bounds for all configurations of a transformers model, its processor and its generation."""


def check_numbers(config: Mapping[str, Any], path: Path, limits: Limits = LIMITS) -> None:
    """Check that the numbers of a configuration, at any depth, are within their bounds.

    Args:
        config: Content of the file.
        path: The file, for the error.
        limits: Bounds by key; numbers of a list have the bounds of its key.

    Raises:
        SourceError: A number is out of bounds or replaced by text; names it.
    """
    patterns = [(re.compile(pattern), bounds) for pattern, bounds in limits.items()]
    for place, _, value in entries(config):
        key = next((part for part in reversed(place.split(".")) if not part.isdigit()), place)
        known = next(((pattern.pattern, bounds) for pattern, bounds in patterns if pattern.fullmatch(key)), None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            if isinstance(value, bool | str) and known and not known[0].startswith(".*"):
                raise SourceError(f"{path}: {one_line(place, 60)} is {one_line(repr(value), 40)}, not a number")
            continue
        low, high = known[1] if known else (-ANY, ANY)
        if not low <= value <= high:
            shown = one_line(value, 24) if isinstance(value, float) or value.bit_length() < 200 else "a huge number"
            raise SourceError(
                f"{path}: {one_line(place, 60)} is {shown}, which is not between {low:g} and {high:g}; "
                "fetch the model again"
            )
