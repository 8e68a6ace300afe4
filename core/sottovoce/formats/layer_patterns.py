"""Patterns that name the quantized layers of a ``quantization_config``: which are written here, and which are read.

Layers of experts and of parts that vLLM calls otherwise are named by pattern, all others one by one. Patterns of other
tools are not read: an expression from elsewhere can take years to match.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.formats.stock_transformers import EXPERT
from sottovoce.recipe.scheme import Scheme

if TYPE_CHECKING:
    from torch import nn

_EXPERT_NUMBER = r"\.experts\.\d+"
_PART = r"(?:[\w-]|\\-)+"
_NAME = rf"{_PART}(?:\\\.{_PART})*"
_WRITTEN = re.compile(rf"re:(?:\({_NAME}\|(?P<other>{_NAME})\)|{_PART})(?:\\\.(?:\\d\+|{_PART}))*")
"""Patterns that are written here: parts of a name, any number as ``\\d+``, and one or two names to begin with."""


def is_foreign(target: Any) -> bool:
    """Return whether a target is a pattern of another tool: ours mean experts, or begin with two names of a part."""
    if not isinstance(target, str) or not target.startswith("re:"):
        return target in ("Linear", "Embedding")
    match = _WRITTEN.fullmatch(target)
    return match is None or not (match["other"] or _EXPERT_NUMBER in target)


def expand(targets: Iterable[tuple[str, Scheme]], module: nn.Module) -> Iterator[tuple[str, Scheme]]:
    """Yield the names of layers that targets mean, each with its scheme."""
    module_names = [name for name, _ in module.named_modules()]
    for target, scheme in targets:
        if not target.startswith("re:"):
            yield target, scheme
            continue
        matcher = re.compile(target[3:])
        yield from ((name, scheme) for name in module_names if matcher.fullmatch(name))


def targets_of(names: list[str], module_names: list[str], vllm_names: Mapping[str, str]) -> list[str]:
    """Return targets for layers: patterns for experts and parts with two names, where they mean no other module.

    Args:
        names: Names of the layers.
        module_names: Names of all modules of the model.
        vllm_names: Names that vLLM has for parts of the model, by ours.
    """
    unnamed = set(names)
    patterns: dict[str, None] = {}
    experts = [name for name in names if EXPERT.search(name)]
    twice_named = [name for name in names if any(name.startswith(f"{prefix}.") for prefix in vllm_names)]
    # From the widest pattern to the narrowest: the first that means nothing else names its layers.
    for to_pattern, layers in ((_any_layer, experts + twice_named), (_any_expert, experts), (re.escape, twice_named)):
        for pattern in dict.fromkeys(to_pattern(name) for name in layers if name in unnamed):
            matcher = re.compile(pattern)
            matched = {name for name in module_names if matcher.fullmatch(name)}
            if matched <= unnamed:
                patterns[f"re:{_with_vllm_name(pattern, vllm_names)}"] = None
                unnamed -= matched
    return [*(name for name in names if name in unnamed), *patterns]


def _with_vllm_name(pattern: str, vllm_names: Mapping[str, str]) -> str:
    for prefix, vllm_name in vllm_names.items():
        escaped = re.escape(prefix)
        if pattern.startswith(rf"{escaped}\."):
            return f"({escaped}|{re.escape(vllm_name)}){pattern.removeprefix(escaped)}"
    return pattern


def _any_layer(name: str) -> str:
    parts = [r"\d+" if part.isdigit() else re.escape(part) for part in name.split(".")]
    return r"\.".join(parts)


def _any_expert(name: str) -> str:
    before, after = EXPERT.split(name, maxsplit=1)
    return re.escape(before) + _EXPERT_NUMBER + r"\." + re.escape(after)
