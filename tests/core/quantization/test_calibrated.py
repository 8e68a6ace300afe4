"""What a report says of a layer beside what rounding to nearest would have given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.toy import LETTERS, ToyPlugin, make_host, make_model
from sottovoce import Sample, Samples

HOST = make_host(ToyPlugin(inputs=("text",)))
SAMPLES = Samples(tuple(Sample(key=str(n), text=LETTERS[n:] + LETTERS[: n + 3]) for n in range(8)))


def first_layer(source: Path, **fields: Any) -> dict[str, Any]:
    """What is said of the first block, which is given the same whatever the method is."""
    recipe = {"steps": [{"step": "quantize", "activations": "static", "min_coverage": 0, **fields}]}
    report = sottovoce.compress(sottovoce.load(source, host=HOST), recipe, SAMPLES, host=HOST)
    target: dict[str, Any] = report.to_dict()["steps"][0]["targets"][0]
    return target


@pytest.mark.parametrize("weight_range", ["minmax", "mse"])
@pytest.mark.parametrize("method", ["squant", "hqq", "gptq"])
def test_the_error_of_rounding_to_nearest_is_that_method_s_whatever_the_recipe_uses(
    method: str, weight_range: str, tmp_path: Path
) -> None:
    source = make_model(tmp_path / "toy", width=64)
    nearest = first_layer(source, method="round_to_nearest", weight_range=weight_range)
    other = first_layer(source, method=method, weight_range=weight_range)
    assert nearest["rounded_output_error"] == nearest["output_error"]
    assert other["rounded_output_error"] == nearest["output_error"]
    assert other["output_error"] != nearest["output_error"]
