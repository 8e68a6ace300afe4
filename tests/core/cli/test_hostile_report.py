"""Texts of a compression.json that someone edited control no terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.commands import Runner, toy_runner
from core.toy import ToyPlugin, make_host, make_model

HOSTILE = "\x1b[31m\x1b]0;title\x07\u202ename\r"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin())


@pytest.fixture
def small(run: Runner, tmp_path: Path) -> Path:
    run("compress", make_model(tmp_path / "toy"), "--recipe", "int8", "--output", tmp_path / "small", "-q")
    return tmp_path / "small"


def edit(small: Path, **fields: Any) -> None:
    path = small / "compression.json"
    form = json.loads(path.read_text())
    step = form["steps"][0]
    for name, value in fields.items():
        (step if name in step else form)[name] = value
    path.write_text(json.dumps(form))


@pytest.mark.parametrize(
    "fields",
    [
        {"notes": [HOSTILE]},
        {"kept": [{"name": HOSTILE, "parameters": 1, "reason": HOSTILE}]},
        {"coverage": {"parameters": 1, "compressed_parameters": 1, "parts": {
            HOSTILE: {"parameters": 1, "compressed_parameters": 1}}}},
        {"summary": {"en": HOSTILE}},
        {"source": {"name": HOSTILE}},
        {"source": {"name": "x" * 10**6}},
    ],
)  # fmt: skip
def test_inspect_and_repr_show_no_control_characters(small: Path, run: Runner, fields: dict[str, Any]) -> None:
    edit(small, **fields)
    done = run("inspect", small)
    assert done.code == 0, done.err
    report = sottovoce.load(small, host=make_host()).report
    assert len(repr(report)) <= 1000
    for text in (done.out, done.err, repr(report), str(report)):
        assert not set("\x1b\x07\u202e\r") & set(text)


def test_evaluation_of_hostile_names_has_a_plain_repr() -> None:
    from sottovoce.report import EvaluationReport, Machine, Metric, SampleSet

    metrics = {HOSTILE: Metric(name=HOSTILE, value=1, unit=HOSTILE)}
    report = EvaluationReport(
        model=HOSTILE, architecture="toy", samples=SampleSet(count=1), metrics=metrics, machine=Machine()
    )
    for text in (repr(report), str(report)):
        assert not set("\x1b\x07\u202e\r") & set(text)
