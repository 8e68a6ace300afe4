"""Metrics are declared once, and whoever shows them reads the declaration."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from sottovoce import Metric
from sottovoce.errors import PluginError
from sottovoce.metrics.kinds import MetricKind, described, is_timed, kind_of, label_of, metric_kinds
from sottovoce.plugins.host import default_host
from sottovoce.text.translations import Text


def kind(name: str, **fields: object) -> MetricKind:
    text = Text(en=name)
    return MetricKind(**{"name": name, "label": text, "description": text, **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def declared() -> dict[str, MetricKind]:
    default_host()
    return dict(metric_kinds())


OURS = {
    "cer",
    "wer",
    "accuracy",
    "token_agreement",
    "divergence",
    "boundary_shift_ms",
    "boundary_agreement",
    "boundary_shift_from_baseline_ms",
    "boundary_shift_max_ms",
    "zero_duration_words",
    "words_off_by_1s",
    "size_bytes",
    "latency_ms",
    "rtf",
    "peak_memory_bytes",
    "peak_gpu_memory_bytes",
    "expert_runs",
}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_metric_is_declared_in_both_languages(declared: dict[str, MetricKind], name: str) -> None:
    metric = declared[name]
    assert re.search("[\u4e00-\u9fff]", metric.label.zh)
    assert re.search("[\u4e00-\u9fff]", metric.description.zh)
    assert metric.description.en.endswith(".")
    assert metric.better in ("lower", "higher")


@pytest.mark.parametrize("value", [np.float32(3.5), np.float64(3.5), torch.tensor(3.5)])
def test_a_number_of_another_library_is_a_number(value: Any) -> None:
    metric = kind("of_another_library").measured(value)
    assert type(metric.value) is float
    assert metric.value == 3.5


def test_a_cell_that_runs_again_may_declare_its_metric_in_another_way() -> None:
    cell = (
        "from sottovoce import MetricKind, Text\n"
        "kind = MetricKind(name='of_a_cell', unit={unit!r}, label=Text(en='a'), description=Text(en='a'))"
    )
    names = {"__name__": "__main__"}
    for unit in ("words", "s"):
        exec(cell.format(unit=unit), names)
    assert metric_kinds()["of_a_cell"].unit == "s"
    with pytest.raises(PluginError, match="'of_a_cell' is declared twice, and not alike"):
        kind("of_a_cell")
    with pytest.raises(PluginError, match="'cer' is declared twice, and not alike"):
        exec(cell.format(unit="s").replace("of_a_cell", "cer"), names)


def test_a_measured_number_carries_its_declaration(declared: dict[str, MetricKind]) -> None:
    metric = declared["cer"].measured(3.5, details={"reference": 10})
    assert (metric.name, metric.value, metric.unit, metric.better) == ("cer", 3.5, "%", "lower")
    form = metric.to_dict()
    assert form["kind"] == "quality"
    assert form["label"] == {"en": "character error rate (CER)", "zh": "字错误率（CER）"}
    assert form["details"] == {"reference": 10}


def test_a_suffix_names_a_part_of_the_samples(declared: dict[str, MetricKind]) -> None:
    metric = declared["accuracy"].measured(50, suffix="audio")
    assert metric.name == "accuracy_audio"
    assert metric.label == Text(en="correct answers, audio", zh="回答正确率（音频）")
    assert metric.headline is None
    assert described(Metric(name="accuracy_audio", value=50, unit="%")) == metric
    assert kind_of("accuracy_drop") is None


def test_an_undescribed_metric_takes_its_declaration_and_a_described_one_keeps_its_own() -> None:
    assert described(Metric(name="rtf", value=1, unit="")).better == "lower"
    label = Text(en="something else")
    assert described(Metric(name="rtf", value=1, unit="", label=label)).label == label
    assert described(Metric(name="never declared", value=1, unit="")).label is None
    assert label_of("never declared") is None


def test_a_name_is_declared_once() -> None:
    assert kind("test-twice") == kind("test-twice")
    with pytest.raises(PluginError, match="'test-twice' is declared twice, and not alike"):
        kind("test-twice", unit="s")


def test_times_say_nothing_of_a_busy_machine() -> None:
    assert is_timed("latency_ms")
    assert is_timed("rtf")
    assert not is_timed("cer")
    assert not is_timed("never declared")


@pytest.mark.parametrize("name", ["", "a b", "a|b", "<b>", "a\x1b[31m", "../x", "x" * 61])
def test_name_that_no_gate_could_have_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="a name has letters, digits"):
        MetricKind(name=name, label=Text(en="a"), description=Text(en="b"))


def test_name_that_a_gate_reads_as_a_limit_is_refused() -> None:
    with pytest.raises(PluginError, match="names that end in _increase"):
        MetricKind(name="cost_increase", label=Text(en="a"), description=Text(en="b"))
