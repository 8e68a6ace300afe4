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


_WEIGHTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
_INPUTS = {"num_bits": 8, "type": "int", "symmetric": False, "strategy": "tensor", "dynamic": True}


def describe(module: nn.Module) -> dict[str, Any] | None:
    """The ``quantization_config`` of a module, or ``None`` when no layer is quantized.

    One group holds the linear layers, whose inputs are quantized as they run, one the embedding tables.
    """
    from sottovoce.formats.int8_embedding import Int8Embedding
    from sottovoce.formats.int8_linear import Int8Linear

    groups: dict[str, Any] = {}
    for kind, inputs in ((Int8Linear, _INPUTS), (Int8Embedding, None)):
        names = [name for name, child in module.named_modules() if isinstance(child, kind)]
        if names:
            scheme = {"targets": names, "format": FORMAT, "weights": dict(_WEIGHTS)}
            groups[f"group_{len(groups)}"] = scheme | ({"input_activations": dict(inputs)} if inputs else {})
    if not groups:
        return None
    return {
        "quant_method": METHOD,
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [],
    }


def prepare_(module: nn.Module, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Put empty quantized layers where ``config`` says, ready for their tensors.

    Returns:
        The names of the layers.

    Raises:
        SourceError: The configuration is of another kind, or names what is no linear layer and no embedding table.
    """
    names = _targets(config)
    for name in names:
        parent_name, _, child_name = name.rpartition(".")
        try:
            parent = module.get_submodule(parent_name)
            layer = getattr(parent, child_name)
        except AttributeError:
            raise SourceError(f"quantization_config names the layer {name!r}, which the model does not have") from None
        setattr(parent, child_name, _empty(name, layer))
    return names


def _empty(name: str, layer: nn.Module) -> nn.Module:
    from torch import nn

    from sottovoce.formats.int8_embedding import Int8Embedding
    from sottovoce.formats.int8_linear import Int8Linear

    if isinstance(layer, nn.Linear):
        return Int8Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    if isinstance(layer, nn.Embedding):
        return Int8Embedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, device="meta")
    raise SourceError(f"quantization_config names {name!r}, which is a {type(layer).__name__}, not a linear layer")


def is_own(config: Any) -> bool:
    """Whether a ``quantization_config`` is one that :func:`prepare_` reads."""
    return isinstance(config, Mapping) and config.get("quant_method") == METHOD and config.get("format") == FORMAT


def _targets(config: Mapping[str, Any]) -> tuple[str, ...]:
    groups = config.get("config_groups")
    if not is_own(config) or not isinstance(groups, Mapping) or not groups:
        raise SourceError(f"quantization_config is not of the kind {METHOD} {FORMAT}; was it made by another tool?")
    targets = [group.get("targets") if isinstance(group, Mapping) else None for group in groups.values()]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in targets):
        raise SourceError("quantization_config has no list of target layers")
    return tuple(name for names in targets for name in names or ())
