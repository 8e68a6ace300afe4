"""Description of quantized layers that compressed-tensors defined, and that transformers and vLLM read.

A layer keeps its name and stores its weight in one of three ways: ``int-quantized`` (s8 ``weight``), ``pack-quantized``
(words ``weight_packed``) or ``naive-quantized`` (fp8 ``weight``), always with a ``weight_scale``. A
``quantization_config`` says which layers those are, one group for each scheme.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SourceError
from sottovoce.formats.layer_patterns import expand, is_foreign, targets_of
from sottovoce.formats.stock_transformers import Stored, is_loaded_at_once
from sottovoce.recipe.scheme import Scheme
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from torch import nn

METHOD = "compressed-tensors"
FORMATS = ("int-quantized", "pack-quantized", "naive-quantized")
MIXED = "mixed-precision"


def describe(module: nn.Module, vllm_names: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """Return the ``quantization_config`` of a module, or ``None`` when no layer is quantized.

    Args:
        module: The model.
        vllm_names: Other names that vLLM has for parts of it (see ``Layers.vllm_names``).
    """
    layers: dict[tuple[Scheme, str], list[str]] = {}
    for name, scheme, format in quantized_layers(module):
        layers.setdefault((scheme, format), []).append(name)
    if not layers:
        return None
    module_names = [name for name, _ in module.named_modules()]
    groups = {
        f"group_{number}": {
            "targets": targets_of(names, module_names, vllm_names or {}),
            "format": format,
            "weights": scheme.weights(),
        }
        | ({"input_activations": inputs} if (inputs := scheme.input_activations()) else {})
        for number, ((scheme, format), names) in enumerate(layers.items())
    }
    formats = {format for _, format in layers}
    stored = [Stored(name, scheme, format) for (scheme, format), names in layers.items() for name in names]
    at_once = {"dequantize": True} if is_loaded_at_once(stored) else {}
    return at_once | {
        "quant_method": METHOD,
        "format": formats.pop() if len(formats) == 1 else MIXED,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [],
    }


def quantized_layers(module: nn.Module) -> Iterator[tuple[str, Scheme, str]]:
    """Yield the name, scheme and stored format of every quantized layer."""
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
        where: Owner of the configuration, for errors.

    Returns:
        The names of the layers.

    Raises:
        SourceError: The configuration is of another kind, or names something else than a linear layer
            or an embedding table.
    """
    from sottovoce.runtime.layers import empty, replace_

    names = []
    for name, scheme in expand(_targets(config, where), module):
        try:
            layer = module.get_submodule(name)
        except AttributeError:
            raise SourceError(
                f"{where}: quantization_config names the layer {name!r}, which the model does not have"
            ) from None
        width = getattr(layer, "in_features", 0)
        if scheme.group_size and width % scheme.group_size:
            raise SourceError(
                f"{where}: quantization_config has groups of {scheme.group_size} for the {counted(width, 'input')} "
                f"of {name!r}"
            )
        quantized = empty(layer, scheme)
        if quantized is None:
            raise SourceError(
                f"{where}: quantization_config names {name!r}, which is a {type(layer).__name__}, not a linear layer"
            )
        replace_(module, name, quantized)
        names.append(name)
    return tuple(names)


def is_own(config: Any) -> bool:
    """Return whether a ``quantization_config`` is one that :func:`prepare_` reads."""
    if not isinstance(config, Mapping) or config.get("quant_method") != METHOD:
        return False
    groups = config.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, Mapping) else []
    targets = [group.get("targets") for group in groups if isinstance(group, Mapping)]
    return not any(is_foreign(name) for names in targets if isinstance(names, list) for name in names)


def _targets(config: Any, where: object) -> list[tuple[str, Scheme]]:
    groups = config.get("config_groups") if isinstance(config, Mapping) else None
    if groups is None or config.get("quant_method") != METHOD or not isinstance(groups, Mapping) or not groups:
        raise SourceError(f"{where}: quantization_config is not of the kind {METHOD}; was it made by another tool?")
    targets: list[tuple[str, Scheme]] = []
    for group in groups.values():
        names = group.get("targets") if isinstance(group, Mapping) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SourceError(f"{where}: quantization_config has no list of target layers")
        if patterns := [name for name in names if is_foreign(name)]:
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
        targets.extend((name, scheme) for name in names)
    return targets
