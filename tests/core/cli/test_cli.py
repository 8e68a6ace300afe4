"""The command line: exit codes, one-line errors, one JSON object, on a toy family."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.commands import Done, Runner, command, toy_runner
from core.toy import ToyPlugin, make_model
from sottovoce import Prediction
from sottovoce.checkpoint.ownership import MARKER, mark

COMPRESS_KEYS = {"output", "recipe", "steps", "coverage", "size_bytes", "seconds", "peak_memory_bytes"}
INSPECT_KEYS = {"architecture", "source", "parameters", "size_bytes", "coverage", "targets", "kept"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    answers = Prediction(text="ab", tokens=("a", "b"))
    return toy_runner(monkeypatch, capfd, ToyPlugin(predict=lambda model, sample: answers))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600, dtype=np.float32), 16000)
    path = tmp_path / "data.jsonl"
    path.write_text('{"key": "a", "source": "a.wav", "target": "ab"}\n')
    return path


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is wrong must show before the model is read."""

    def read(*arguments: object, **options: object) -> None:
        raise AssertionError("the model was read")

    monkeypatch.setattr("sottovoce.entrypoints.load.class_name", read)
    yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_compress_gives_one_json_object(run: Runner, source: Path, tmp_path: Path) -> None:
    form = run("compress", source, "-r", "int8", "-o", tmp_path / "small", "--json").json
    assert set(form) >= COMPRESS_KEYS
    assert form["output"] == str(tmp_path / "small")
    assert form["coverage"].keys() >= {"parameters", "compressed_parameters", "ratio"}
    assert form["size_bytes"]["after"] < form["size_bytes"]["before"]
    assert {"compression.json", "config.yaml", "model.safetensors"} == set(names(tmp_path / "small"))


def test_inspect_gives_one_json_object(run: Runner, source: Path) -> None:
    plain = run("inspect", source, "--json").json
    assert set(plain) >= INSPECT_KEYS
    assert "estimate" not in plain
    assert plain["targets"][0].keys() == {"name", "parameters"}
    assert plain["kept"][0].keys() == {"name", "parameters", "reason"}
    with_recipe = run("inspect", source, "-r", "int8", "--json").json
    assert with_recipe["estimate"]["size_bytes"] < plain["size_bytes"]


@pytest.mark.parametrize("busy", [None, "the machine is busy: a test says so"])
def test_evaluate_gives_one_json_object_with_times_unless_the_machine_is_busy(
    busy: str | None, run: Runner, source: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sottovoce.entrypoints.paired_timing.busy", lambda *_: busy)
    arguments = ("evaluate", source, "--data", manifest, "--baseline", source, "-o", tmp_path / "report", "--json")
    done = run(*arguments)
    form = done.json
    assert form.keys() >= {"model", "architecture", "samples", "metrics"}
    assert form["metrics"].keys() >= {"cer", "token_agreement", "size_bytes"}
    assert form["metrics"].keys() & {"rtf", "latency_ms"} == (set() if busy else {"rtf", "latency_ms"})
    assert ("the times are not recorded" in done.err) == bool(busy)
    assert form["metrics"]["cer"].keys() >= {"value", "unit", "baseline"}
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == form


def test_export_gives_one_json_object(run: Runner, source: Path, tmp_path: Path) -> None:
    form = run("export", source, "-f", "native", "-o", tmp_path / "out", "--json").json
    assert form["output"] == str(tmp_path / "out")
    assert set(form["files"]) == set(names(tmp_path / "out"))


@pytest.mark.parametrize("verb", ["plugins", "recipes", "env"])
def test_lists_give_one_json_object(verb: str, run: Runner) -> None:
    assert isinstance(run(verb, "--json").json, dict)
    table = run(verb)
    assert table.code == 0
    assert table.out.strip()


def test_tables_go_to_standard_output_only(run: Runner, source: Path, tmp_path: Path) -> None:
    for number, arguments in enumerate([("--quiet",), ()]):
        done = run("compress", source, "-r", "int8", "-o", tmp_path / f"small{number}", *arguments)
        assert (done.code, done.err) == (0, "")
        assert "quantize" in done.out


@pytest.mark.usefixtures("never_loaded")
def test_invalid_recipe_lists_all_problems_before_the_model_is_read(run: Runner, source: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extra: 1\nsteps: [{step: squeeze}, {step: quantize, bits: 5, group: 1, min_coverage: 7}]\n")
    problems = (
        "unknown key 'extra'",
        "step 1: unknown step 'squeeze'",
        "bits: ",
        "unknown key 'group'",
        "min_coverage: ",
    )
    run("compress", source, "-r", recipe, "-o", tmp_path / "out").fails(2, str(recipe), *problems)
    run("inspect", source, "-r", recipe).fails(2, *problems)
    run("compress", source, "-r", "int9", "-o", tmp_path / "out").fails(
        2, "unknown recipe 'int9' (did you mean int8?); presets: int8"
    )
    run("compress", source, "-r", tmp_path / "no.yaml", "-o", tmp_path / "out").fails(2, "no.yaml: cannot be read")
    assert names(tmp_path) == ["mine.yaml", "toy"]


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"source": ', "data.jsonl:2: not JSON"),
        ('{"source": "b.wav"}', "data.jsonl:2: no such audio file: b.wav"),
        ('{"source": "data.jsonl"}', "data.jsonl: cannot be read as audio"),
        ('{"key": "a", "source": "a.wav"}', "data.jsonl:2: the key 'a' occurs twice"),
    ],
)
def test_broken_manifest_is_refused_before_the_model_is_read(
    line: str, problem: str, run: Runner, source: Path, manifest: Path, tmp_path: Path
) -> None:
    manifest.write_text(manifest.read_text() + line + "\n")
    run("compress", source, "-r", "int8", "-o", tmp_path / "out", "--data", manifest).fails(1, problem)
    run("evaluate", source, "--data", manifest).fails(1, problem)
    run("evaluate", source, "--data", tmp_path / "none.jsonl").fails(1, "none.jsonl: no such manifest")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("never_loaded")
