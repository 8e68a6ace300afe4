"""Which scheme a layer gets."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from core.toy import Toy, architecture
from sottovoce.architecture import Architecture
from sottovoce.calibration.targets import select_layers
from sottovoce.errors import CoverageError
from sottovoce.quantization.plan import plan
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme

WEIGHT_ONLY = architecture(weight_only={r"re:blocks\.0": "its inputs have a wide range"})


def schemes(width: int, family: Architecture = WEIGHT_ONLY, **step: Any) -> list[Scheme]:
    """What the two blocks of a toy become."""
    made = Quantize.model_validate(step)
    return list(plan(select_layers(Toy(width), family, made.targets), family, made).values())


@pytest.mark.parametrize(("width", "group_size"), [(128, 64), (96, 32), (40, None)])
@pytest.mark.parametrize("activations", ["dynamic", "none"])
def test_inputs_that_stay_float_have_scales_for_groups(width: int, group_size: int | None, activations: str) -> None:
    first, second = schemes(width, activations=activations)
    assert first == Scheme(bits=8, group_size=group_size, activations="none", strategy=second.strategy)
    assert (second.group_size, second.activations) == (None, activations)


def test_a_recipe_that_says_how_counts_more() -> None:
    first, second = schemes(128, group_size=128)
    assert first.group_size == second.group_size == 128
    first, _ = schemes(128, overrides={r"re:blocks\.0": {"bits": 8}})
    assert first.group_size is None


@pytest.mark.parametrize("step", [{"type": "float"}, {"symmetric": False, "activations": "none"}])
def test_other_kinds_of_weights_have_none(step: dict[str, Any]) -> None:
    assert all(scheme.group_size is None for scheme in schemes(128, **step))


def test_experts_have_one_scale_for_an_output() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Module()
            self.mlp.experts = nn.ModuleList(nn.ModuleDict({"up_proj": nn.Linear(64, 64)}) for _ in range(2))

    family = architecture(targets=("re:.*up_proj",), weight_only={"re:.*up_proj": "few tokens each"})
    step = Quantize()
    found = plan(select_layers(Mixture(), family, None), family, step)
    assert len(found) == 2
    assert {(scheme.group_size, scheme.activations) for scheme in found.values()} == {(None, "none")}


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize(("width", "group_size"), [(128, 64), (96, 32), (40, 8), (36, None)])
def test_few_bits_have_groups_that_divide_the_inputs_or_become_8(bits: int, width: int, group_size: int | None) -> None:
    first, second = schemes(width, bits=bits)
    assert first == second == Scheme(bits=bits if group_size else 8, group_size=group_size, strategy=first.strategy)


def test_every_width_that_groups_do_not_divide_is_told_at_once() -> None:
    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (32, 32, 48, 96)
            self.layers = nn.ModuleList(nn.Linear(width, 16) for width in widths)

    facts = architecture(targets=(r"re:layers\.\d+",), ignore={})
    step = Quantize.model_validate({"bits": 4, "group_size": 64})
    with pytest.raises(CoverageError) as caught:
        plan(select_layers(Uneven(), facts), facts, step)
    assert "the 32 inputs of 'layers.0' and of 1 layer more: use group_size 32" in str(caught.value)
    assert "the 48 inputs of 'layers.2': use group_size 16" in str(caught.value)
    assert "the 96 inputs of 'layers.3': use group_size 32" in str(caught.value)
