"""Collectors: entered for the time of a run, and asked for their results once it is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import sottovoce
from core.toy import ToyPlugin, make_host, make_model
from sottovoce import Metric, Model, Run, Sample, Samples
from sottovoce.entrypoints.measurement import run_samples
from sottovoce.metrics import collectors
from sottovoce.metrics.collectors import Finish, collector

SAMPLES = Samples((Sample(key="1", text="abc"), Sample(key="2", text="hg")))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of a collector that is registered for one test."""
    monkeypatch.setattr(collectors, "_COLLECTORS", list(collectors._COLLECTORS))
    calls: list[str] = []

    @collector
    def collect(model: Model, samples: Samples, is_compared: bool) -> Iterator[Finish]:
        calls.append(f"enter for {len(samples)}, {'compared' if is_compared else 'alone'}")

        def finish(run: Run) -> Run:
            calls.append("finish")
            return dataclasses.replace(run, expert_runs=1.5)

        try:
            yield finish
        finally:
            calls.append("exit")

    return calls


def test_collector_adds_to_the_run_after_it_is_over(calls: list[str], tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "toy"), host=make_host())
    run = run_samples(model, SAMPLES, lambda *_: calls.append("sample"))
    assert calls == ["enter for 2, alone", "sample", "sample", "exit", "finish"]
    assert run.expert_runs == 1.5
    assert len(run.predictions) == len(run.seconds) == 2


def test_collected_value_reaches_the_metrics_of_both_models(calls: list[str], tmp_path: Path) -> None:
    source = make_model(tmp_path / "toy")
    report = sottovoce.evaluate(source, SAMPLES, source, host=make_host())
    metric = report.metrics["expert_runs"]
    assert isinstance(metric, Metric)
    assert (metric.value, metric.baseline) == (1.5, 1.5)
    assert calls[:3] == calls[3:6] == ["enter for 2, compared", "exit", "finish"]


def test_error_while_running_exits_the_collector(calls: list[str], tmp_path: Path) -> None:
    def fail(model: Model, sample: Sample) -> sottovoce.Prediction:
        if calls:
            raise RuntimeError("stop")
        return sottovoce.Prediction()

    model = sottovoce.load(make_model(tmp_path / "toy"), host=make_host(ToyPlugin(predict=fail)))
    with pytest.raises(sottovoce.SottovoceError, match="stop"):
        run_samples(model, SAMPLES)
    assert calls == ["enter for 2, alone", "exit"]
