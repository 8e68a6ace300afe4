"""A method that returns anything else than it should is named, with what it returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sottovoce
from core.toy import make_host, make_model
from sottovoce import Method, Recipe, Text, method
from sottovoce.errors import PluginError, RecipeError
from sottovoce.quantization import method as registry
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams

LABELS = {"label": Text(en="wrong"), "description": Text(en="It is wrong.")}


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the methods of a test end with it."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry.methods()))
    yield


def declare(name: str = "wrong", **members: Any) -> type[Method]:
    return method(name)(type("Wrong", (Method,), {"__module__": "elsewhere", **LABELS, **members}))


def compress(folder: Path, **fields: Any) -> sottovoce.CompressionReport:
    host = make_host()
    model = sottovoce.load(make_model(folder / "toy"), host=host)
    return sottovoce.compress(model, {"steps": [{"step": "quantize", "method": "wrong", **fields}]}, host=host)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda values: values.float(), "a tensor of torch.float32"),
        (lambda values: values.long() * 1000, "a tensor of torch.int64"),
        (lambda values: values[:1], r"torch.int8 \[1, 32\], not of torch.int8 \[32, 32\]"),
        (lambda values: values.flatten(), r"torch.int8 \[1024\]"),
        (lambda values: torch.full_like(values, -128), "values from -128 to -128, beyond"),
        (lambda values: values.numpy(), "ndarray for a tensor"),
        (lambda values: None, "NoneType for a tensor"),
    ],
)
def test_values_of_another_form_are_refused(
    tmp_path: Path, change: Callable[[Tensor], Any], problem: str, bits: int
) -> None:
    def quantize(self: Method, weight: Tensor, qparams: QuantizationParams, hessian: Tensor | None) -> Any:
        return change(qparams.quantize(weight))

    declare(quantize=quantize)
    with pytest.raises(PluginError, match=f"the method 'wrong' of elsewhere: quantize gave .*{problem}"):
        compress(tmp_path, bits=bits)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda qparams: replace(qparams, scale=qparams.scale * float("nan")), "not a positive number"),
        (lambda qparams: replace(qparams, scale=-qparams.scale), "not a positive number"),
        (lambda qparams: replace(qparams, scale=qparams.scale[:1]), r"a scale of torch.float32 \[1, 1\]"),
        (lambda qparams: replace(qparams, scale=qparams.scale.double()), "a scale of torch.float64"),
        (lambda qparams: replace(qparams, scheme=Scheme(bits=4)), "another scheme"),
        (lambda qparams: replace(qparams, zero_point=qparams.scale * 0 + 1000.5), "another scheme|whole number"),
        (lambda qparams: replace(qparams, zero_point=qparams.scale.ceil() + 1000), "another scheme|beyond"),
        (lambda qparams: None, "NoneType, not QuantizationParams"),
    ],
)
def test_scales_of_another_form_are_refused(
    tmp_path: Path, change: Callable[[QuantizationParams], Any], problem: str, symmetric: bool
) -> None:
    def choose(self: Method, weight: Tensor, scheme: Scheme, *, search: bool) -> Any:
        return change(compute_qparams(weight, scheme, search=search))

    declare(compute_qparams=choose)
    with pytest.raises(PluginError, match=f"the method 'wrong' of elsewhere: compute_qparams gave .*({problem})"):
        compress(tmp_path, symmetric=symmetric)


@pytest.mark.parametrize("name", ["", "a b", "a\x1b[31m", "<b>", "../x", "x" * 61, None, 5])
def test_name_that_no_recipe_could_have_is_refused(name: Any) -> None:
    with pytest.raises(PluginError, match="of elsewhere: a name has letters"):
        declare(name)


@pytest.mark.parametrize("text", [Text(en=""), "a string", None])
@pytest.mark.parametrize("attribute", ["label", "description"])
def test_method_without_texts_is_refused(attribute: str, text: Any) -> None:
    with pytest.raises(PluginError, match=f"the method 'wrong' of elsewhere has no {attribute}"):
        declare(**{attribute: text})


def test_what_is_no_class_is_refused() -> None:
    with pytest.raises(PluginError, match="'wrong' of .* is not a subclass of Method"):
        method("wrong")(lambda: None)  # type: ignore[type-var]


def test_method_that_is_called_as_a_setting_harms_no_other_recipe() -> None:
    declare("bits")
    assert Recipe.from_dict({"steps": [{"step": "quantize", "bits": 4}]}).steps[0].to_dict()["bits"] == 4
    with pytest.raises(RecipeError, match="'bits' of elsewhere is the name of a setting"):
        Recipe.from_dict({"steps": [{"step": "quantize", "method": "bits"}]})
