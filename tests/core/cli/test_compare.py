"""The commands that compare: `compare`, `diff`, and `evaluate --output`, on a toy family."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.commands import Runner, toy_runner
from core.reports.page_reader import Reader
from core.toy import LETTERS, ToyPlugin, make_model
from core.toy import predict as toy_predict
from sottovoce import Model, Prediction, Sample


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin(inputs=("text",)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_model(tmp_path / "other", seed=3)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = [{"key": str(number), "target": LETTERS[number:] + LETTERS[:number]} for number in range(6)]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def test_compare_prints_one_object_that_is_the_written_one(
    run: Runner, source: Path, manifest: Path, tmp_path: Path
) -> None:
    form = run("compare", source, "--recipes", "int8", "--data", manifest, "-o", tmp_path / "out", "--json").json
    assert form == json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in form["models"]] == ["toy", "int8"]


def test_compare_says_where_the_chosen_model_is(run: Runner, source: Path, manifest: Path, tmp_path: Path) -> None:
    out = run("compare", source, "--recipes", "int8", "--data", manifest, "-o", tmp_path / "out").out
    assert f"*isin{tmp_path / 'out' / 'int8'}" in "".join(out.split())


def test_compare_shows_a_table_with_labels_the_command_and_the_page(
    run: Runner, source: Path, other: Path, manifest: Path, tmp_path: Path
) -> None:
    done = run("compare", source, other, "--data", manifest, "--output", tmp_path / "out", "--max-size", "1GB")
    assert done.code == 0, done.err
    for text in ("word error rate", "toy", "other", "peak memory", "comparison.html"):
        assert text in done.out
    assert "wer" not in done.out.replace("lower", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipes", "int9"], "unknown recipe 'int9'"),
        (["--recipes", " , "], "--recipes names no recipe"),
        (["--recipes", "int8", "--max-size", "x0.001"], "no recipe fits"),
        (["--recipes", "int8", "--max-size", "small"], "'small' is not a budget"),
        ([], "nothing to compare with"),
    ],
)
def test_wrong_use_of_compare_is_one_line_and_writes_nothing(
    run: Runner, source: Path, manifest: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    run("compare", source, "--data", manifest, "--output", tmp_path / "out", *arguments).fails(2, message)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A manifest of six recordings."""
    lines = []
    for number in range(6):
        noise = 0.1 * np.random.default_rng(number).standard_normal(8000 * (number + 1))
        soundfile.write(tmp_path / f"{number}.wav", noise, 16000)
        target = LETTERS[number:] + LETTERS[:number]
        lines.append({"key": str(number), "source": f"{number}.wav", "target": target})
    path = tmp_path / "speech.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def test_compare_puts_the_audio_of_what_changed_into_the_page(
    run: Runner, source: Path, other: Path, speech: Path, tmp_path: Path
) -> None:
    pytest.importorskip("av", reason="the extra `audio` encodes")
    out = tmp_path / "out"
    form = run("compare", other, "--baseline", source, "--data", speech, "--audio", "-o", out, "--json").json
    page = Reader((out / "comparison.html").read_text(encoding="utf-8"))
    page.refers_to_nothing_outside()
    assert len(page.players) == len(form["utterances"]) == 6
    for player, utterance in zip(page.players, form["utterances"], strict=True):
        kind, _, content = player.partition(",")
        assert kind == "data:audio/ogg;base64"
        info = soundfile.info(io.BytesIO(base64.b64decode(content)))
        assert info.format == "OGG"
        assert info.duration == pytest.approx(utterance["seconds"], abs=0.03)
    assert "media-src data:" in next(value for _, _, value in page.attributes if value.startswith("default-src"))
    without = run("compare", other, "--baseline", source, "--data", speech, "-o", tmp_path / "without", "--json")
    assert without.code == 0
    assert not Reader((tmp_path / "without" / "comparison.html").read_text(encoding="utf-8")).players


