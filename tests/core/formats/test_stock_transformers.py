"""What transformers by itself reads of a model is known before it is made."""

from __future__ import annotations

import pytest

from sottovoce.formats.stock_transformers import Stored, is_loaded_at_once, limits
from sottovoce.recipe.scheme import Scheme

INT4 = Scheme(bits=4, group_size=32, symmetric=True, activations="none")
WIDER = Scheme(bits=4, group_size=64, symmetric=True, activations="none")
STATIC = Scheme(bits=8, activations="static", strategy="tensor")


def expert(scheme: Scheme, number: int = 0) -> Stored:
    return Stored(f"model.layers.0.mlp.experts.{number}.up_proj", scheme, scheme.format)


def beside(scheme: Scheme) -> Stored:
    return Stored("model.layers.0.self_attn.q_proj", scheme, scheme.format)


def test_one_kind_of_experts_and_one_beside_them_is_read() -> None:
    layers = [expert(INT4), expert(INT4, 1), beside(WIDER)]
    assert limits(layers) == []
    assert is_loaded_at_once(layers)


@pytest.mark.parametrize(
    ("layers", "floats", "said"),
    [
        ([expert(INT4), expert(WIDER, 1)], [], "experts have more than one width"),
        ([expert(INT4), beside(INT4)], ["talker.experts"], "'talker.experts' stays float beside others"),
        ([expert(INT4), beside(STATIC)], [], "ranges of inputs were calibrated"),
    ],
)
def test_what_it_cannot_read_is_said(layers: list[Stored], floats: list[str], said: str) -> None:
    assert any(said in problem for problem in limits(layers, floats))


def test_a_model_without_experts_and_zero_points_has_no_limits() -> None:
    assert limits([beside(INT4), beside(WIDER), beside(STATIC)]) == []


def test_calibrated_ranges_do_not_keep_weights_from_becoming_float_while_it_loads() -> None:
    assert is_loaded_at_once([expert(INT4), beside(STATIC)])
    assert not is_loaded_at_once([expert(INT4), expert(WIDER, 1)])
