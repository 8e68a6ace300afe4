"""The description of quantized layers that compressed-tensors defined and transformers and vLLM read.

A layer that is stored in int8 keeps its name: ``<layer>.weight`` is int8 ``[out, in]`` and ``<layer>.weight_scale``
float32 ``[out, 1]`` (the format ``int-quantized``). Which layers those are stands in a ``quantization_config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SourceError

if TYPE_CHECKING:
    from torch import nn

METHOD = "compressed-tensors"
FORMAT = "int-quantized"


def describe(module: nn.Module) -> dict[str, Any] | None:
    """The ``quantization_config`` of a module, or ``None`` when no layer is quantized."""
    from sottovoce.formats.int8_linear import Int8Linear

    names = [name for name, child in module.named_modules() if isinstance(child, Int8Linear)]
    if not names:
        return None
    group = {
        "targets": names,
        "format": FORMAT,
        "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
        "input_activations": {"num_bits": 8, "type": "int", "symmetric": False, "strategy": "tensor", "dynamic": True},
    }
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": [],
    }


def prepare_(module: nn.Module, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Put empty quantized layers where ``config`` says, ready for their tensors.

    Returns:
        The names of the layers.

    Raises:
        SourceError: The configuration is of another kind, or names what is no linear layer.
    """
    from torch import nn

    from sottovoce.formats.int8_linear import Int8Linear

    names = _targets(config)
    for name in names:
        parent_name, _, child_name = name.rpartition(".")
        try:
            parent = module.get_submodule(parent_name)
            linear = getattr(parent, child_name)
        except AttributeError:
            raise SourceError(f"quantization_config names the layer {name!r}, which the model does not have") from None
        if not isinstance(linear, nn.Linear):
            raise SourceError(
                f"quantization_config names {name!r}, which is a {type(linear).__name__}, not a linear layer"
            )
        empty = Int8Linear(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        setattr(parent, child_name, empty)
    return names


def is_own(config: Any) -> bool:
    """Whether a ``quantization_config`` is one that :func:`prepare_` reads."""
    return isinstance(config, Mapping) and config.get("quant_method") == METHOD and config.get("format") == FORMAT


def _targets(config: Mapping[str, Any]) -> tuple[str, ...]:
    groups = config.get("config_groups")
    if not is_own(config) or not isinstance(groups, Mapping) or len(groups) != 1:
        raise SourceError(f"quantization_config is not of the kind {METHOD} {FORMAT}; was it made by another tool?")
    targets = next(iter(groups.values())).get("targets")
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        raise SourceError("quantization_config has no list of target layers")
    return tuple(targets)
