"""Schemes in the terms of compressed-tensors, there and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.drawn import FLOAT8, MULTIPLIED, PACKED, SCHEMES, name_of
from sottovoce.recipe.scheme import Scheme


def group(scheme: Scheme) -> dict[str, Any]:
    inputs = scheme.input_activations()
    return {"weights": scheme.weights()} | ({"input_activations": inputs} if inputs else {})


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_written_group_is_read_back(scheme: Scheme) -> None:
    assert Scheme.read(group(scheme)) == scheme
    assert Scheme.read(group(scheme) | {"input_activations": scheme.input_activations()}) == scheme


@pytest.mark.parametrize(
    ("scheme", "lowest", "highest"),
    [
        (Scheme(bits=4), -8, 7),
        (Scheme(bits=4, symmetric=False), -8, 7),
        (Scheme(bits=8), -127, 127),
        (Scheme(bits=8, symmetric=False), -128, 127),
    ],
)
def test_scheme_has_the_range_of_its_integers(scheme: Scheme, lowest: int, highest: int) -> None:
    assert (scheme.lowest, scheme.highest) == (lowest, highest)


def test_format_names_are_those_of_compressed_tensors() -> None:
    assert {scheme.format for scheme in PACKED} == {"pack-quantized"}
    assert {scheme.format for scheme in MULTIPLIED} == {"int-quantized"}
    assert FLOAT8.format == "naive-quantized"


def test_weights_and_inputs_are_written_as_compressed_tensors_does() -> None:
    assert Scheme(bits=4, group_size=32, symmetric=False).weights() == {
        "num_bits": 4,
        "type": "int",
        "symmetric": False,
        "strategy": "group",
        "group_size": 32,
        "dynamic": False,
    }
    assert Scheme().weights() == {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "channel",
        "dynamic": False,
    }
    assert Scheme().input_activations() is None
    by_row, by_tensor, calibrated = (scheme.input_activations() for scheme in MULTIPLIED)
    assert by_row == {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    assert by_tensor == {"num_bits": 8, "type": "int", "symmetric": False, "strategy": "tensor", "dynamic": True}
    assert calibrated == {"num_bits": 8, "type": "int", "symmetric": False, "strategy": "tensor", "dynamic": False}


@pytest.mark.parametrize(
    "change",
    [
        {"weights": None},
        {"weights": []},
        {"weights": {}},
        {"input_activations": []},
        {"input_activations": "dynamic"},
    ],
    ids=str,
)
def test_group_without_weights_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Scheme.read(group(MULTIPLIED[0]) | change)


@pytest.mark.parametrize(
    "change",
    [
        {"num_bits": 5},
        {"num_bits": "4"},
        {"num_bits": None},
        {"strategy": "tensor"},
        {"strategy": "block"},
        {"dynamic": True},
        {"type": None},
        {"group_size": None},
        {"group_size": 0},
        {"group_size": -1},
        {"group_size": "32"},
        {"symmetric": None},
    ],
    ids=str,
)
def test_unsupported_weights_are_refused(change: dict[str, Any]) -> None:
    scheme = Scheme(bits=4, group_size=32)
    with pytest.raises(ValueError, match="quantized weights .* are not supported"):
        Scheme.read({"weights": scheme.weights() | change})


@pytest.mark.parametrize("scheme", MULTIPLIED, ids=name_of)
@pytest.mark.parametrize(
    "change", [{"num_bits": 4}, {"type": "float"}, {"strategy": "group"}, {"dynamic": "local"}], ids=str
)
def test_unsupported_inputs_are_refused(scheme: Scheme, change: dict[str, Any]) -> None:
    inputs = scheme.input_activations() or {}
    with pytest.raises(ValueError, match="quantized inputs .* are not supported"):
        Scheme.read({"weights": scheme.weights(), "input_activations": inputs | change})


def test_quantized_inputs_need_plain_int8_weights() -> None:
    inputs = MULTIPLIED[0].input_activations()
    for scheme in (FLOAT8, Scheme(bits=4, group_size=32), Scheme(bits=8, symmetric=False)):
        with pytest.raises(ValueError, match="quantized inputs .* are not supported"):
            Scheme.read({"weights": scheme.weights(), "input_activations": inputs})


def test_schemes_are_hashable_and_comparable() -> None:
    assert len(set(SCHEMES)) == len(SCHEMES)
    assert replace(SCHEMES[0]) == SCHEMES[0]
