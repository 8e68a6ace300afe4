"""A check runs a directory in every engine that is there, and says which does not do what the model does."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.commands import command, host_runner
from core.engines import toys
from sottovoce import Prediction, Sample, Samples
from sottovoce.engines import engine as registry
from sottovoce.engines.diagnosis import diagnose
from sottovoce.engines.measurement import EngineRun, latency_ms, spread
from sottovoce.entrypoints.check import Check, check
from sottovoce.errors import PluginError, UsageError
from sottovoce.plugins.host import default_host

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "examples/data/mandarin-commands/test.jsonl"
SAMPLES = Samples(tuple(Sample(key=f"s{number}", text="打开客厅的灯", language="zh") for number in range(4)))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that the toys run, and a way for other processes to import them."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    place = tmp_path / "model"
    place.mkdir()
    (place / "toy.txt").touch()
    yield place


def outcome(result: Check, name: str) -> dict[str, Any]:
    return next(engine for engine in result.to_dict()["engines"] if engine["engine"] == name)


def toy_check(directory: Path, *names: str, **options: Any) -> Check:
    return check(directory, SAMPLES, engines=names, rounds=2, **options)


def test_engine_with_the_same_answers_passes(directory: Path) -> None:
    result = toy_check(directory, "toy-right", "toy-slow")
    assert result.passed
    assert [outcome(result, name)["differing"] for name in ("toy-right", "toy-slow")] == [[], []]
    slow = outcome(result, "toy-slow")["measures"]
    assert slow["latency_p95_ms"] >= slow["latency_p50_ms"] >= 50
    assert slow["first_answer_s"] > 0.05
    assert slow["ms_per_token"] >= 50 / 6


def test_engine_with_other_answers_does_not_pass_and_the_samples_are_named(directory: Path) -> None:
    result = toy_check(directory, "toy-right", "toy-wrong")
    assert not result.passed
    wrong = outcome(result, "toy-wrong")
    assert wrong["differing"] == ["s0", "s1", "s2", "s3"]
    assert wrong["missed"] == ["max_differing 0 (measured 4)"]
    assert wrong["measures"]["cer"] == pytest.approx(100 / 6)


def test_differing_answers_may_be_allowed(directory: Path) -> None:
    assert toy_check(directory, "toy-right", "toy-wrong", limits={"max_differing": 4}).passed


def test_limit_that_is_not_held_is_told_with_what_was_measured(directory: Path) -> None:
    result = toy_check(directory, "toy-slow", limits={"max_latency_p50_ms": 10})
    assert not result.passed
    (missed,) = outcome(result, "toy-slow")["missed"]
    assert missed.startswith("max_latency_p50_ms 10 (measured ")


def test_engine_that_fails_is_told_and_the_others_run(directory: Path) -> None:
    result = toy_check(directory, "toy-broken", "toy-crashing", "toy-right")
    assert not result.passed
    assert outcome(result, "toy-broken")["reason"] == "model: a toy breaks"
    assert outcome(result, "toy-crashing")["reason"] == "ZeroDivisionError: a library's own error"
    assert outcome(result, "toy-right")["state"] == "ok"


def test_engine_that_is_not_installed_says_what_to_install_and_is_no_failure(directory: Path) -> None:
    result = toy_check(directory, "toy-absent", "toy-right")
    assert result.passed
    assert outcome(result, "toy-absent")["reason"] == "pip install no-such-distribution"


def test_no_engine_at_all_does_not_pass(directory: Path) -> None:
    assert not toy_check(directory, "toy-absent").passed


def test_bad_input_is_refused_in_a_line(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no engine 'nope'; known: .*toy-right"):
        toy_check(directory, "nope")
    with pytest.raises(UsageError, match=r"there is no limit 'max_beauty'; known: max_differing"):
        toy_check(directory, "toy-right", limits={"max_beauty": 1})
    with pytest.raises(UsageError, match="no such directory"):
        toy_check(tmp_path / "missing", "toy-right")
    with pytest.raises(UsageError, match="no engine runs what lies there"):
        check(tmp_path, SAMPLES)
    with pytest.raises(UsageError, match="none of toy-right runs what lies there"):
        toy_check(tmp_path, "toy-right")


def test_file_stands_for_the_directory_that_it_is_in(directory: Path) -> None:
    result = toy_check(directory / "toy.txt", "toy-right")
    assert result.passed
    assert result.directory == directory.name


def test_two_engines_of_one_name_are_refused() -> None:
    namespace = {"name": "toy-right", "__module__": "somewhere.other"}
    kind = type("Twin", (toys.Toy,), namespace)
    try:
        with pytest.raises(PluginError, match="'toy-right' of somewhere.other is taken by"):
            registry.registered_engines()
    finally:
        del registry._ENGINES[kind.__module__, kind.__qualname__]


UNFINISHED, FINISHED = Prediction(text="one two", cut_off=True), Prediction(text="one")


def engine_run(**facts: Any) -> EngineRun:
    rounds = [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]
    return EngineRun(**{"engine": "toy", "rounds": rounds, "int8_engine": "onednn", **facts})


def test_worst_round_counts() -> None:
    measured = engine_run(rounds=[[0.1, 0.2], [0.3, 0.5], [0.1, 0.1]])
    assert latency_ms(measured, 0.5) == 300
    assert latency_ms(measured, 0.95) == 500
    assert spread(measured) == pytest.approx((0.8 - 0.2) / 0.3)


def test_quiet_machine_gives_no_diagnosis() -> None:
    assert list(diagnose(engine_run(), 0.0)) == []


@pytest.mark.parametrize(
    ("facts", "others", "words"),
    [
        ({"int8_engine": "linear_dynamic"}, 0.0, "slower than oneDNN"),
        ({}, 1.9, "other processes used 1.9"),
        ({"rounds": [[0.1], [0.2]]}, None, "the rounds differ by 67%"),
        ({"threads": 512}, 0.0, "512 threads share"),
        ({"memory_growth_bytes": 300_000_000}, 0.0, "ONEDNN_PRIMITIVE_CACHE_CAPACITY"),
        ({"predictions": [UNFINISHED, FINISHED]}, 0.0, "1 of 2 answers ends at the model's limit of tokens"),
        ({"predictions": [UNFINISHED] * 3}, 0.0, "3 of 3 answers end at the model's limit of tokens"),
    ],
)
def test_diagnosis_is_a_sentence(facts: dict[str, Any], others: float | None, words: str) -> None:
    (sentence,) = diagnose(engine_run(**facts), others)
    assert words in sentence


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = host_runner(monkeypatch, capfd, default_host())
    monkeypatch.setattr("sottovoce.entrypoints.check.check", lambda *_, **__: pytest.fail("an engine ran"))
    model = ROOT / "examples/models/tiny-paraformer"
    (tmp_path / "file").touch()
    for output, problem in ((tmp_path / "file" / "a.jsonl", "file is not a directory"), (tmp_path, "is a directory")):
        run("check", model, "--data", MANIFEST, "--output", output).fails(1, f"{output}: ", problem)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The bundled Paraformer in int8, checked by the command in Sottovoce and in FunASR."""
    folder = tmp_path_factory.mktemp("check")
    small = sottovoce.load(ROOT / "examples/models/tiny-paraformer")
    few = Samples(tuple(sottovoce.read_samples(MANIFEST))[::20])  # the gate hears them twice
    sottovoce.compress(small, {"steps": [{"step": "quantize"}], "gate": {"max_cer_increase": 5}}, few)
    sottovoce.save(small, folder / "int8")
    options = ["--samples", "3", "--rounds", "1", "--output", folder / "results.jsonl"]
    done = command("check", folder / "int8", "--data", MANIFEST, *options, "--json", "--quiet")
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return done.json, [json.loads(line) for line in lines]


def test_funasr_hears_what_sottovoce_hears(bundled: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    result, lines = bundled
    states = {engine["engine"]: engine["state"] for engine in result["engines"]}
    assert states == {"sottovoce": "ok", "funasr": "ok"}
    assert result["reference"] == "sottovoce"
    assert all(engine["differing"] == [] for engine in result["engines"])
    assert [line["engine"] for line in lines] == ["sottovoce", "funasr"]
    assert all(line["latency_p95_ms"] > 0 and line["peak_memory_bytes"] > 0 for line in lines)


def test_bounds_of_the_gate_hold_for_every_engine(bundled: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    assert bundled[0]["limits"] == {"max_differing": 0, "max_cer_increase": 5}


def test_transformers_alone_aligns_as_sottovoce_does() -> None:
    result = check(ROOT / "examples/models/tiny-aligner", MANIFEST, count=2, rounds=1)
    assert {engine.engine: engine.state for engine in result.engines} == {"sottovoce": "ok", "transformers": "ok"}
    assert result.passed
