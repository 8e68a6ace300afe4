"""Limits of a FunASR configuration's values: some end the process or fetch before FunASR looks at them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.limits import Limits, check_numbers
from sottovoce.checkpoint.safe_config import entries
from sottovoce.errors import SourceError
from sottovoce.text.plain_text import one_line

CHOICES: Mapping[str, tuple[str, ...]] = {
    "tokenizer": ("CharTokenizer", "SentencepiecesTokenizer"),
    "frontend": ("WavFrontend", "WavFrontendOnline"),
    "frontend_conf.window": ("hamming", "hanning", "povey", "rectangular", "blackman"),
}
"""Words of which only these are taken; other tokenizers of FunASR fetch what they are from a hub."""

LIMITS: Limits = {
    # Kaldi's features: a shift of nothing divides by zero in native code.
    r"fs|audio_fs": (1_000, 400_000),
    r"n_mels": (1, 1_024),
    r"frame_length": (1, 1_000),
    r"frame_shift|frame_in_ms|frame_length_ms|window_size_ms": (1, 1_000),
    r"lfr_m|lfr_n|lfr_rate": (1, 64),
    r"filter_length_(min|max)": (-1, 1e9),
    r"dither": (0, 1e6),
    # Layers.
    r".*(num_blocks|layer_num|layers|heads|order|stride)": (0, 10_000),
    r"kernel_size|sanm_shfit|chunk_size|upsample_times": (-10_000, 10_000),
    r".*(size|units|dim|idim|dims)": (-1, 2**24),
    r"predictor_bias": (0, 16),
    r"threshold|tail_threshold|smooth_factor2?|noise_threshold2?": (-100, 100),
    r".*dropout.*|.*_ratio": (0, 1),
    r"num_(freq|time)_mask": (0, 1_000),
}
"""Bounds of numbers by their keys (see :mod:`sottovoce.checkpoint.limits`)."""

_WORD = re.compile(r"[^/\\\n]{0,200}")
_LARGEST_TEXT = 64_000_000


def check_values(config: Mapping[str, Any], path: Path, files: set[tuple[str, ...]]) -> None:
    """Look at the numbers and words of the sections that are used.

    Args:
        config: The keys of a configuration that are used.
        path: The file, for errors.
        files: Keys that name files, which are checked elsewhere.

    Raises:
        SourceError: A number is out of bounds, or a word is none that is taken; names it.
    """
    check_numbers(config, path, LIMITS)
    for place, _, value in entries(config):
        taken = CHOICES.get(place)
        if taken and value is not None and value not in taken:
            shown = one_line(repr(value), 60)
            raise SourceError(f"{path}: {place} {shown} is not taken; there are {', '.join(taken)}")
        if isinstance(value, str) and tuple(place.split(".")) not in files and not _is_word(value):
            shown = one_line(repr(value), 60)
            raise SourceError(f"{path}: {one_line(place, 60)} {shown} is refused: it may name what lies elsewhere")


def _is_word(value: str) -> bool:
    # A single character, such as a punctuation mark, is not a path.
    return len(value) <= 1 or (_WORD.fullmatch(value) is not None and ".." not in value)


def check_statistics(path: Path, width: int) -> None:
    """Look at the statistics of features (``am.mvn``), which FunASR takes as they are.

    Args:
        path: The file, in Kaldi's text form.
        width: Numbers of a feature.

    Raises:
        SourceError: There are other than ``width`` shifts and scales, or some are no numbers.
    """
    lines = _text(path).splitlines()
    for mark in ("<AddShift>", "<Rescale>"):
        values = next((line.split() for before, line in zip(lines, lines[1:], strict=False) if mark in before), [])
        try:
            numbers = [float(value) for value in values[3:-1]]
        except ValueError:
            numbers = []
        if len(numbers) != width or not all(map(math.isfinite, numbers)):
            raise SourceError(f"{path}: damaged: {mark} has not {width} numbers; fetch the model again")


def check_tokens(path: Path) -> None:
    """Look at a list of tokens: a JSON list of words, or a word a line.

    Raises:
        SourceError: It is neither, or empty.
    """
    text = _text(path)
    if path.suffix == ".json":
        try:
            tokens = json.loads(text)
        except (ValueError, RecursionError):
            tokens = None
        if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
            raise SourceError(f"{path}: damaged: it is not a list of tokens; fetch the model again")
    elif path.suffix != ".txt" or not text.strip():
        raise SourceError(f"{path}: is not a list of tokens (.json or .txt); fetch the model again")


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            raise ValueError(f"it is larger than {_LARGEST_TEXT // 1_000_000} MB")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read: {one_line(error, 160)}") from None
