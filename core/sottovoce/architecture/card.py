"""Facts of a family for its model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Facts of a family for its model card that cannot be measured."""

    pipeline_tag: str = ""
    """The Hub's task name, such as ``automatic-speech-recognition``."""
    library_name: str = ""
    """The library that loads the files, such as ``funasr``."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages."""
    usage: str = ""
    """Python that loads ``"{directory}"`` with the model's own library and prints its output for ``"{audio}"``, where
    ``"{text}"`` is said. Other braces are doubled."""
    example: str = ""
    """Python that prints the output of ``model``, which ``sottovoce.load`` returned, for ``"{audio}"``, where
    ``"{text}"`` is said; ``sottovoce`` is imported. Other braces are doubled."""
    hub_usage: Mapping[str, str] = field(default_factory=dict)
    """By hub that the library itself loads from (``hf``, ``modelscope``), the same with ``"{repository}"`` in place of
    the directory."""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By language (``zh``), translations of the family's English sentences, such as the reasons for kept layers."""
    packages: tuple[str, ...] = ()
    """Requirements of ``usage``, as ``pip install`` takes them."""