def test_existing_output_is_refused_before_the_model_is_read(run: Runner, source: Path, manifest: Path) -> None:
    for arguments in (
        ("compress", source, "-r", "int8"),
        ("export", source, "-f", "onnx"),
        ("evaluate", source, "--data", manifest),
    ):
        run(*arguments, "-o", source).fails(2, "exists already", "--overwrite")
        run(*arguments, "-o", manifest, "--overwrite").fails(2, "exists and is not a directory")
        run(*arguments, "-o", ".", "--overwrite").fails(2, "is the working directory or holds it")


def test_overwrite_replaces_an_existing_output(run: Runner, source: Path, tmp_path: Path) -> None:
    arguments = ("compress", source, "-r", "int8", "-o", tmp_path / "out", "--overwrite")
    assert run(*arguments).code == 0
    (tmp_path / "out" / "old").touch()
    assert run(*arguments).code == 0
    assert "old" not in names(tmp_path / "out")


@pytest.mark.usefixtures("never_loaded")
def test_overwrite_of_a_foreign_directory_is_refused(run: Runner, source: Path, manifest: Path, tmp_path: Path) -> None:
    projects = tmp_path / "projects"
    projects.mkdir()
    (projects / "thesis.txt").write_text("years of work")
    for arguments in (
        ("compress", source, "-r", "int8"),
        ("export", source, "-f", "onnx"),
        ("evaluate", source, "--data", manifest),
        ("pull", "owner/name"),
    ):
        run(*arguments, "-o", projects, "--overwrite").fails(
            2, "projects: is not empty and was not written by Sottovoce"
        )
    run("evaluate", source, "--data", manifest, "-o", source, "--overwrite").fails(2, "was not written by Sottovoce")
    run("demo", "-o", projects).fails(2, "was not written by Sottovoce")
    assert names(projects) == ["thesis.txt"]


def test_overwrite_of_a_directory_with_the_model_is_refused(run: Runner, tmp_path: Path) -> None:
    source = make_model(tmp_path / "work" / "toy")
    mark(tmp_path / "work")
    arguments = ("compress", source, "-r", "int8", "-o", tmp_path / "work", "--overwrite")
    run(*arguments).fails(2, "work: contains the model")
    assert names(tmp_path / "work") == [MARKER, "toy"]


def test_compressing_in_place_replaces_only_our_models(run: Runner, source: Path, tmp_path: Path) -> None:
    arguments = ("compress", source, "-r", "int8", "-o", source, "--overwrite")
    run(*arguments).fails(2, "toy: is not empty and was not written by Sottovoce")
    mark(source)
    assert run(*arguments).code == 0
    assert names(tmp_path) == ["toy"]
    assert "compression.json" in names(source)


def test_invalid_model_gives_a_one_line_error(run: Runner, source: Path, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run("inspect", tmp_path / "empty").fails(1, "not a model directory", "(it holds: nothing)")
    run("inspect", manifest).fails(1, "is a file; give the directory")
    run("inspect", tmp_path / "none").fails(1, "no such directory")
    run("inspect", "x" * 5000).fails(1, "no such directory")
    (source / "model.safetensors").unlink()
    run("inspect", source).fails(1, "the weights are missing (no model.safetensors)")
    (source / "config.yaml").write_text("model: Other\n")
    run("inspect", source).fails(2, "no installed plugin describes the model class 'Other'")


def test_name_with_a_line_break_gives_a_one_line_error(run: Runner) -> None:
    run("inspect", "two\nlines").fails(1, "two lines")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["compress"], "Missing argument 'MODEL'"),
        (["compress", "toy"], "Missing option '--output'"),
        (["compress", "toy", "-o", "out"], "give either --recipe, or --for"),
        (["compress", "toy", "-o", "out", "--recipe", "int8", "--for", "cpu"], "give either --recipe, or --for"),
        (["compress", "toy", "-o", "out", "--for", "moon"], "'moon' is not one of 'cpu', 'gpu', 'mobile', 'edge'"),
        (["squeeze"], "No such command 'squeeze'"),
        (["inspect", "toy", "--fast"], "No such option"),
        (["inspect", "toy", "--hub", "mine"], "Invalid value for '--hub'"),
    ],
)
def test_wrong_use_gives_a_one_line_error(arguments: list[str], problem: str, run: Runner) -> None:
    run(*arguments).fails(2, problem, "; see sottovoce", " --help")


