"""Saliency against sums over single tokens, and its file."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from core.drawn import normal
from core.mixtures import MODALITIES, make_experts, make_mixture, route
from sottovoce.calibration.routing import Routed
from sottovoce.errors import NotFiniteError, OutputError, RecipeError, SourceError
from sottovoce.experts.saliency import Saliency, measure, read_saliency, write_saliency
from sottovoce.runtime.experts import Expert, Experts

METRICS = ("reap", "mean-norm", "ean", "frequency")


def whole_numbers(*sizes: int, seed: int, most: int = 3) -> Tensor:
    return (normal(*sizes, seed=seed) * 1.5).round().clamp(-most, most)


def exact_experts(count: int, dtype: torch.dtype, width: int = 6, inner: int = 4, seed: int = 0) -> Experts:
    """Experts whose outputs are small whole numbers, whatever the order of the sums."""
    made = Experts(Expert(width, inner, nn.functional.relu, dtype, "cpu") for _ in range(count))
    for number, parameter in enumerate(made.parameters()):
        parameter.requires_grad = False
        parameter.copy_(whole_numbers(*parameter.shape, seed=100 * seed + number, most=1))
    return made


def exact_tokens(tokens: int, experts: int, top_k: int, dtype: torch.dtype, width: int = 6, seed: int = 0) -> Routed:
    index = torch.stack([normal(experts, seed=seed + token).topk(top_k).indices for token in range(tokens)])
    weight = (normal(tokens, top_k, seed=seed + 9).abs() * 64).round().clamp(1, 64) / 64
    hidden = whole_numbers(tokens, width, seed=seed + 4, most=1)
    return Routed(hidden.to(dtype), index, weight.to(dtype), torch.arange(tokens) * 7 % 3 % 2, MODALITIES)


def plain_scores(experts: Experts, routed: Routed, metric: str, modality: str | None) -> list[float]:
    """The definitions, one token after another, every expert on every token."""
    norms: dict[int, list[float]] = defaultdict(list)
    gated: dict[int, list[float]] = defaultdict(list)
    for token in range(len(routed)):
        if modality is not None and MODALITIES[int(routed.modality[token])] != modality:
            continue
        for number, expert in enumerate(experts):
            norm = float(torch.linalg.vector_norm(expert(routed.hidden[token : token + 1]).float(), dim=-1))
            for slot in range(routed.index.shape[1]):
                if int(routed.index[token, slot]) == number:
                    norms[number].append(norm)
                    gated[number].append(float(routed.weight[token, slot]) * norm)
    return {
        "reap": [sum(gated[number]) / max(len(gated[number]), 1) for number in range(len(experts))],
        "mean-norm": [sum(norms[number]) / max(len(norms[number]), 1) for number in range(len(experts))],
        "ean": [sum(norms[number], 0.0) for number in range(len(experts))],
        "frequency": [float(len(norms[number])) for number in range(len(experts))],
    }[metric]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=30)
@given(seed=st.integers(0, 99), tokens=st.integers(1, 40), top_k=st.integers(1, 3))
def test_every_metric_equals_its_definition(dtype: torch.dtype, seed: int, tokens: int, top_k: int) -> None:
    experts = exact_experts(5, dtype, seed=seed)
    routed = exact_tokens(tokens, 5, top_k, dtype, seed=seed)
    found = measure(experts, routed)
    for metric in METRICS:
        for modality in (None, *MODALITIES):
            scores = found.score(metric, modality).tolist()  # type: ignore[arg-type]
            plain = plain_scores(experts, routed, metric, modality)
            # Sums over both kinds are added in another order.
            assert scores == (plain if modality else pytest.approx(plain, rel=1e-15))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("modality", [None, *MODALITIES])
def test_saliency_of_every_dtype_is_finite(dtype: torch.dtype, metric: Any, modality: str | None) -> None:
    mixture = make_mixture(dtype=dtype)
    routed = route(mixture, 200)
    found = measure(mixture.experts, routed).score(metric, modality)
    plain = plain_scores(mixture.experts, routed, metric, modality)
    assert found.tolist() == pytest.approx(plain, rel=1e-5 if dtype == torch.float32 else 1e-2)
    assert found.dtype == torch.float64


def test_expert_runs_on_its_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = make_mixture()
    routed = route(mixture, 60)
    want = measure(mixture.experts, routed)
    ran: list[Tensor] = []
    for expert in mixture.experts:
        expert.register_forward_pre_hook(lambda _, arguments: ran.append(arguments[0]))
    monkeypatch.setattr("sottovoce.experts.saliency._TOKENS", 7)
    found = measure(mixture.experts, routed)
    assert sum(len(x) for x in ran) == routed.index.numel()
    assert max(len(x) for x in ran) <= 7
    assert found.count.equal(want.count)
    assert torch.allclose(found.gated_norm, want.gated_norm, rtol=1e-6)


def test_largest_is_the_largest_absolute_output() -> None:
    mixture = make_mixture()
    routed = route(mixture)
    found = measure(mixture.experts, routed)
    for number, expert in enumerate(mixture.experts):
        rows = (routed.index == number).any(1)
        want = float(expert(routed.hidden[rows]).abs().max()) if rows.any() else 0
        assert float(found.largest[number]) == pytest.approx(want)


def test_routed_shares_sum_to_one() -> None:
    mixture = make_mixture()
    found = measure(mixture.experts, route(mixture))
    for modality in (None, *MODALITIES):
        assert found.routed_share(range(3), modality) + found.routed_share(range(3, 8), modality) == pytest.approx(1)
    assert found.tokens == 100


def test_saliency_without_tokens_is_zero() -> None:
    experts = make_experts(3)
    nothing = Routed(
        torch.zeros(0, 16),
        torch.zeros(0, 2, dtype=torch.int64),
        torch.zeros(0, 2),
        torch.zeros(0, dtype=torch.int64),
        MODALITIES,
    )
    found = measure(experts, nothing)
    assert [found.score(metric).tolist() for metric in METRICS] == [[0.0] * 3] * 4  # type: ignore[arg-type]
    assert found.routed_share([0, 1]) == 0


def test_measuring_infinite_outputs_is_refused() -> None:
    mixture = make_mixture()
    mixture.experts[3].down_proj.weight[0, 0] = torch.nan
    with pytest.raises(NotFiniteError, match="expert 3"):
        measure(mixture.experts, route(mixture))


def test_score_of_an_unknown_modality_is_refused() -> None:
    mixture = make_mixture()
    with pytest.raises(RecipeError, match="'adio'; the kinds that were measured are text, audio"):
        measure(mixture.experts, route(mixture)).score("reap", "adio")


numbers = st.floats(0, 1e300) | st.sampled_from([5e-324, 0.1, 1 / 3])


@st.composite
def saliencies(draw: st.DrawFn) -> Saliency:
    kinds = tuple(draw(st.lists(st.text(max_size=4), min_size=1, max_size=3, unique=True)))
    experts = draw(st.integers(1, 4))
    row = st.lists(numbers, min_size=experts, max_size=experts)
    sums = [
        torch.tensor(draw(st.lists(row, min_size=len(kinds), max_size=len(kinds))), dtype=torch.float64)
        for _ in range(4)
    ]
    return Saliency(kinds, *sums, largest=torch.tensor(draw(row), dtype=torch.float64))


def same(one: Saliency, other: Saliency) -> bool:
    sums = ("count", "gate", "norm", "gated_norm", "largest")
    return one.modalities == other.modalities and all(getattr(one, name).equal(getattr(other, name)) for name in sums)


@given(saliencies())
def test_json_round_trip_keeps_the_numbers(saliency: Saliency) -> None:
    assert same(Saliency.from_dict(json.loads(json.dumps(saliency.to_dict()))), saliency)


def test_file_round_trip_keeps_the_layers(tmp_path: Path) -> None:
    mixture = make_mixture()
    layers = {f"layers.{number}.experts": measure(mixture.experts, route(mixture, seed=number)) for number in range(3)}
    path = tmp_path / "saliency.json"
    for _ in range(2):
        write_saliency(path, layers, model="tiny", samples={"count": 3})
    found = read_saliency(path)
    assert list(found) == list(layers)
    assert all(same(found[name], layers[name]) for name in layers)
    assert json.loads(path.read_text())["model"] == "tiny"
    assert [file.name for file in tmp_path.iterdir()] == ["saliency.json"]


GOOD = {"modalities": ["text"], **dict.fromkeys(("count", "gate", "norm", "gated_norm"), [[1, 2]]), "largest": [1, 2]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"modalities": "text"}, "'modalities'"),
        ({"modalities": None}, "'modalities'"),
        ({"count": [[1, 2], [3, 4]]}, r"'count' has the shape \[2, 2\]"),
        ({"norm": [1, 2]}, "'norm' has the shape"),
        ({"largest": [1, 2, 3]}, "'count' has the shape"),
        ({"largest": [[1, 2]]}, "'count' has the shape"),
        ({"gate": [[1, "a"]]}, "'gate' is missing or not numeric"),
        ({"gate": [[1], [1, 2]]}, "'gate' is missing or not numeric"),
        ({"gate": None}, "'gate' is missing or not numeric"),
        ({"gated_norm": [[1, -2]]}, "'gated_norm' has a value that is negative"),
        ({"gated_norm": [[1, float("nan")]]}, "'gated_norm' has a value that is negative or not finite"),
    ],
)
def test_invalid_saliency_is_refused(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert Saliency.from_dict(GOOD).experts == 2
    with pytest.raises(SourceError, match=problem):
        Saliency.from_dict(GOOD | change)
    path = tmp_path / "saliency.json"
    path.write_text(json.dumps({"format": "sottovoce-saliency-1", "layers": {"layers.7": GOOD | change}}))
    with pytest.raises(SourceError, match=f"layers.7: .*{problem}") as caught:
        read_saliency(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other", "layers": {}}', "\x00", "[" * 100_000])
def test_invalid_saliency_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "saliency.json"
    path.write_text(text)
    with pytest.raises(SourceError, match="not a saliency file"):
        read_saliency(path)


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_saliency(tmp_path / "none.json")
    with pytest.raises(OutputError, match="could not be written"):
        write_saliency(tmp_path / "none" / "saliency.json", {})
