"""Types of a sample's fields, which anything may be given for in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sottovoce.errors import SamplesError


def check_types(key: Any, text: Any, words: Any, messages: Any) -> None:
    """Check the fields of a sample.

    Raises:
        SamplesError: One is of another type; names the sample.
    """
    if not isinstance(key, str):
        raise SamplesError(f"a sample's key is a text, and {key!r} is of type {type(key).__name__}")
    if not isinstance(text, str | None):
        raise SamplesError(f"sample {key!r}: its text is of type {type(text).__name__}; give a text")
    if not isinstance(words, list | tuple):
        raise SamplesError(f"sample {key!r}: its words are of type {type(words).__name__}; give a list")
    if not isinstance(messages, list | tuple) or not all(isinstance(item, Mapping) for item in messages):
        raise SamplesError(f'sample {key!r}: messages are a list of mappings, such as {{"role": ..., "content": ...}}')
    for message in messages:
        content = message.get("content")
        if isinstance(content, str | None):
            continue
        if not isinstance(content, list | tuple) or not all(map(_has_type, content)):
            raise SamplesError(
                f"sample {key!r}: a message's 'content' must be text, or a list of mappings with a 'type'"
            )


def _has_type(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("type"), str) and item["type"] in item