@pytest.mark.parametrize("arguments", [["--help"], ["compress", "-h"], ["--version"], []])
def test_help_goes_to_standard_output(arguments: list[str], run: Runner) -> None:
    done = run(*arguments)
    assert "sottovoce" in (done.out + done.err).lower()
    assert done.code == 0


def test_debug_shows_the_traceback(run: Runner, tmp_path: Path) -> None:
    done = run("inspect", tmp_path, "--debug")
    assert done.code == 1
    assert "Traceback" in done.err


def test_unexpected_error_asks_for_a_report(run: Runner, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("sottovoce.entrypoints.load.class_name", fail)
    run("inspect", source).fails(1, "ZeroDivisionError: by zero; this is a bug: report it")


def test_full_disk_leaves_no_output(run: Runner, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        done = run("compress", source, "-r", "int8", "-o", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    done.fails(1, "out: could not be written, nothing was left behind", "File too large")
    assert names(tmp_path) == ["toy"]
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


SLOW = """
import signal, sys, time
from core.toy import ToyPlugin, make_host
from sottovoce import cli, hookimpl
from sottovoce.plugins import host

class Slow(ToyPlugin):
    @hookimpl
    def sottovoce_export(self, model, format, directory):
        super().sottovoce_export(model, format, directory)
        print("writing", file=sys.__stderr__, flush=True)
        time.sleep(30)

toys = make_host(Slow())
host.default_host = lambda: toys
cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("number", "code", "message", "old"),
    [(signal.SIGINT, 130, "error: interrupted", False), (signal.SIGTERM, 143, "error: terminated", True)],
)
def test_interrupted_compression_leaves_no_output(
    number: signal.Signals, code: int, message: str, old: bool, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "out"
    if old:
        output.mkdir(parents=True)
        (output / "old").touch()
        mark(output)
    arguments = ["compress", str(source), "-r", "int8", "-o", str(output), "--overwrite"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "SOTTOVOCE_PLUGINS": ""}
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert first == "writing\n"
    assert (process.returncode, out) == (code, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert names(tmp_path) == (["new", "toy"] if old else ["toy"])
    assert not old or (names(output.parent), names(output)) == (["out"], [MARKER, "old"])


HEAVY = "{'torch', 'transformers', 'funasr', 'modelscope', 'onnx'}"


@pytest.mark.parametrize(
    "code",
    [
        "import sottovoce",
        "import sys; sys.argv = ['sottovoce', '--help']; import sottovoce.cli; sottovoce.cli._run()",
        "import sys; sys.argv = ['sottovoce', 'recipes']; import sottovoce.cli; sottovoce.cli._run()",
    ],
)
def test_heavy_libraries_are_imported_only_when_needed(code: str) -> None:
    check = f"{code}; import sys; assert not {HEAVY} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def install_broken_plugin(folder: Path) -> dict[str, str]:
    information = folder / "broken_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[sottovoce]\nbroken = broken_plugin\n")
    (folder / "broken_plugin.py").write_text("raise RuntimeError('two\\nlines')\n")
    return {"PYTHONPATH": str(folder)}


def test_broken_plugin_is_reported_and_skipped(tmp_path: Path) -> None:
    environment = install_broken_plugin(tmp_path)
    done = command("plugins", "--json", environment=environment)
    rows = {row["name"]: row for row in done.json["plugins"]}
    assert rows["broken"]["error"] == "RuntimeError: two lines"
    assert rows["paraformer"]["error"] is None
    assert done.err == "warning: plugin broken-plugin is skipped: RuntimeError: two lines\n"
    assert command("recipes", "--json", "--quiet", environment=environment).err == ""


def test_module_runs_as_a_program(tmp_path: Path) -> None:
    done: Done = command("inspect", tmp_path)
    done.fails(1, "not a model directory")


def test_demo_replaces_only_an_earlier_demo(run: Runner, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    run("demo", "--output", mine).fails(2, "was not written by Sottovoce")
    assert (mine / "thesis.txt").read_text() == "years of work"


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize("name", ["LICENSE", "NOTICE.txt", "config.json", "tokenizer.json", "README.md"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_in_a_model_are_refused_by_every_command(
    kind: str, name: str, run: Runner, source: Path, manifest: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / name).unlink(missing_ok=True)
    if kind == "link":
        (source / name).symlink_to(tmp_path / "secret")
    else:
        os.mkfifo(source / name)
    for arguments in (
        ("inspect", source),
        ("compress", source, "-r", "int8", "-o", tmp_path / "out"),
        ("evaluate", source, "--data", manifest),
        ("export", source, "-f", "native", "-o", tmp_path / "out"),
    ):
        run(*arguments).fails(1, repr(name), "is a link that leaves" if kind == "link" else "is not a file but a pipe")
    assert not (tmp_path / "out").exists()