def test_compare_without_an_encoder_is_one_line_before_anything_runs(
    run: Runner, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("compare", "nowhere", "neither", "--data", speech, "--audio", "-o", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("sottovoce.system.opus._ENCODER", "no-such-encoder")
        run(*arguments).fails(1, "FFmpeg's encoder no-such-encoder", "or leave --audio out")
    monkeypatch.setattr("sottovoce.system.opus.find_spec", lambda name: None)
    run(*arguments).fails(1, "audio in a page needs PyAV; pip install av, or leave --audio out")
    assert not (tmp_path / "out").exists()


def test_diff_names_the_layers(run: Runner, source: Path, other: Path, manifest: Path) -> None:
    form = run("diff", other, source, "--data", manifest, "--key", "3", "--json").json
    assert {unit["name"] for unit in form["units"]} == {"embed", "blocks.0", "blocks.1", "head"}
    done = run("diff", other, source, "--data", manifest, "--key", "3")
    assert done.code == 0, done.err
    for text in ("reference", "baseline", "divergence left", "blocks.0"):
        assert text in done.out


def test_diff_says_of_how_many_layers_the_output_was_asked(run: Runner, tmp_path: Path, manifest: Path) -> None:
    source = make_model(tmp_path / "deep", blocks=16)
    run("compress", source, "--recipe", "int8", "-o", tmp_path / "int8")
    arguments = ("diff", tmp_path / "int8", source, "--data", manifest, "--key", "3")
    assert "the output was asked of the first 12 rows alone" in run(*arguments).out
    assert "was asked of" not in run(*arguments, "--top", "12").out


def test_diff_of_an_unknown_key_is_one_line(run: Runner, source: Path, other: Path, manifest: Path) -> None:
    run("diff", other, source, "--data", manifest, "--key", "x").fails(1, "no sample has the key 'x'")


@pytest.mark.parametrize("with_baseline", [True, False])
def test_evaluate_writes_a_page_and_every_prediction(
    run: Runner, source: Path, other: Path, manifest: Path, tmp_path: Path, with_baseline: bool
) -> None:
    out = tmp_path / "out"
    options = ["--baseline", source] if with_baseline else []
    form = run("evaluate", other, *options, "--data", manifest, "--output", out, "--json").json
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "evaluation.html", "predictions.jsonl"}
    assert form == json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = {"key", "target", "model", "edits", "error", "seconds"} | ({"baseline"} if with_baseline else set())
    assert [line.keys() for line in lines] == [keys] * 6
    assert [line["key"] for line in lines] == [str(number) for number in range(6)]
    assert all((not line["edits"]) == (line["target"] == line["model"]) for line in lines)
    assert "<h1>Evaluation</h1>" in (out / "evaluation.html").read_text(encoding="utf-8")


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    """A runner whose model of seed 3 reaches its limit of tokens in the samples 0 and 4, and the other in 4."""

    def predict(model: Model, sample: Sample) -> Prediction:
        keys = ("0", "4") if model.source.directory.name == "other" else ("4",)
        return replace(toy_predict(model, sample), cut_off=sample.key in keys)

    return toy_runner(monkeypatch, capfd, ToyPlugin(inputs=("text",), predict=predict))


MODELS_LINE = "other: 2 of 6 outputs end at the model's limit of tokens, unfinished"
BASELINES_LINE = "toy: 1 of 6 outputs ends at the model's limit of tokens, unfinished"


def test_outputs_that_end_at_the_limit_of_tokens_are_counted_by_evaluate(
    stopping: Runner, source: Path, other: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = stopping("evaluate", other, "--baseline", source, "--data", manifest, "-o", out, "--json")
    assert (done.json["cut_off"], done.json["baseline_cut_off"]) == (2, 1)
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["key"] for line in lines if line.get("cut_off")] == ["0", "4"]
    assert [line["key"] for line in lines if line.get("baseline_cut_off")] == ["4"]
    page = (out / "evaluation.html").read_text(encoding="utf-8").replace("&#39;", "'")
    for line in (MODELS_LINE, BASELINES_LINE):
        assert line in done.err
        assert line in page
    assert "ends at the limit of tokens" in page


def test_outputs_that_end_at_the_limit_of_tokens_are_counted_by_compare(
    stopping: Runner, source: Path, other: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = stopping("compare", other, "--baseline", source, "--data", manifest, "-o", out, "--json")
    assert {model["name"]: model["cut_off"] for model in done.json["models"]} == {"toy": 1, "other": 2}
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    marked = {name: [line["key"] for line in lines if line["models"][name].get("cut_off")] for name in ("toy", "other")}
    assert marked == {"toy": ["4"], "other": ["0", "4"]}
    page = (out / "comparison.html").read_text(encoding="utf-8").replace("&#39;", "'")
    for line in (MODELS_LINE, BASELINES_LINE):
        assert line in done.err
        assert line in page


def test_samples_of_less_than_a_frame_are_counted(run: Runner, source: Path, other: Path, tmp_path: Path) -> None:
    lines = []
    for number, length in enumerate((300, 16000, 399)):
        soundfile.write(tmp_path / f"{number}.wav", np.full(length, 0.1), 16000)
        lines.append({"key": str(number), "source": f"{number}.wav", "target": LETTERS})
    manifest = tmp_path / "audio.jsonl"
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    sentence = "2 of 3 samples have audio of less than one frame: no model is run there, and the output is empty"
    done = run("evaluate", other, "--data", manifest, "-o", tmp_path / "evaluated", "--json")
    assert done.json["samples"]["too_short"] == 2
    assert sentence in done.err
    assert sentence in (tmp_path / "evaluated" / "evaluation.html").read_text(encoding="utf-8")
    done = run("compare", source, other, "--data", manifest, "-o", tmp_path / "compared", "--json")
    assert done.json["samples"]["too_short"] == 2
    assert sentence in done.err
    assert sentence in (tmp_path / "compared" / "comparison.html").read_text(encoding="utf-8")


def test_long_texts_that_differ_only_in_their_middle_count_as_changed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], source: Path, other: Path, tmp_path: Path
) -> None:
    def predict(model: Model, sample: Sample) -> Prediction:
        middle = "b" if model.source.directory.name == "other" else "c"
        return Prediction(text="a" * 1600 + middle + "a" * 1600)

    run = toy_runner(monkeypatch, capfd, ToyPlugin(inputs=("text",), predict=predict))
    manifest = tmp_path / "test.jsonl"
    manifest.write_text(json.dumps({"key": "0", "target": LETTERS}) + "\n", encoding="utf-8")
    form = run("compare", other, "--baseline", source, "--data", manifest, "-o", tmp_path / "out", "--json").json
    assert {model["name"]: model["changed"] for model in form["models"]} == {"toy": 0, "other": 1}


def test_diff_says_whose_output_ends_at_the_limit_of_tokens(
    stopping: Runner, source: Path, other: Path, manifest: Path
) -> None:
    done = stopping("diff", other, source, "--data", manifest, "--key", "0", "--json")
    assert done.json["outputs"]["model"]["cut_off"] is True
    assert "cut_off" not in done.json["outputs"]["baseline"]
    assert f"note: {other}: the output ends at the model's limit of tokens" in done.err
    assert done.err.count("limit of tokens") == 1


def test_evaluate_replaces_an_earlier_evaluation_and_nothing_else(
    run: Runner, source: Path, manifest: Path, tmp_path: Path
) -> None:
    arguments = ("evaluate", source, "--data", manifest, "--output", tmp_path / "out", "--overwrite")
    assert run(*arguments).code == 0
    assert run(*arguments).code == 0
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    run(*arguments).fails(2, "was not written by Sottovoce")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
