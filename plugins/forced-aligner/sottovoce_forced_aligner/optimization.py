"""Changes that make a compressed aligner fast and small on the CPU."""

from __future__ import annotations

from torch import nn

from sottovoce.report.number_format import counted
from sottovoce.runtime.int8_linear import share_rounding_
from sottovoce_forced_aligner import activation, attention, normalization, rotary, stem

_LAYER_BY_LAYER = (
    (activation.install_, "activations in place"),
    (normalization.install_, "normalization in place"),
    (rotary.install_, "rotary embedding by halves"),
    (stem.install_, "convolutions over a few seconds at a time"),
)
_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def optimize_for_inference(module: nn.Module) -> tuple[str, ...]:
    """Make the layers of both stacks fast, in place.

    Returns:
        One line for each change.
    """
    shared = 0
    for child in module.modules():
        for names in _TOGETHER:
            layers = [getattr(child, name, None) for name in names]
            if all(isinstance(layer, nn.Module) for layer in layers):
                shared += share_rounding_(*[layer for layer in layers if isinstance(layer, nn.Module)])
    done = [f"{counted(shared, 'group')} of layers: the input is rounded once"]
    if attention.install_(module):
        done.append("attention in blocks")
    every = list(module.modules())
    done += [what for install_, what in _LAYER_BY_LAYER if sum([install_(child) for child in every])]
    return tuple(done)
