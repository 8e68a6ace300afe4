"""Comparison of models, on the toy family and on the bundled ones."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.toy import LETTERS, ToyPlugin, make_host, make_model
from sottovoce import Comparison, Metric, MetricKind, Run, Samples, Text
from sottovoce.entrypoints import paired_timing
from sottovoce.entrypoints.comparison.files import recorded
from sottovoce.errors import RecipeError, SamplesError, SottovoceError, UsageError
from sottovoce.metrics.headline import deciding
from sottovoce.plugins.host import Host, default_host

VOWELS = MetricKind(
    name="compared_vowels",
    unit="%",
    better="higher",
    label=Text(en="share of vowels"),
    description=Text(en="Share of the letters that are vowels."),
)
ROOT = Path(__file__).parents[3]
MODELS = ROOT / "examples" / "models"


class Plugin(ToyPlugin):
    """A toy with a metric of its own."""

    def __init__(self) -> None:
        super().__init__(inputs=("text",))

    @sottovoce.hookimpl
    def sottovoce_evaluate(self, samples: Samples, run: Run) -> Iterable[Metric]:
        shares = [(100.0 * sum(map("ae".count, text)), float(len(text))) for text in texts_of(run)]
        return [VOWELS.measured(sum(a for a, _ in shares) / sum(b for _, b in shares), by_sample=shares)]


def texts_of(run: Run) -> list[str]:
    return [prediction.text or "" for prediction in run.predictions]


@pytest.fixture(scope="module")
def host() -> Host:
    return make_host(Plugin())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    make_model(folder / "toy", blocks=6, width=64)
    draw = random.Random(0)
    lines = [{"key": f"s{number}", "target": "".join(draw.choices(LETTERS, k=20))} for number in range(24)]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "test.jsonl").write_text(text, encoding="utf-8")
    (folder / "calibration.jsonl").write_text(text.replace('"s', '"c'), encoding="utf-8")
    return folder


def compare(folder: Path, host: Host, **options: Any) -> Comparison:
    given: dict[str, Any] = {"recipes": ["int8", "int4"], "calibration": folder / "calibration.jsonl"}
    return sottovoce.compare(folder / "toy", folder / "test.jsonl", host=host, **(given | options))


@pytest.fixture(scope="module")
def finished(folder: Path, host: Host) -> Iterator[tuple[Path, Comparison]]:
    yield folder / "out", compare(folder, host, output=folder / "out")


def test_variants_and_files_are_written(finished: tuple[Path, Comparison]) -> None:
    directory, comparison = finished
    names = {path.name for path in directory.iterdir()}
    assert names == {".comparison", "comparison.json", "comparison.html", "predictions.jsonl", "int8", "int4"}
    assert [model.name for model in comparison.models] == ["toy", "int8", "int4"]
    form = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
    assert form == json.loads(json.dumps(recorded(comparison).to_dict()))
    assert Comparison.from_dict(form).to_dict() == recorded(comparison).to_dict()
    assert form["version"] == 1


def test_numbers_are_those_of_an_evaluation(finished: tuple[Path, Comparison], folder: Path, host: Host) -> None:
    directory, comparison = finished
    report = sottovoce.evaluate(directory / "int4", folder / "test.jsonl", folder / "toy", host=host)
    model = comparison.model("int4")
    for name in ("cer", "token_agreement", "size_bytes", VOWELS.name):
        assert model.metrics[name].value == report.metrics[name].value
        assert model.metrics[name].baseline == report.metrics[name].baseline
    assert sum(model.parts.values()) == model.size_bytes == report.metrics["size_bytes"].value
    assert set(model.parts) == {"blocks", "embedding", "other"}


def test_metrics_with_shares_have_intervals_and_tests_a_third_partys_too(finished: tuple[Path, Comparison]) -> None:
    model = finished[1].model("int4")
    for name in ("wer", "cer", VOWELS.name):
        bounds, value = model.intervals[name], model.metrics[name].value
        assert value is not None
        assert bounds.low <= value <= bounds.high
        assert 0 < model.tests[name].p <= 1
    assert not finished[1].models[0].tests


def test_times_are_of_one_run_in_turns(finished: tuple[Path, Comparison]) -> None:
    for model in finished[1].models:
        turns = model.metrics["latency_ms"].turns
        assert turns is not None
        assert turns.model is not None
        assert turns.model.rounds == paired_timing.ROUNDS


def test_choice_is_the_smallest_that_is_not_significantly_worse(finished: tuple[Path, Comparison]) -> None:
    comparison = finished[1]
    name = comparison.metric or ""
    holding = [
        model
        for model in comparison.models
        if model.is_reference or not (model.tests[name].p < 0.05 and model.tests[name].difference > 0)
    ]
    assert comparison.winner == min(holding, key=lambda model: model.size_bytes).name
    assert "not significantly worse" in comparison.rule


def test_command_makes_the_variant(finished: tuple[Path, Comparison]) -> None:
    command = finished[1].model("int4").command
    assert command == "sottovoce compress toy --recipe int4 --data calibration.jsonl --output int4"
    assert finished[1].model("int8").command == "sottovoce compress toy --recipe int8 --output int8"


def test_nothing_of_the_machine_is_written(finished: tuple[Path, Comparison], folder: Path) -> None:
    for path in finished[0].glob("*.*"):
        assert str(folder) not in path.read_text(encoding="utf-8"), path


def test_utterances_are_those_whose_text_changed_the_most_changed_first(
    folder: Path, host: Host, tmp_path: Path
) -> None:
    other, directory = make_model(tmp_path / "other", seed=5, blocks=1), tmp_path / "out"
    comparison = sottovoce.compare(other, folder / "test.jsonl", baseline=folder / "toy", output=directory, host=host)
    lines = [json.loads(line) for line in (directory / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    changed = {line["key"] for line in lines if len({model["text"] for model in line["models"].values()}) > 1}
    assert {utterance.key for utterance in comparison.utterances} == changed
    assert len(changed) == comparison.model("other").changed > 5
    losses = []
    for utterance in comparison.utterances:
        for output in utterance.outputs.values():
            assert "".join(after for _, _, after in output.edits) == output.text
            assert "".join(before for _, before, _ in output.edits) == utterance.reference
        base, model = utterance.outputs["toy"].error, utterance.outputs["other"].error
        assert base is not None
        assert model is not None
        losses.append(abs(model - base))
    assert losses == sorted(losses, reverse=True)


def test_finished_variants_are_kept_and_others_are_added(folder: Path, host: Host) -> None:
    directory = folder / "again"
    compare(folder, host, output=directory, recipes=["int8"])
    made = (directory / "int8" / "model.safetensors").stat()
    (directory / "comparison.json").unlink()  # as if it had been interrupted
    comparison = compare(folder, host, output=directory, recipes=["int8", "fp8"])
    assert (directory / "int8" / "model.safetensors").stat().st_ino == made.st_ino
    assert [model.name for model in comparison.models] == ["toy", "int8", "fp8"]
    with pytest.raises(UsageError, match="exists already"):
        compare(folder, host, output=directory)


def test_variant_of_another_model_is_not_taken_for_finished(folder: Path, host: Host, tmp_path: Path) -> None:
    make_model(tmp_path / "toy", seed=1, blocks=6, width=64)
    other = {"recipes": ["int8"], "output": tmp_path / "out", "host": host}
    sottovoce.compare(folder / "toy", folder / "test.jsonl", **other)
    (tmp_path / "out" / "comparison.json").unlink()
    with pytest.raises(UsageError, match="int8: exists already"):
        sottovoce.compare(tmp_path / "toy", folder / "test.jsonl", **other)
    sottovoce.compare(tmp_path / "toy", folder / "test.jsonl", overwrite=True, **other)


def test_recipes_that_are_too_large_are_named_and_not_tried(folder: Path, host: Host, tmp_path: Path) -> None:
    sizes = {name: facts["estimate"]["size_bytes"] for name, facts in inspected(folder, host).items()}
    limit = (sizes["int8"] + sizes["int4"]) // 2
    comparison = compare(folder, host, output=tmp_path / "out", max_size=str(limit))
    assert [(entry.name, entry.size_bytes) for entry in comparison.left_out] == [("int8", sizes["int8"])]
    assert not (tmp_path / "out" / "int8").exists()
    assert comparison.winner == "int4"


def inspected(folder: Path, host: Host) -> dict[str, Any]:
    return {name: sottovoce.inspect(folder / "toy", name, host=host) for name in ("int8", "int4")}


def test_finished_models_without_a_baseline_are_compared_with_the_best(
    finished: tuple[Path, Comparison], folder: Path, host: Host, tmp_path: Path
) -> None:
    models = [finished[0] / "int8", finished[0] / "int4"]
    comparison = sottovoce.compare(models, folder / "test.jsonl", output=tmp_path / "out", host=host)
    values = {model.name: model.metrics[comparison.metric or ""].value or 0.0 for model in comparison.models}
    assert values[comparison.reference.name] == min(values.values())
    assert comparison.model("int4").recipe == "int4"
    assert comparison.model("int4").command == finished[1].model("int4").command


def test_times_of_a_busy_machine_are_left_out_of_form_and_page_which_say_so(
    folder: Path, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paired_timing, "busy", lambda *_: "the machine is busy: a test says so")
    comparison = compare(folder, host, output=tmp_path / "out", recipes=["int8"])
    assert comparison.machine.busy == "the machine is busy: a test says so"
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "Times are left out:</strong> the machine is busy: a test says so" in page
    form = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert form["machine"]["busy"] == "the machine is busy: a test says so"
    kept = {name for model in form["models"] for name in model["metrics"]}
    assert {"cer", "peak_memory_mb"} & kept
    assert not {"latency_ms", "rtf"} & kept
    assert "latency_ms" in comparison.model("int8").metrics
    assert "latency_ms" not in page


@pytest.fixture
def never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong use must show before any work."""

    def work(*arguments: object, **options: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr("sottovoce.entrypoints.evaluate.measure", work)
    monkeypatch.setattr("sottovoce.entrypoints.comparison.variants.compress", work)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"recipes": ["int9"]}, RecipeError, "unknown recipe 'int9'"),
        ({"recipes": ["int8", "int8"]}, UsageError, "two recipes have the name 'int8'"),
        ({"max_size": "x0.01"}, UsageError, "no recipe fits .*: the smallest, int4, takes"),
        ({"max_size": "latency=x0.5"}, UsageError, "give a size"),
        ({"baseline": "toy"}, UsageError, "the model itself is the baseline"),
        ({"output": None}, UsageError, "output directory"),
        ({"recipes": []}, UsageError, "nothing to compare with"),
        ({"recipes": "int9"}, RecipeError, "unknown recipe 'int9'"),
        ({"recipes": {"steps": 5}}, RecipeError, "a list of 'steps'"),
        ({"recipes": 5}, UsageError, "give a list of recipes, not int"),
    ],
)
def test_wrong_use_is_one_line_before_any_work(
    folder: Path, host: Host, tmp_path: Path, never_run: None, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare(folder, host, **({"output": tmp_path / "out"} | options))
    assert list(tmp_path.iterdir()) == []


def test_samples_without_references_are_refused_before_any_work(
    folder: Path, host: Host, tmp_path: Path, never_run: None
) -> None:
    (tmp_path / "audio.jsonl").write_text('{"key": "a", "messages": [{"role": "user", "content": "a"}]}\n')
    with pytest.raises(SamplesError, match="1 sample has no 'target'"):
        sottovoce.compare(folder / "toy", tmp_path / "audio.jsonl", recipes=["int8"], output=tmp_path / "o", host=host)


def test_directory_that_is_no_model_is_refused_before_any_work(
    folder: Path, host: Host, tmp_path: Path, never_run: None
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SottovoceError, match="not a model directory"):
        sottovoce.compare([folder / "toy", tmp_path / "empty"], folder / "test.jsonl", host=host)


def test_model_given_twice_is_refused(folder: Path, host: Host, never_run: None) -> None:
    with pytest.raises(UsageError, match="is given twice"):
        sottovoce.compare([folder / "toy", folder / "toy"], folder / "test.jsonl", host=host)


@pytest.mark.parametrize("name", ["file", "work"])
def test_output_of_others_is_never_replaced(
    folder: Path, host: Host, tmp_path: Path, never_run: None, name: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a directory|not written by Sottovoce"):
        compare(folder, host, output=tmp_path / name, overwrite=True)
    assert (tmp_path / "work" / "thesis.txt").read_text() == "mine"


FAMILIES = pytest.mark.parametrize(
    ("model", "data", "metric"),
    [
        ("tiny-aligner", "mandarin-commands", "boundary_shift_ms"),
        ("tiny-omni", "omni-tasks", "accuracy"),
        ("tiny-paraformer", "mandarin-commands", "cer"),
    ],
)


def some_of(data: str) -> Samples:
    manifest = sottovoce.read_samples(ROOT / "examples" / "data" / data / "test.jsonl")
    return Samples(tuple(manifest[number] for number in range(0, len(manifest), len(manifest) // 4))[:4])


@pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own
@FAMILIES
def test_metric_that_decides_for_a_bundled_family_has_the_share_of_every_sample(
    model: str, data: str, metric: str
) -> None:
    report = sottovoce.evaluate(MODELS / model, some_of(data), host=default_host())
    measured = deciding(report.metrics.values(), "zh")
    assert measured is not None
    assert measured.name == metric
    shares = [share for share in measured.by_sample if share is not None]
    assert len(shares) == 4
    assert measured.value == pytest.approx(sum(share[0] for share in shares) / sum(share[1] for share in shares))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own
@FAMILIES
def test_bundled_family_is_compared_by_its_own_metric(model: str, data: str, metric: str, tmp_path: Path) -> None:
    comparison = sottovoce.compare(
        MODELS / model, some_of(data), recipes=["int8"], output=tmp_path / "out", host=default_host()
    )
    assert comparison.metric == metric
    int8 = comparison.model("int8")
    assert metric in int8.tests
    assert metric in int8.intervals
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert str(int8.metrics[metric].label) in page
    assert int8.layers
