"""What can be wrong with a calibrating ``compress``: one line each, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from core.commands import Runner, toy_runner
from core.toy import ToyPlugin, make_model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin(inputs=("text",)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600, dtype=np.float32), 16000)
    path = tmp_path / "data.jsonl"
    path.write_text('{"key": "a", "target": "abcdefgh"}\n')
    return path


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path) -> Iterator[None]:
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"toy", "data.jsonl", "a.wav", "mine.yaml"}


def recipe(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


def test_calibrating_recipe_without_samples_is_refused(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("compress", source, "-o", tmp_path / "out", "-r")
    for preset in ("int4", "int4-awq", "int8-gptq", "int8-static"):
        run(*arguments, preset).fails(1, "calibrates on", "give them (--data)")
    smooth = recipe(tmp_path, "steps: [{step: smooth}, {step: quantize}]")
    run(*arguments, smooth).fails(1, "calibrates on", "give them (--data)")
    run(*arguments, smooth, "--data", data).fails(1, "toy states no modules that can be scaled")
    gated = recipe(tmp_path, "steps: [{step: quantize}]\ngate: {max_cer_increase: 1}")
    run(*arguments, gated).fails(1, "gate is measured on samples", "--gate-data")


@pytest.mark.parametrize("option", ["--data", "--gate-data"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "data.jsonl: no such manifest"),
        ("", "data.jsonl: the manifest has no samples"),
        ("\n \n", "data.jsonl: the manifest has no samples"),
        ("[]\n", "data.jsonl:1: a line must be a JSON object"),
        ("{}\n", "data.jsonl:1: neither 'source' (a path to audio)"),
        ('{"target": 7}\n', "data.jsonl:1: 'target' must be a str, not int"),
        ('{"source": "gone.wav"}\n', "data.jsonl:1: no such audio file: gone.wav"),
        (b"\xff\xfe", "data.jsonl: cannot be read as UTF-8 text"),
    ],
)
def test_invalid_samples_are_refused(
    option: str, content: str | bytes | None, problem: str, run: Runner, source: Path, data: Path, tmp_path: Path
) -> None:
    data.unlink()
    if content is not None:
        data.write_bytes(content if isinstance(content, bytes) else content.encode())
    run("compress", source, "-r", "int4", option, data, "-o", tmp_path / "out").fails(1, problem)


@pytest.mark.parametrize("row", [{"source": "a.wav"}, {"source": "a.wav", "target": ""}])
def test_samples_without_the_needed_content_are_refused(
    row: dict[str, str], run: Runner, source: Path, data: Path, tmp_path: Path
) -> None:
    data.write_text(data.read_text() + json.dumps({"key": "odd"} | row) + "\n")
    problem = "data.jsonl: toy is calibrated on text; 1 sample has no text, such as 'odd'"
    run("compress", source, "-r", "int4", "--data", data, "-o", tmp_path / "out").fails(1, problem)


def test_unreadable_sample_is_named(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text() + '{"key": "odd", "target": "xyz"}\n')
    arguments = ("compress", source, "-r", "int4", "--data", data, "-o", tmp_path / "out")
    run(*arguments).fails(1, "the model does not run on the sample 'odd' (ValueError:")


@pytest.mark.parametrize("size", ["1", "100KB", "10MiB", "0.02G"])
def test_too_small_memory_limit_names_a_sufficient_one(
    size: str, run: Runner, source: Path, data: Path, tmp_path: Path
) -> None:
    arguments = ("compress", source, "-r", "int4", "--data", data, "-o", tmp_path / "out", "--max-memory", size)
    run(*arguments).fails(2, "are not enough", "allow at least")


@pytest.mark.parametrize("size", ["lots", "8XB", "-8GB", "8,5GB", "", "8 G B"])
def test_invalid_memory_size_is_refused(size: str, run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("compress", source, "-r", "int4", "--data", data, "-o", tmp_path / "out", "--max-memory", size)
    run(*arguments).fails(2, "Invalid value for '--max-memory'", f"{size!r} is not a size; give one such as 8GB")


def test_sufficient_memory_limit_is_accepted(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    output = source / "small"  # within what may be left
    arguments = ("compress", source, "-r", "int4", "--data", data, "-o", output, "--max-memory", "64GB", "--json")
    form = run(*arguments).json
    assert [target["bits"] for target in form["steps"][0]["targets"]] == [9.0, 4.5, 4.5]


def test_notes_are_shown_and_quiet_leaves_them_out(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("compress", source, "-r", "int4", "--data", data, "-o", source / "small", "--max-memory", "64GB")
    shown = run(*arguments)
    assert "note: gptaq: the memory is limited, so" in shown.err
    quiet = run("--quiet", *arguments, "--overwrite")
    assert "is limited" not in quiet.err


def test_note_that_was_logged_before_the_work_is_not_said_again(run: Runner, source: Path, data: Path) -> None:
    narrow = make_model(source / "narrow", width=48)
    shown = run("compress", narrow, "-r", "int4", "--data", data, "-o", source / "small").err
    assert "warning: " in shown
    assert shown.count("groups of 16, the largest that divides") == 1


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("group_size: 64", "do not divide the 32 inputs of 'blocks.0' and of 1 layer more: use group_size 32"),
        ("group_size: 128, bits: 4", "groups of 128 do not divide the 32 inputs of 'blocks.0' and of 1 layer more"),
        ("overrides: {blocks.1: {bits: 4, group_size: 128}}", "the 32 inputs of 'blocks.1'"),
        ("targets: [layers.0]", "no module of toy matches 'layers.0'; see inspect for names"),
        ("targets: ['blocks.0', 're:encoder.*']", "no module of toy matches 're:encoder.*'"),
        ("ignore: ['re:blocks.*']", "quantize meets 0.0% of the parameters of toy (0 layers)"),
        ("min_coverage: 0.99", "the recipe promises 99.0%"),
    ],
)
def test_recipe_for_another_model_gives_a_one_line_error(
    step: str, problem: str, with_data: bool, run: Runner, source: Path, data: Path, tmp_path: Path
) -> None:
    path = recipe(tmp_path, f"steps: [{{step: quantize, {step}}}]\n")
    samples = ("--data", data) if with_data else ()
    run("compress", source, "-r", path, "-o", tmp_path / "out", *samples).fails(1, problem)
    inspected = run("inspect", source, "-r", path)
    if "%" not in problem:
        inspected.fails(1, problem)
        return
    assert inspected.code == 0
    assert "embedding table" in inspected.out
    told = " ".join(inspected.out.split())
    assert "compress would refuse this: quantize meets " in told
    assert "min_coverage" in told
    assert problem in run("inspect", source, "-r", path, "--json").json["refused"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("preset", ["int8", "int8-static", "int4", "int4-awq", "fp8"])
def test_infinite_weight_is_named(
    preset: str, value: float, run: Runner, source: Path, data: Path, tmp_path: Path
) -> None:
    weights = load_file(source / "model.safetensors")
    weights["blocks.1.weight"][3, 4] = value
    save_file(weights, source / "model.safetensors")
    arguments = ("compress", source, "-r", preset, "--data", data, "-o", tmp_path / "out")
    run(*arguments).fails(1, "the weight of the layer 'blocks.1' is not finite; the model is damaged")


@pytest.mark.parametrize("name", ["head.bias", "embed.weight"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_infinite_tensor_outside_the_targets_is_named_before_work(
    name: str, value: float, run: Runner, source: Path, tmp_path: Path
) -> None:
    weights = load_file(source / "model.safetensors")
    weights[name].view(-1)[-1] = value
    save_file(weights, source / "model.safetensors")
    layer, own = name.split(".")
    problem = f"the {own} of the layer {layer!r} is not finite; the model is damaged"
    run("compress", source, "-r", "int8", "-o", tmp_path / "out").fails(1, problem)


def test_allowed_unexpected_tensors_are_left_out(run: Runner, source: Path, tmp_path: Path) -> None:
    weights = load_file(source / "model.safetensors")
    save_file(
        {**weights, "adapter.a": weights["head.bias"].clone(), "adapter.b": weights["head.bias"].clone()},
        source / "model.safetensors",
    )
    arguments = ("compress", source, "-r", "int8", "-o", tmp_path / "out")
    run(*arguments).fails(1, "2 unexpected: adapter.a, adapter.b", "--allow-unexpected NAME, or re:EXPRESSION")
    run(*arguments, "--allow-unexpected", "adapter.a").fails(1, "1 unexpected: adapter.b")
    run("inspect", source).fails(1, "2 unexpected")
    assert run("inspect", source, "--allow-unexpected", "re:adapter.*").code == 0
    both = "--allow-unexpected", "adapter.a", "--allow-unexpected", "adapter.b"
    assert run("inspect", source, "-r", "int8", *both).code == 0


def test_missing_weights_list_the_available_ones(run: Runner, source: Path) -> None:
    run("inspect", source, "--weights", "x.pt").fails(2, "has no weights 'x.pt'; there are: model.safetensors")


def test_invalid_gate_gives_a_one_line_error(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("compress", source, "-o", tmp_path / "out", "--gate-data", data, "-r")
    for gate, code, problem in (
        ("{max_size_bytes: 1}", 1, "the gate cannot be held: max_size_bytes is"),
        ("{max_boundary_shift_ms: 1}", 2, "names no metric of toy (there are: "),
        ("{cer: 1}", 2, "'cer' is not a valid limit"),
        ("{max_cer: .nan}", 2, "max_cer must be a number"),
        ("[max_cer]", 2, "a mapping of limits"),
    ):
        run(*arguments, recipe(tmp_path, f"steps: [{{step: quantize}}]\ngate: {gate}\n")).fails(code, problem)
