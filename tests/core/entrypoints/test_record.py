"""What was measured of a model stays beside it, when it is true of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.toy import LETTERS, make_host, make_model
from sottovoce import EvaluationReport, Samples, read_samples
from sottovoce.checkpoint import digests
from sottovoce.entrypoints.record import read_dataset, record, require_recordable
from sottovoce.errors import OutputError, UsageError
from sottovoce.metrics.kinds import is_timed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


@pytest.fixture
def small(source: Path, tmp_path: Path) -> Path:
    host = make_host()
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, "int8", host=host)
    return sottovoce.save(model, tmp_path / "small", host=host)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    lines = [json.dumps({"key": "1", "target": LETTERS}), json.dumps({"key": "2", "target": LETTERS[::-1]})]
    (tmp_path / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return read_samples(tmp_path / "test.jsonl")


def evaluations(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((directory / "compression.json").read_text(encoding="utf-8"))[
        "evaluations"
    ]
    return found


def evaluate(small: Path, samples: Samples, baseline: Path | None = None) -> EvaluationReport:
    return sottovoce.evaluate(small, samples, baseline, host=make_host())


def test_recorded_evaluation_keeps_the_model_loadable(small: Path, source: Path, samples: Samples) -> None:
    before = digests(small)
    report = evaluate(small, samples, source)
    record(report, small)
    [found] = evaluations(small)
    kept, busy = report.to_dict()["metrics"].items(), report.machine.get("busy")
    assert found["metrics"] == {name: metric for name, metric in kept if not (busy and is_timed(name))}
    assert (found["model"], found["baseline"]) == ("small", "toy")
    assert found["samples"]["sha256"] == samples.digest
    assert found["date"] == report.date
    after = digests(small)
    assert {name for name in after if after[name] != before[name]} == {"compression.json"}
    again = sottovoce.load(small, host=make_host())
    assert again.report is not None
    assert [each.to_dict() for each in again.report.evaluations] == [found]


def test_recorded_quality_has_its_intervals_and_its_test(small: Path, source: Path, samples: Samples) -> None:
    report = evaluate(small, samples, source)
    record(report, small)
    [recorded] = evaluations(small)
    for key in ("intervals", "baseline_intervals"):
        bounds = recorded[key]["cer"]
        value = recorded["metrics"]["cer"]["value" if key == "intervals" else "baseline"]
        assert bounds["low"] <= value <= bounds["high"]
    test = recorded["tests"]["cer"]
    assert test["difference"] == pytest.approx(report.metrics["cer"].value - report.metrics["cer"].baseline)
    assert (test["samples"], 0 < test["p"] <= 1) == (2, True)
    assert "size_bytes" not in recorded["intervals"]
    assert f"(p {test['p']:.2f})" in str(report)


def test_evaluation_of_one_sample_has_neither_intervals_nor_tests(small: Path, source: Path, samples: Samples) -> None:
    form = evaluate(small, Samples(tuple(samples)[:1]), source).to_dict()
    assert not {"intervals", "baseline_intervals", "tests"} & form.keys()


def test_times_of_a_busy_machine_are_not_recorded(
    small: Path, source: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reason, kept in (("the machine is busy", False), (None, True)):
        monkeypatch.setattr("sottovoce.entrypoints.paired_timing.busy", lambda *_, reason=reason: reason)
        report = evaluate(small, samples, source)
        assert report.metrics["latency_ms"].details["by_turns"]["ratio"]["rounds"] == 5
        record(report, small)
        [found] = evaluations(small)
        assert ("latency_ms" in found["metrics"]) == kept
        assert "size_bytes" in found["metrics"] and "cer" in found["metrics"]


def test_evaluation_of_the_same_data_is_replaced(small: Path, samples: Samples, tmp_path: Path) -> None:
    for _ in range(2):
        record(evaluate(small, samples), small)
    assert len(evaluations(small)) == 1
    (tmp_path / "other.jsonl").write_text(json.dumps({"key": "1", "target": LETTERS[:3]}), encoding="utf-8")
    record(evaluate(small, read_samples(tmp_path / "other.jsonl")), small)
    assert [each["samples"]["count"] for each in evaluations(small)] == [2, 1]


def test_baseline_other_than_the_source_is_refused(small: Path, samples: Samples, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=1)
    report = evaluate(small, samples, other)
    with pytest.raises(UsageError, match=r"other: is not the model that .*small was compressed from.*give toy"):
        record(report, small)
    assert evaluations(small) == []


def test_copy_of_the_source_is_accepted_as_baseline(small: Path, samples: Samples, tmp_path: Path) -> None:
    record(evaluate(small, samples, make_model(tmp_path / "copy", seed=0)), small)
    assert evaluations(small)[0]["baseline"] == "toy"


def test_compressing_again_drops_evaluations(small: Path, samples: Samples) -> None:
    record(evaluate(small, samples), small)
    host = make_host()
    model = sottovoce.load(small, host=host)
    assert model.report is not None and model.report.evaluations
    dense = sottovoce.load(make_model(small.parent / "dense"), host=host)
    dense.report = model.report
    assert sottovoce.compress(dense, "int8", host=host).evaluations == []


def test_directory_that_sottovoce_did_not_write_is_not_recordable(source: Path, small: Path) -> None:
    with pytest.raises(UsageError, match="there is no compression.json"):
        require_recordable(source)
    require_recordable(small)


def test_full_disk_keeps_the_report_unchanged(small: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (small / "compression.json").read_bytes()
    report = evaluate(small, samples)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="could not be written and is unchanged .No space left"):
        record(report, small)
    assert (small / "compression.json").read_bytes() == before
    assert not [path for path in small.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openslr/librispeech_asr", ("openslr/librispeech_asr", None, None)),
        ("a/b@main", ("a/b", "main", None)),
        ("a/b@refs/pr/1#test.clean", ("a/b", "refs/pr/1", "test.clean")),
        ("a/b#t", ("a/b", None, "t")),
    ],
)
def test_dataset_id_is_read(text: str, expected: tuple[str, str | None, str | None]) -> None:
    found = read_dataset(text)
    assert (found["id"], found["revision"], found["task"]) == expected


@pytest.mark.parametrize("text", ["", "librispeech", "a/b/c", "a/b@", "a b/c", "https://x/y"])
def test_invalid_dataset_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write a dataset as owner/name"):
        read_dataset(text)
