"""The description of quantized layers that compressed-tensors defined and transformers and vLLM read.

A layer keeps its name and stores its weight in one of three ways: ``int-quantized`` (s8 ``weight``), ``pack-quantized``
(words ``weight_packed``) or ``naive-quantized`` (fp8 ``weight``), each with a ``weight_scale``. Which layers those are
stands in a ``quantization_config``, one group for each scheme.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SourceError
from sottovoce.formats.stock_transformers import EXPERT, Stored, is_loaded_at_once
from sottovoce.recipe.scheme import Scheme

if TYPE_CHECKING:
    from torch import nn

METHOD = "compressed-tensors"
FORMATS = ("int-quantized", "pack-quantized", "naive-quantized")
MIXED = "mixed-precision"
_EXPERT_NUMBER = r"\.experts\.\d+"
_PART = r"(?:[\w-]|\\-)+"
_NAME = rf"{_PART}(?:\\\.{_PART})*"
_OWN_PATTERN = re.compile(rf"re:(?:\({_NAME}\|(?P<other>{_NAME})\)|{_PART})(?:\\\.(?:\\d\+|{_PART}))*")
"""The patterns that are written here: parts of a name, any number as ``\\d+``, and one or two names to begin with.

Nothing else is matched: an expression that somebody else wrote can take years.
"""


def describe(module: nn.Module, vllm_names: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """The ``quantization_config`` of a module, or ``None`` when no layer is quantized.

    Args:
        module: The model.
        vllm_names: Other names that vLLM has for parts of it (see ``Layers.vllm_names``).
    """
    found: dict[tuple[Scheme, str], list[str]] = {}
    for name, scheme, format in quantized_layers(module):
        found.setdefault((scheme, format), []).append(name)
    if not found:
        return None
    every = [name for name, _ in module.named_modules()]
    groups = {
        f"group_{number}": {
            "targets": _with_patterns(names, every, vllm_names or {}),
            "format": format,
            "weights": scheme.weights(),
        }
        | ({"input_activations": inputs} if (inputs := scheme.input_activations()) else {})
        for number, ((scheme, format), names) in enumerate(found.items())
    }
    formats = {format for _, format in found}
    stored = [Stored(name, scheme, format) for (scheme, format), names in found.items() for name in names]
    at_once = {"dequantize": True} if is_loaded_at_once(stored) else {}
    return at_once | {
        "quant_method": METHOD,
        "format": formats.pop() if len(formats) == 1 else MIXED,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [],
    }


def quantized_layers(module: nn.Module) -> Iterator[tuple[str, Scheme, str]]:
    """The name, scheme and stored format of every quantized layer."""
    from sottovoce.runtime.int8_embedding import Int8Embedding
    from sottovoce.runtime.layers import QUANTIZED

    for name, child in module.named_modules():
        if isinstance(child, Int8Embedding):
            # A table's rows are bytes as they are; they are looked up, so packing them would gain nothing.
            yield name, child.scheme, "int-quantized"
        elif isinstance(child, QUANTIZED):
            yield name, child.scheme, child.scheme.format


def prepare_(module: nn.Module, config: Any, where: object = "the model") -> tuple[str, ...]:
    """Put empty quantized layers where ``config`` says, ready for their tensors.

    Args:
        module: The model, built.
        config: Its ``quantization_config``.
        where: What has it, for errors.

    Returns:
        The names of the layers.

    Raises:
        SourceError: The configuration is of another kind, or names what is no linear layer and no embedding table.
    """
    from sottovoce.runtime.layers import empty, replace_

    names = []
    for name, scheme in _expanded(_targets(config, where), module):
        try:
            layer = module.get_submodule(name)
        except AttributeError:
            raise SourceError(
                f"{where}: quantization_config names the layer {name!r}, which the model does not have"
            ) from None
        width = getattr(layer, "in_features", 0)
        if scheme.group_size and width % scheme.group_size:
            raise SourceError(
                f"{where}: quantization_config has groups of {scheme.group_size} for the {width} inputs of {name!r}"
            )
        made = empty(layer, scheme)
        if made is None:
            raise SourceError(
                f"{where}: quantization_config names {name!r}, which is a {type(layer).__name__}, not a linear layer"
            )
        replace_(module, name, made)
        names.append(name)
    return tuple(names)


def is_own(config: Any) -> bool:
    """Whether a ``quantization_config`` is one that :func:`prepare_` reads."""
    if not isinstance(config, Mapping) or config.get("quant_method") != METHOD:
        return False
    groups = config.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, Mapping) else []
    targets = [group.get("targets") for group in groups if isinstance(group, Mapping)]
    return not any(_is_foreign(name) for names in targets if isinstance(names, list) for name in names)


def _is_foreign(name: Any) -> bool:
    """Whether a target is a pattern as other tools write them: ours mean experts, or begin with two names of a part."""
    if not isinstance(name, str) or not name.startswith("re:"):
        return name in ("Linear", "Embedding")
    own = _OWN_PATTERN.fullmatch(name)
    return own is None or not (own["other"] or _EXPERT_NUMBER in name)


def _with_patterns(names: list[str], every: list[str], vllm_names: Mapping[str, str]) -> list[str]:
    """The names, with patterns for the layers of experts and of parts with two names where these mean none beside."""
    wanted = set(names)
    made: dict[str, None] = {}
    experts = [name for name in names if EXPERT.search(name)]
    twice_named = [name for name in names if _under(name, vllm_names)]
    for pattern, meant in ((_any_layer, experts + twice_named), (_any_expert, experts), (re.escape, twice_named)):
        templates = dict.fromkeys(pattern(name) for name in meant if name in wanted)
        for template in templates:
            matcher = re.compile(template)
            met = {name for name in every if matcher.fullmatch(name)}
            if met <= wanted:
                made[f"re:{_by_both_names(template, vllm_names)}"] = None
                wanted -= met
    return [*(name for name in names if name in wanted), *made]


def _under(name: str, prefixes: Iterable[str]) -> bool:
    return any(name.startswith(f"{prefix}.") for prefix in prefixes)


def _by_both_names(template: str, vllm_names: Mapping[str, str]) -> str:
    for prefix, other in vllm_names.items():
        own = re.escape(prefix)
        if template.startswith(rf"{own}\."):
            return f"({own}|{re.escape(other)}){template.removeprefix(own)}"
    return template


def _any_layer(name: str) -> str:
    parts = [r"\d+" if part.isdigit() else re.escape(part) for part in name.split(".")]
    return r"\.".join(parts)


def _any_expert(name: str) -> str:
    before, after = EXPERT.split(name, maxsplit=1)
    return re.escape(before) + _EXPERT_NUMBER + r"\." + re.escape(after)


def _expanded(targets: list[tuple[str, Scheme]], module: nn.Module) -> Iterator[tuple[str, Scheme]]:
    every = [name for name, _ in module.named_modules()]
    for target, scheme in targets:
        if not target.startswith("re:"):
            yield target, scheme
            continue
        matcher = re.compile(target[3:])
        yield from ((name, scheme) for name in every if matcher.fullmatch(name))


def _targets(config: Any, where: object) -> list[tuple[str, Scheme]]:
    groups = config.get("config_groups") if isinstance(config, Mapping) else None
    if groups is None or config.get("quant_method") != METHOD or not isinstance(groups, Mapping) or not groups:
        raise SourceError(f"{where}: quantization_config is not of the kind {METHOD}; was it made by another tool?")
    found: list[tuple[str, Scheme]] = []
    for group in groups.values():
        names = group.get("targets") if isinstance(group, Mapping) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SourceError(f"{where}: quantization_config has no list of target layers")
        if patterns := [name for name in names if _is_foreign(name)]:
            raise SourceError(
                f"{where}: quantization_config names layers by pattern ({patterns[0]}), as another tool does"
            )
        if group.get("format", config.get("format")) not in FORMATS:
            raise SourceError(
                f"{where}: quantization_config has weights stored as {group.get('format')!r}, which is not read here"
            )
        try:
            scheme = Scheme.read(group)
        except ValueError as error:
            raise SourceError(f"{where}: quantization_config: {error}") from None
        found.extend((name, scheme) for name in names)
    return found
