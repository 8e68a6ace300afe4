"""The kinds of attacks: each module yields the cases of one for a model."""

from __future__ import annotations

from attack.kinds import (
    code,
    configurations,
    file_system,
    foreign_keys,
    funasr,
    generation,
    harmless,
    indexes,
    manifests,
    notices,
    pickles,
    processors,
    quantization,
    scales,
    templates,
    threads,
    tokenizers,
    unfinished,
    weights,
    yaml_files,
)

KINDS = (
    code,
    configurations,
    file_system,
    foreign_keys,
    funasr,
    generation,
    harmless,
    indexes,
    manifests,
    notices,
    pickles,
    processors,
    quantization,
    scales,
    templates,
    threads,
    tokenizers,
    unfinished,
    weights,
    yaml_files,
)
"""All but those of :mod:`~attack.kinds.chance`, of which there is no end."""
