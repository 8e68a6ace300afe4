"""The processor of a transformers model: its files are looked at before the library reads them, the result after."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.limits import check_numbers
from sottovoce.checkpoint.safe_config import entries, read_config
from sottovoce.errors import SourceError, as_source_error
from sottovoce.formats.transformers.trial import try_text_files
from sottovoce.report.number_format import counted
from sottovoce.text.plain_text import one_line

CONFIGURATIONS = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)
"""Files that transformers reads besides the model's configuration."""

_FOLLOWED = {
    "adapter_config.json": "an adapter (LoRA) of another model; merge it into the model first",
    "audio_tokenizer_config.json": "the name of another model, which would be fetched",
}
"""Files that lead to another repository."""

_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")
_STANDARD = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
_FREE = re.compile(r"_?name_or_path|.*(token|tokens|tokens_decoder|template|_file)")
"""Keys whose words are text for the model, or are not read: transformers takes the directory's own files."""
_WORD = re.compile(r"[\w. -]{0,100}")


def load_processor(directory: Path, settings: Any, load: Callable[[Path], Any] | None = None) -> Any:
    """Load the processor or tokenizer of a model's inputs; ``None`` where there is none.

    Args:
        directory: The model's.
        settings: The model's configuration, whose numbers of tokens have to be the tokenizer's.
        load: The family's own loader.

    Raises:
        SourceError: A file is missing or damaged, names what lies elsewhere, or does not fit the model.
    """
    check_files(directory)
    try_text_files(directory)
    with as_source_error(directory, "the processor or the tokenizer cannot be read by transformers"):
        processor = (load or _load)(directory)
    if processor is not None:
        _check_tokens(processor, settings, directory)
    return processor


def check_files(directory: Path) -> None:
    """Look at the files that describe a processor, a tokenizer and generation.

    Raises:
        SourceError: One leads to what lies elsewhere, or has numbers that no model has.
    """
    for name, what in _FOLLOWED.items():
        if (directory / name).exists():
            raise SourceError(f"{directory}: {name} is {what}")
    for path in (directory / name for name in CONFIGURATIONS):
        if path.exists():
            config = read_config(path)
            check_numbers(config, path)
            _check_words(config, path)
    if (directory / "tokenizer_config.json").exists() and not any(_vocabularies(directory)):
        # transformers would make a tokenizer that knows nothing.
        raise SourceError(
            f"{directory}: the tokenizer is missing (no tokenizer.json, no vocab.json); fetch the model again"
        )


def _vocabularies(directory: Path) -> Iterator[Path]:
    for pattern in _VOCABULARIES:
        yield from (path for path in directory.glob(pattern) if path.is_file() and path.stat().st_size)


def _check_words(config: Mapping[str, Any], path: Path) -> None:
    for place, _, value in entries(config):
        keys = place.split(".")
        if not isinstance(value, str) or any(_FREE.fullmatch(key) for key in keys):
            continue
        if not _WORD.fullmatch(value) or keys[-1].endswith(("_path", "_dir")):
            raise SourceError(
                f"{path}: {one_line(place, 60)} {one_line(repr(value), 60)} is refused: it may name what lies elsewhere"
            )


def _load(directory: Path) -> Any:
    from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer

    for auto, files in (
        (AutoProcessor, ("processor_config.json",)),
        (AutoFeatureExtractor, ("preprocessor_config.json",)),
        (AutoTokenizer, ("tokenizer_config.json",)),
    ):
        if any((directory / name).is_file() for name in files):
            return auto.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    return None


def _check_tokens(processor: Any, settings: Any, directory: Path) -> None:
    """Compare the tokenizer with what the model's configuration says of it.

    Raises:
        SourceError: A special token is missing or another's, or there are more tokens than the model has rows for.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if not hasattr(tokenizer, "convert_tokens_to_ids"):
        return
    numbers = [(place, str(key), value) for place, key, value in entries(settings.to_dict()) if type(value) is int]
    rows = max((value for _, key, value in numbers if key == "vocab_size"), default=None)
    if rows is not None and len(tokenizer) > rows:
        raise SourceError(
            f"{directory}: the tokenizer has {counted(len(tokenizer), 'token')}, the model {rows}; they are not of "
            "one model"
        )
    for place, key, number in numbers:
        name = key.removesuffix("_id")
        if not key.endswith("_token_id") or name.removesuffix("_token") in _STANDARD:
            continue
        token = getattr(processor, name, None) or getattr(tokenizer, name, None)
        expected = tokenizer.convert_tokens_to_ids(token) if isinstance(token, str) else number
        # A part that a model lacks has the numbers of its class; those of the part that is there are right.
        is_right_elsewhere = any(other == key and value == expected for _, other, value in numbers)
        if number != expected and not (is_right_elsewhere and _default(settings, place) == number):
            raise SourceError(
                f"{directory}: the tokenizer's {one_line(token, 40)} is not the configuration's {key} ({number})"
            )


def _default(settings: Any, place: str) -> Any:
    """Return the number that the class of a part of a configuration has for a setting."""
    *path, key = place.split(".")
    for name in path:
        settings = getattr(settings, name, None)
    return getattr(type(settings)(), key, None) if settings is not None else None
