"""An export ends with what the format's engines give beside PyTorch, and keeps it in ``compression.json``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from core.commands import Runner, toy_runner
from core.engines import toys
from core.toy import ToyPlugin, make_host, make_model
from sottovoce import Prediction, Sample, Samples, export, load
from sottovoce.checkpoint.ownership import is_written_by_us
from sottovoce.checkpoint.report_file import read_report
from sottovoce.entrypoints import export as entrypoint
from sottovoce.entrypoints.export import agreement_of
from sottovoce.errors import SamplesError
from sottovoce.formats import Format
from sottovoce.formats.format import _FORMATS
from sottovoce.plugins.host import Host
from sottovoce.report import CompressionReport, EngineReport, ExportReport, Metric
from sottovoce.text.translations import Text

SAMPLES = Samples(tuple(Sample(key=f"s{number}", text="abcd"[: number + 1]) for number in range(3)))
ENGINES = (toys.Right(), toys.Wrong(), toys.Broken(), toys.Absent())


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """A family whose model says what the sample says, a format that the toy engines run, and a way to import them."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setattr(entrypoint, "registered_engines", lambda: ENGINES)
    for key in list(_FORMATS):
        monkeypatch.delitem(_FORMATS, key)

    class ToyFormat(Format):
        name = "toy"
        label = Text(en="a toy")
        architectures = ("toy",)

        def write(self, model: Any, directory: Path) -> None:
            (directory / "toy.txt").write_text("toy")

        def check(self, directory: Path) -> None:
            assert (directory / "toy.txt").is_file()

    def predict(model: object, sample: Sample) -> Prediction:
        return Prediction(text=sample.text, tokens=tuple(sample.text or ""))

    return make_host(ToyPlugin(predict=predict))


def exported(host: Host, tmp_path: Path, **options: Any) -> ExportReport:
    model = load(make_model(tmp_path / "model"), host=host)
    path = export(model, "toy", tmp_path / "out", host=host, **options)
    report = read_report(path)
    assert report.output is None or "/" not in report.output
    assert set(report.files) == {"toy.txt"}
    assert report.export is not None
    return report.export


def test_engines_are_run_beside_pytorch(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrypoint, "disturbances", lambda run, others: iter(()))
    report = exported(host, tmp_path, samples=SAMPLES)
    right, wrong, broken, absent = report.engines
    assert right.same == (3, 3)
    assert wrong.same == (0, 3)
    assert right.peak_memory_bytes and right.latency_p50_ms is not None
    assert str(right).startswith("toy-right: texts equal to PyTorch's on 3 of 3; ")
    assert str(right).endswith("B") and " ms a sample (p50, rounds within " in str(right)
    assert str(broken).startswith("toy-broken: failed (") and "a toy breaks" in str(broken)
    assert str(absent) == "toy-absent: not installed (pip install no-such-distribution)"
    assert report.files == {"toy.txt": 3}
    assert report.samples is not None and report.samples.count == 3


def test_times_of_a_busy_machine_are_left_out_and_the_line_says_so(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrypoint, "registered_engines", lambda: ENGINES[:1])
    monkeypatch.setattr(entrypoint.OtherWork, "cores", lambda self: 1000.0)
    (right,) = exported(host, tmp_path, samples=SAMPLES).engines
    assert right.same == (3, 3)
    assert (right.latency_p50_ms, right.latency_p95_ms, right.latency_spread, right.load_seconds) == (None,) * 4
    assert "no times, as the machine is busy: other processes used 1000.0 of its" in str(right)
    assert " ms a sample" not in str(right)


def test_agreement_is_that_of_the_family_where_it_has_one() -> None:
    tokens = Metric(name="token_agreement", value=90.0, unit="%", details={"identical": 9, "utterances": 10})
    boundaries = Metric(
        name="boundary_agreement",
        value=99.5,
        unit="%",
        details={"identical": 199, "boundaries": 200, "within_80_ms": 100.0},
        label=Text(en="equal word boundaries"),
    )
    error = Metric(name="cer", value=3.0, unit="%", details={"substitutions": 1})
    assert agreement_of({"cer": error, "token_agreement": tokens, "boundary_agreement": boundaries}) is boundaries
    assert agreement_of({"cer": error, "token_agreement": tokens}) is tokens
    assert agreement_of({"cer": error}) is None
    engine = EngineReport(engine="a", agreement={"boundary_agreement": boundaries}, latency_p50_ms=12.4)
    assert str(engine) == "a: equal word boundaries: 99.50 % (199 of 200); 12 ms a sample (p50)"


def test_most_samples_are_a_limit(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrypoint, "registered_engines", lambda: ENGINES[:1])
    assert exported(host, tmp_path, samples=SAMPLES, count=2).engines[0].same == (2, 2)


def test_without_samples_nothing_is_compared_and_the_line_says_so(host: Host, tmp_path: Path) -> None:
    report = exported(host, tmp_path)
    assert (report.samples, report.engines, report.machine) == (None, (), None)
    (line,) = report.lines()
    assert "made-up input" in line and "--data" in line


def test_format_that_no_engine_runs_is_said(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrypoint, "registered_engines", tuple)
    assert exported(host, tmp_path, samples=SAMPLES).lines() == [
        "no engine that is known here runs this format on samples"
    ]


def test_broken_manifest_writes_nothing(host: Host, tmp_path: Path) -> None:
    with pytest.raises(SamplesError):
        exported(host, tmp_path, samples=tmp_path / "none.jsonl")
    assert not (tmp_path / "out").exists()


def test_an_export_may_be_replaced(host: Host, tmp_path: Path) -> None:
    exported(host, tmp_path)
    assert is_written_by_us(tmp_path / "out")
    export(load(tmp_path / "model", host=host), "toy", tmp_path / "out", host=host, overwrite=True)


def test_reports_without_an_export_are_read_and_written_as_before(host: Host, tmp_path: Path) -> None:
    exported(host, tmp_path)
    form = json.loads((tmp_path / "out" / "compression.json").read_text())
    del form["export"]
    report = CompressionReport.from_dict(form)
    assert report.export is None
    assert "export" not in report.to_dict()


def test_command_prints_the_lines(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run: Runner = toy_runner(monkeypatch, capfd, ToyPlugin())
    source = make_model(tmp_path / "model")
    form = run("export", source, "-f", "toy", "-o", tmp_path / "out", "--json").json
    assert form["export"]["format"] == "toy"
    assert form["lines"] == ["it runs on a made-up input; give --data MANIFEST to compare its answers with PyTorch's"]
    done = run("export", source, "-f", "toy", "-o", tmp_path / "other")
    assert done.out.strip().splitlines()[-1] == form["lines"][0]
