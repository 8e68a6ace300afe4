"""Experts are rounded by their own tokens: the first two projections by the inputs, the last by what these give."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.drawn import correlated, moments, normal
from core.mixtures import Mixture, Router, make_experts
from sottovoce.calibration.routing import Routed
from sottovoce.errors import NotFiniteError
from sottovoce.quantization.data_free import quantize_layer_, quantize_weight
from sottovoce.quantization.experts import LEAST_TOKENS, quantize_experts_
from sottovoce.quantization.methods import gptq as gptq_module
from sottovoce.quantization.methods.gptq import gptq
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.experts import PROJECTIONS, Experts
from sottovoce.runtime.float8_linear import Float8Linear
from sottovoce.runtime.layers import replace_
from sottovoce.runtime.packed_linear import PackedLinear

COUNT, WIDTH, INNER, NAME = 5, 64, 32, "layers.0.mlp.experts"
GPTQ = Quantize.model_validate({"bits": 4, "method": "gptq", "weight_range": "mse"})
NEAREST = Quantize.model_validate({"bits": 4, "weight_range": "mse"})
FOUR = Scheme(bits=4, group_size=32)


def make() -> Experts:
    return make_experts(COUNT, WIDTH, INNER).requires_grad_(False).eval()  # type: ignore[return-value]


def schemes_of(scheme: Scheme = FOUR, experts: range = range(COUNT)) -> dict[str, Scheme]:
    return {f"{NAME}.{number}.{name}": scheme for number in experts for name in PROJECTIONS}


def route(tokens: int = 400, seldom: int | None = 3, few: int = 20) -> Routed:
    """Tokens for all experts; one of them is given few."""
    hidden = correlated(tokens, WIDTH)
    often = [number for number in range(COUNT) if number != seldom]
    index = torch.stack(
        [torch.tensor([often[row % len(often)], often[(row + 1) % len(often)]]) for row in range(tokens)]
    )
    if seldom is not None:
        index[:few, 1] = seldom
    weight = torch.full((tokens, 2), 0.5)
    return Routed(hidden, index, weight, torch.zeros(tokens, dtype=torch.int64), ("all",))


def tokens_of(routed: Routed, number: int) -> Tensor:
    """The plain way."""
    return routed.hidden[(routed.index == number).any(-1)]


def rows_of(routed: Routed, number: int) -> int:
    return len(tokens_of(routed, number))


def steps_of(experts: Experts, number: int, name: str) -> Tensor:
    layer = experts.get_submodule(f"{number}.{name}")
    assert isinstance(layer, PackedLinear)
    return layer.qweight()


def test_each_expert_is_rounded_by_gptq_on_its_own_tokens() -> None:
    whole, experts, routed = make(), make(), route(seldom=None)
    found, notes = quantize_experts_(experts, NAME, schemes_of(), GPTQ, routed)
    assert notes == []
    assert list(found) == list(schemes_of())
    assert isinstance(GPTQ.options, gptq_module.GPTQ)
    for number in range(COUNT):
        expert, x = copy.deepcopy(whole[number]), tokens_of(routed, number)
        for names in (PROJECTIONS[:2], PROJECTIONS[2:]):
            for name in names:
                weight = expert.get_submodule(name).weight
                assert isinstance(weight, Tensor)
                _, qparams = quantize_weight(weight, FOUR, GPTQ)
                want = gptq(weight, moments(x), qparams, gptq_module.GPTQ())
                # Sums are taken in another order, so that a value on a border may fall to the other side.
                assert float((steps_of(experts, number, name) != want).float().mean()) < 0.002
            if "down_proj" in names:
                continue
            for name in names:
                replace_(expert, name, experts.get_submodule(f"{number}.{name}"))
            with torch.inference_mode():
                # What the last one is given is what the first two give, as they have become.
                x = expert.hidden(x)  # type: ignore[operator]


def test_the_last_projection_is_rounded_by_what_the_first_two_became() -> None:
    """Not by what they gave before."""
    whole, experts, routed = make(), make(), route(seldom=None)
    quantize_experts_(experts, NAME, schemes_of(), GPTQ, routed)
    alone = make()
    quantize_experts_(alone, NAME, {f"{NAME}.0.down_proj": FOUR}, GPTQ, routed)
    x = tokens_of(routed, 0)
    assert isinstance(GPTQ.options, gptq_module.GPTQ)
    with torch.inference_mode():
        hidden = whole[0].hidden(x)  # type: ignore[operator]
    weight = whole[0].get_submodule("down_proj").weight
    assert isinstance(weight, Tensor)
    _, qparams = quantize_weight(weight, FOUR, GPTQ)
    want = gptq(weight, moments(hidden), qparams, gptq_module.GPTQ())
    assert float((steps_of(alone, 0, "down_proj") != want).float().mean()) < 0.002
    assert float((steps_of(experts, 0, "down_proj") != want).float().mean()) > 0.01
    assert isinstance(alone[0].get_submodule("up_proj"), nn.Linear)


def test_gptq_has_the_smaller_output_error_mostly() -> None:
    routed = route(seldom=None)
    found, _ = quantize_experts_(make(), NAME, schemes_of(), GPTQ, routed)
    better = [one.output_error < one.rounded_output_error for one in found.values()]  # type: ignore[operator]
    assert sum(better) > 0.9 * len(better)
    total = sum(one.output_error for one in found.values())  # type: ignore[misc]
    assert total < 0.7 * sum(one.rounded_output_error for one in found.values())  # type: ignore[misc]


def test_the_errors_are_those_of_the_outputs() -> None:
    whole, experts, routed = make(), make(), route(tokens=120, seldom=None)
    found, _ = quantize_experts_(experts, NAME, schemes_of(), GPTQ, routed)
    for number in range(COUNT):
        x = tokens_of(routed, number)
        for name in PROJECTIONS[:2]:
            layer = whole[number].get_submodule(name)
            with torch.inference_mode():
                before, after = layer(x), experts.get_submodule(f"{number}.{name}")(x)
            error = float((after - before).square().sum() / before.square().sum())
            assert found[f"{NAME}.{number}.{name}"].output_error == pytest.approx(error, rel=2e-3)
            rounded = nn.Module()
            rounded.layer = copy.deepcopy(layer)
            quantize_layer_(rounded, "layer", FOUR, GPTQ)
            with torch.inference_mode():
                error = float((rounded.layer(x) - before).square().sum() / before.square().sum())  # type: ignore[operator]
            assert found[f"{NAME}.{number}.{name}"].rounded_output_error == pytest.approx(error, rel=2e-3)


def test_the_whole_mixture_s_outputs_are_nearer_than_with_rounding_to_nearest() -> None:
    routed = route(seldom=None)
    gaps = {}
    want = make()(routed.hidden, routed.index, routed.weight)
    for step in (GPTQ, NEAREST):
        experts = make()
        quantize_experts_(experts, NAME, schemes_of(), step, routed)
        with torch.inference_mode():
            gaps[step.method] = float((experts(routed.hidden, routed.index, routed.weight) - want).square().sum())
    assert gaps["gptq"] < 0.8 * gaps["round_to_nearest"]


@pytest.mark.parametrize("few", [0, 1, LEAST_TOKENS - 1])
def test_an_expert_with_few_tokens_is_rounded_to_nearest_and_told(few: int) -> None:
    experts, plain, routed = make(), make(), route(seldom=3, few=few)
    assert rows_of(routed, 3) == few
    found, notes = quantize_experts_(experts, NAME, schemes_of(), GPTQ, routed)
    assert notes == [f"{NAME}: 1 expert was given under 32 tokens and rounded to nearest: 3"]
    assert set(found) == set(schemes_of())
    for name in PROJECTIONS:
        quantize_layer_(plain, f"3.{name}", FOUR, GPTQ)
        assert steps_of(experts, 3, name).equal(steps_of(plain, 3, name))
        assert found[f"{NAME}.3.{name}"].output_error is None
        assert found[f"{NAME}.3.{name}"].snr_db is not None
        assert found[f"{NAME}.2.{name}"].output_error is not None


def test_an_expert_with_just_enough_tokens_is_not() -> None:
    experts, routed = make(), route(seldom=3, few=LEAST_TOKENS)
    found, notes = quantize_experts_(experts, NAME, schemes_of(), GPTQ, routed)
    assert notes == []
    assert found[f"{NAME}.3.up_proj"].output_error is not None


def test_many_that_have_few_are_told_in_one_line() -> None:
    experts = make_experts(12, WIDTH, INNER)
    schemes = {f"{NAME}.{number}.up_proj": FOUR for number in range(12)}
    routed = route(tokens=40, seldom=None)
    _, (note,) = quantize_experts_(experts, NAME, schemes, GPTQ, routed)
    assert note.endswith("12 experts were given under 32 tokens and rounded to nearest: 0, 1, 2, 3, 4, 5, 6, 7, ...")


@pytest.mark.parametrize(
    ("scheme", "step"),
    [
        (FOUR, {"bits": 4}),
        (FOUR, {"bits": 4, "method": "hqq"}),
        (Scheme(bits=8), {"bits": 8, "activations": "none"}),
        (Scheme(bits=8, type="float"), {"type": "float"}),
    ],
    ids=["nearest", "hqq", "int8", "fp8"],
)
def test_other_methods_round_each_layer_alone(scheme: Scheme, step: dict[str, Any]) -> None:
    experts, plain, quantize = make(), make(), Quantize.model_validate(step)
    found, notes = quantize_experts_(experts, NAME, schemes_of(scheme), quantize, route())
    assert notes == []
    for full in schemes_of():
        name = full.removeprefix(f"{NAME}.")
        want = quantize_layer_(plain, name, scheme, quantize)
        assert found[full] == want
        one, other = experts.get_submodule(name), plain.get_submodule(name)
        assert isinstance(one, PackedLinear | Float8Linear)
        assert all(
            tensor.view(torch.uint8).equal(other.state_dict()[key].view(torch.uint8))
            for key, tensor in one.state_dict().items()
        )


def test_layers_that_are_not_asked_for_stay_as_they_are() -> None:
    whole, experts = make(), make()
    schemes = {f"{NAME}.1.gate_proj": FOUR, f"{NAME}.1.up_proj": Scheme(bits=8), f"{NAME}.4.down_proj": FOUR}
    found, notes = quantize_experts_(experts, NAME, schemes, GPTQ, route())
    assert notes == []
    assert set(found) == set(schemes)
    for full in schemes_of():
        name = full.removeprefix(f"{NAME}.")
        layer = experts.get_submodule(name)
        if full in schemes:
            assert isinstance(layer, PackedLinear)
            assert layer.scheme == schemes[full]
        else:
            assert isinstance(layer, nn.Linear)
            assert layer.weight.equal(whole.get_submodule(name).weight)  # type: ignore[arg-type]


def test_the_moments_of_layers_with_one_input_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(weight: Tensor, *arguments: Any) -> Tensor:
        calls.append(len(weight))
        return gptq(weight, *arguments)

    monkeypatch.setattr(gptq_module, "gptq", counted)
    quantize_experts_(make(), NAME, schemes_of(), GPTQ, route(seldom=None))
    assert calls == [2 * INNER, WIDTH] * COUNT


def test_half_precision_experts_are_rounded_too() -> None:
    experts = make().bfloat16()
    routed = route(seldom=None)
    routed = Routed(routed.hidden.bfloat16(), routed.index, routed.weight, routed.modality, routed.modalities)
    found, _ = quantize_experts_(experts, NAME, schemes_of(), GPTQ, routed)
    assert all(one.output_error is not None and 0 < one.output_error < 0.1 for one in found.values())
    assert experts(routed.hidden, routed.index, routed.weight).dtype == torch.bfloat16


def test_bits_are_those_that_are_stored() -> None:
    experts = make()
    found, _ = quantize_experts_(experts, NAME, schemes_of(), GPTQ, route())
    # 4 bits, and a scale of 16 for each 32.
    assert {one.bits for one in found.values()} == {4.5}


def test_what_an_expert_is_given_must_be_finite() -> None:
    experts, routed = make(), route()
    routed.hidden[0, 0] = torch.nan
    with pytest.raises(NotFiniteError, match=r"layers\.0\.mlp\.experts\.\d"):
        quantize_experts_(experts, NAME, schemes_of(), GPTQ, routed)


def test_a_router_s_own_choice_is_what_experts_are_rounded_by() -> None:
    """The same through a mixture: more tokens go where the router sends them."""
    mixture = Mixture(make(), Router(normal(COUNT, WIDTH, seed=4), 2))
    hidden = correlated(300, WIDTH)
    _, weight, index = mixture.gate(hidden)
    routed = Routed(hidden, index, weight, torch.zeros(300, dtype=torch.int64), ("all",))
    with torch.inference_mode():
        before = mixture(hidden)
        found, _ = quantize_experts_(mixture.experts, NAME, schemes_of(), GPTQ, routed)
        after = mixture(hidden)
    assert set(found) == set(schemes_of())
    assert float((after - before).square().sum() / before.square().sum()) < 0.05
