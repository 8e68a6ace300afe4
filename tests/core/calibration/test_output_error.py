"""Errors of a rounded weight, against plain computations from inputs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.drawn import correlated, moments, normal
from sottovoce.calibration.output_error import output_error, signal_to_noise_db, squared_error


@given(seed=st.integers(0, 99), noise=st.floats(1e-3, 1))
def test_errors_are_those_of_the_outputs(seed: int, noise: float) -> None:
    x, weight = correlated(60, 16, seed), normal(5, 16, seed=seed + 1)
    values = weight + noise * normal(5, 16, seed=seed + 2)
    wanted, got = x @ weight.t(), x @ values.t()
    error = float((wanted - got).square().sum()) / len(x)
    assert squared_error(weight, values, moments(x)) == pytest.approx(error, rel=1e-3)
    power = float(wanted.square().sum()) / len(x)
    assert output_error(weight, values, moments(x)) == pytest.approx(error / power, rel=1e-3)


@given(seed=st.integers(0, 99), noise=st.floats(1e-3, 1))
def test_signal_to_noise_is_in_decibels(seed: int, noise: float) -> None:
    weight = normal(5, 16, seed=seed)
    values = weight + noise * normal(5, 16, seed=seed + 2)
    signal = sum(value**2 for value in weight.flatten().tolist())
    error = sum(value**2 for value in (values - weight).flatten().tolist())
    assert signal_to_noise_db(weight, values.__getitem__) == pytest.approx(10 * math.log10(signal / error), abs=1e-2)


def test_no_error_has_no_ratio() -> None:
    weight = normal(3, 4)
    assert signal_to_noise_db(weight, weight.__getitem__) is None
    assert signal_to_noise_db(torch.zeros(3, 4), weight.__getitem__) is None
    assert output_error(weight, weight, torch.eye(4)) == 0


def test_outputs_without_power_have_no_error() -> None:
    assert output_error(torch.zeros(3, 4), normal(3, 4), torch.eye(4)) == 0
    assert output_error(normal(3, 4), torch.zeros(3, 4), torch.zeros(4, 4)) == 0


def test_half_precision_weights_are_compared_in_float() -> None:
    weight = normal(3, 4).bfloat16()
    assert signal_to_noise_db(weight, weight.float().__getitem__) is None
    assert squared_error(weight, weight.float(), torch.eye(4)) == 0
