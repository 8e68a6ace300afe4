"""Experts are described by patterns, for they are thousands; these mean the same layers when they are read."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.drawn import FLOAT8, MULTIPLIED, PACKED, name_of
from sottovoce.errors import SourceError
from sottovoce.formats import compressed_tensors
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.experts import PROJECTIONS, Expert, Experts
from sottovoce.runtime.layers import QUANTIZED, empty, replace_

WEIGHT, FOUR = Scheme(bits=8), Scheme(bits=4, group_size=32)


class Layer(nn.Module):
    def __init__(self, experts: int) -> None:
        super().__init__()
        self.attention = nn.Linear(64, 64, device="meta")
        self.mlp = nn.Module()
        self.mlp.experts = Experts(Expert(64, 32, nn.functional.silu, torch.float32) for _ in range(experts))
        self.mlp.gate = nn.Linear(64, experts, device="meta")


class Model(nn.Module):
    def __init__(self, layers: int = 3, experts: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(experts) for _ in range(layers))
        self.head = nn.Linear(64, 8, device="meta")


LAYER_NAMES = [
    *(f"layers.{layer}.attention" for layer in range(3)),
    *(
        f"layers.{layer}.mlp.experts.{expert}.{name}"
        for layer in range(3)
        for expert in range(4)
        for name in PROJECTIONS
    ),
]


def quantized(schemes: dict[str, Scheme]) -> Model:
    model = Model()
    for name, scheme in schemes.items():
        layer = empty(model.get_submodule(name), scheme)
        assert layer is not None
        replace_(model, name, layer)
    return model


def described(model: nn.Module) -> dict[str, Any]:
    config = json.loads(json.dumps(compressed_tensors.describe(model)))
    assert isinstance(config, dict)
    return config


def targets(config: dict[str, Any]) -> list[str]:
    return [name for group in config["config_groups"].values() for name in group["targets"]]


def layers_of(model: nn.Module) -> dict[str, Scheme]:
    return {name: child.scheme for name, child in model.named_modules() if isinstance(child, QUANTIZED)}


@pytest.mark.parametrize("scheme", [*PACKED, FLOAT8, *MULTIPLIED], ids=name_of)
def test_all_experts_are_three_patterns(scheme: Scheme) -> None:
    schemes = dict.fromkeys(LAYER_NAMES, scheme)
    config = described(quantized(schemes))
    names = targets(config)
    assert sorted(name for name in names if not name.startswith("re:")) == LAYER_NAMES[:3]
    assert sorted(name for name in names if name.startswith("re:")) == sorted(
        rf"re:layers\.\d+\.mlp\.experts\.\d+\.{name}" for name in PROJECTIONS
    )
    assert compressed_tensors.is_own(config)
    again = Model()
    assert set(compressed_tensors.prepare_(again, config)) == set(LAYER_NAMES)
    assert layers_of(again) == schemes


@given(st.dictionaries(st.sampled_from(LAYER_NAMES), st.sampled_from([WEIGHT, FOUR, FLOAT8]), min_size=1))
def test_any_choice_of_layers_is_read_as_it_was_written(schemes: dict[str, Scheme]) -> None:
    config = described(quantized(schemes))
    assert compressed_tensors.is_own(config)
    again = Model()
    names = compressed_tensors.prepare_(again, config)
    assert sorted(names) == sorted(schemes)
    assert layers_of(again) == schemes


@given(st.dictionaries(st.sampled_from(LAYER_NAMES), st.sampled_from([WEIGHT, FOUR, FLOAT8]), min_size=1))
def test_layers_with_two_names_are_described_under_both(schemes: dict[str, Scheme]) -> None:
    config = json.loads(json.dumps(compressed_tensors.describe(quantized(schemes), {"layers": "served.blocks"})))
    assert compressed_tensors.is_own(config)
    again = Model()
    assert sorted(compressed_tensors.prepare_(again, config)) == sorted(schemes)
    assert layers_of(again) == schemes
    for name in LAYER_NAMES:
        for other in (name, name.replace("layers.", "served.blocks.", 1)):
            # As compressed-tensors and vLLM match: from the beginning of the name.
            met = [
                group["weights"]
                for group in config["config_groups"].values()
                if any(re.match(target.removeprefix("re:"), other) for target in group["targets"])
            ]
            assert met == ([schemes[name].weights()] if name in schemes else [])


def test_one_expert_that_is_left_is_not_meant() -> None:
    left = "layers.1.mlp.experts.2.up_proj"
    names = [name for name in LAYER_NAMES if name != left]
    config = described(quantized(dict.fromkeys(names, WEIGHT)))
    patterns = [re.compile(name[3:]) for name in targets(config) if name.startswith("re:")]
    assert not any(pattern.fullmatch(left) for pattern in patterns)
    # Other layers' up projections are patterns still, one for each.
    assert r"re:layers\.0\.mlp\.experts\.\d+\.up_proj" in targets(config)
    assert "layers.1.mlp.experts.0.up_proj" in targets(config)
    assert r"re:layers\.\d+\.mlp\.experts\.\d+\.down_proj" in targets(config)


def test_a_layer_of_another_scheme_has_a_group_of_its_own() -> None:
    schemes = {name: FOUR if name.startswith("layers.2.") else WEIGHT for name in LAYER_NAMES}
    config = described(quantized(schemes))
    by_bits = {group["weights"]["num_bits"]: group["targets"] for group in config["config_groups"].values()}
    assert r"re:layers\.2\.mlp\.experts\.\d+\.down_proj" in by_bits[4]
    assert r"re:layers\.0\.mlp\.experts\.\d+\.down_proj" in by_bits[8]
    again = Model()
    compressed_tensors.prepare_(again, config)
    assert layers_of(again) == schemes


def test_names_with_dots_mean_themselves() -> None:
    config = described(quantized(dict.fromkeys(LAYER_NAMES, WEIGHT)))
    for pattern in (name[3:] for name in targets(config) if name.startswith("re:")):
        assert re.fullmatch(pattern, "layers.7.mlp.experts.63.gate_proj".replace("gate", pattern.split(".")[-1][:-5]))
        assert not re.fullmatch(pattern, "layersX7Xmlp.experts.63.gate_proj")


@pytest.mark.parametrize(
    ("target", "own"),
    [
        (r"re:layers\.\d+\.mlp\.experts\.\d+\.up_proj", True),
        ("layers.0.attention", True),
        (r"re:(layers|served\.blocks)\.\d+\.attention", True),
        (r"re:(?!head).*attention", False),
        (r"re:(.*|head)\.attention", False),
        (r"re:.*experts.*", False),
        (r"re:.*", False),
        ("Linear", False),
        ("Embedding", False),
    ],
)
def test_patterns_of_other_tools_are_told_from_ours(target: str, own: bool) -> None:
    config = described(quantized({"layers.0.attention": WEIGHT}))
    (group,) = config["config_groups"].values()
    group["targets"] = [target]
    assert compressed_tensors.is_own(config) == own
    if own:
        compressed_tensors.prepare_(Model(), config)
    else:
        with pytest.raises(SourceError, match=r"names layers by pattern|as another tool does"):
            compressed_tensors.prepare_(Model(), config)


def test_a_pattern_that_is_none_is_refused() -> None:
    config = described(quantized({"layers.0.attention": WEIGHT}))
    (group,) = config["config_groups"].values()
    group["targets"] = [r"re:layers\.(\.experts\.\d+"]
    with pytest.raises(SourceError, match="names layers by pattern"):
        compressed_tensors.prepare_(Model(), config)


def test_a_group_that_does_not_divide_is_named() -> None:
    config = described(quantized(dict.fromkeys(LAYER_NAMES, FOUR)))
    for group in config["config_groups"].values():
        group["weights"]["group_size"] = 64
    with pytest.raises(SourceError, match=r"groups of 64 for the 32 inputs of 'layers\.0\.mlp\.experts\.0\.down_proj'"):
        compressed_tensors.prepare_(Model(), config)


def test_a_model_without_quantized_layers_has_no_description() -> None:
    assert compressed_tensors.describe(Model()) is None
