"""Reports as JSON: no number leaves that JSON does not have."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce import Metric
from sottovoce.report import CompressionReport, to_json

FORMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


def refuse(constant: str) -> None:
    raise AssertionError(constant)


@given(FORMS)
def test_whatever_a_report_holds_is_json(form: Any) -> None:
    again = json.loads(to_json(form), parse_constant=refuse)
    assert to_json(again) == to_json(form)


def test_finite_numbers_stay_and_others_are_null() -> None:
    assert json.loads(to_json({"a": [1.5, math.nan, (math.inf,)], "b": 2})) == {"a": [1.5, None, [None]], "b": 2}
    assert json.loads(to_json({"a": np.float64("nan")})) == {"a": None}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_metric_that_is_no_number_has_no_value(number: float) -> None:
    metric = Metric(name="loss", value=number, unit="", baseline=number)
    assert (metric.value, metric.baseline) == (None, None)
    assert Metric(name="loss", value=0.0, unit="", baseline=2).to_dict() == {"value": 0.0, "unit": "", "baseline": 2}


@pytest.mark.parametrize("value", [1e30, "x", True, [1], ["x"], [[]], {"a": 1}], ids=str)
@pytest.mark.parametrize("name", ["evaluations", "steps"])
def test_a_list_of_another_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}(\.0)?: "):
        CompressionReport.from_dict({name: value})


@pytest.mark.parametrize("value", [1e30, "x", [], None], ids=str)
@pytest.mark.parametrize("name", ["recipe", "source", "coverage", "versions", "size_bytes"])
def test_a_mapping_of_another_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}(\.0)?: "):
        CompressionReport.from_dict({name: value})
