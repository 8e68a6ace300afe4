"""Layers that a step may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn
from torch.nn.utils import parametrizations

from core.toy import Toy, architecture
from sottovoce.calibration.targets import select_layers
from sottovoce.errors import CoverageError


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_layer_that_computes_its_weight_is_refused_with_what_to_do(norm: Callable[[nn.Module], Any]) -> None:
    toy = Toy(16)
    name, layer = next((name, module) for name, module in toy.named_modules() if isinstance(module, nn.Linear))
    norm(layer)
    with pytest.raises(CoverageError, match=f"'{name}' computes its weight from other parameters.*remove"):
        select_layers(toy, architecture())
