"""Costs of a run: CPU time beside wall time, with its spread."""

from __future__ import annotations

import torch

from core.transcription.families import model
from sottovoce import Metric, Run
from sottovoce.entrypoints.measurement import run_samples
from sottovoce.metrics.cost import sottovoce_evaluate
from sottovoce.report.evaluation import EvaluationReport, SampleSet
from sottovoce.samples import Prediction, Sample, Samples


def metrics(run: Run) -> dict[str, Metric]:
    return {metric.name: metric for metric in sottovoce_evaluate(model(), run)}


def run(*cpu_seconds: float) -> Run:
    count = max(1, len(cpu_seconds))
    return Run(
        predictions=[Prediction()] * count, seconds=[0.5] * count, audio_seconds=[1.0] * count, cpu_seconds=cpu_seconds
    )


def test_cpu_time_is_the_median_with_its_quartiles() -> None:
    cpu = metrics(run(0.1, 0.2, 0.3, 0.4, 0.5))["cpu_ms"]
    assert cpu.value == 300
    assert cpu.details["quartiles"] == [200, 400]
    assert (cpu.kind, cpu.unit, cpu.better) == ("cost", "ms", "lower")


def test_one_sample_has_no_spread_and_an_unmeasured_run_no_cpu_time() -> None:
    assert "quartiles" not in metrics(run(0.1))["cpu_ms"].details
    assert "cpu_ms" not in metrics(run())


def test_work_counts_and_waiting_does_not() -> None:
    import time

    def predict(model: object, sample: Sample) -> Prediction:
        if sample.key == "wait":
            time.sleep(0.3)
        else:
            matrix = torch.ones(300, 300)
            end = time.process_time() + 0.2
            while time.process_time() < end:
                matrix @ matrix
        return Prediction(text="")

    measured = run_samples(model(predict=predict), Samples((Sample(key="wait"), Sample(key="work"))))
    waited, worked = measured.cpu_seconds
    assert waited < worked
    assert worked >= 0.2
    assert measured.seconds[0] >= 0.3


def test_the_table_shows_the_spread() -> None:
    report = EvaluationReport(
        model="m",
        architecture="a",
        samples=SampleSet(name="s", count=5),
        metrics=metrics(run(0.1, 0.2, 0.3)),
        machine=None,
    )
    assert "200.00 ms (150.00 to 250.00)" in str(report)
