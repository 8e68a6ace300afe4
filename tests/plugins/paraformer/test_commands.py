"""The command line on a Paraformer, with the plugins as they are installed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import sottovoce
from core.commands import Runner, command
from plugins.paraformer.tiny import make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) / 10
    soundfile.write(folder / "a.wav", noise, 16000)
    path = folder / "data.jsonl"
    path.write_text('{"key": "a", "source": "a.wav", "target": "一二三"}\n', encoding="utf-8")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return Runner(monkeypatch, capfd)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_compress_inspect_and_export(model: Path, run: Runner, tmp_path: Path) -> None:
    before = contents(model)
    estimate = run("inspect", model, "-r", "int8", "--json").json["estimate"]
    form = run("compress", model, "-r", "int8", "-o", tmp_path / "int8", "--json").json
    assert form["architecture"] == "paraformer"
    assert form["size_bytes"]["after"] == estimate["size_bytes"]
    again = run("inspect", tmp_path / "int8", "--json").json
    assert again["coverage"] == form["coverage"]
    assert type(sottovoce.load(tmp_path / "int8").native).__name__ == "AutoModel"
    done = run("compress", tmp_path / "int8", "-r", "int8", "-o", tmp_path / "twice")
    done.fails(1, "is the model compressed already?")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["int8"]
    assert contents(model) == before


def test_evaluate_in_a_process_of_its_own(model: Path, manifest: Path) -> None:
    done = command("evaluate", model, "--data", manifest, "--json")
    assert done.json["metrics"]["cer"]["value"] > 0
    assert done.json["metrics"]["peak_memory_bytes"]["value"] > 0
    assert done.err == ""


def test_a_model_that_cannot_be_evaluated_is_one_line(model: Path, manifest: Path, run: Runner, tmp_path: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"")
    run("evaluate", broken, "--data", manifest).fails(1, "model.safetensors: the weights are damaged")


def test_a_full_disk_leaves_nothing(model: Path, run: Runner, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = contents(model)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        done = run("compress", model, "-r", "int8", "-o", tmp_path / "new" / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    done.fails(1, "out: could not be written, nothing was left behind", "File too large")
    assert not list(tmp_path.iterdir())
    assert contents(model) == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_an_interrupt_while_funasr_is_imported_is_not_lost(model: Path, tmp_path: Path) -> None:
    arguments = ["compress", str(model), "-r", "int8", "-o", str(tmp_path / "out")]
    # As soon as FunASR imports its first model.
    program = f"""
import os, sys
class Sender:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("funasr.models."):
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(signal.SIGINT)})
sys.meta_path.insert(0, Sender())
from sottovoce.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "error: interrupted; nothing was left half-written\n"
    assert not list(tmp_path.iterdir())


def test_a_configuration_that_asks_for_code_is_one_line(model: Path, run: Runner, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "copy")
    described = json.loads((copy / "configuration.json").read_text())
    (copy / "configuration.json").write_text(json.dumps({**described, "trust_remote_code": True}))
    run("inspect", copy).fails(1, "trust_remote_code is refused")


def test_an_alias_of_another_kind_is_wrong_use(run: Runner) -> None:
    run("inspect", "paraformer-zh-streaming").fails(2, "the paraformer plugin does not support")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("empty.wav", "is empty"),
        ("cut.flac", "damaged or cut off"),
        ("nan.wav", "are NaN"),
        ("bare.raw", "to WAV"),
    ],
)
def test_broken_audio_is_one_line_with_its_key_and_file(
    name: str, problem: str, model: Path, run: Runner, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).standard_normal(12 * 16000).astype(np.float32) / 10
    soundfile.write(tmp_path / "good.wav", noise, 16000)
    soundfile.write(tmp_path / "empty.wav", noise[:0], 16000)
    soundfile.write(tmp_path / "cut.flac", noise, 16000)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:9000])
    soundfile.write(tmp_path / "nan.wav", np.where(np.arange(9000) == 7, np.nan, 0.1), 16000, subtype="FLOAT")
    (tmp_path / "bare.raw").write_bytes(bytes(3200))
    lines = [{"key": "u1", "source": "good.wav", "target": "一"}, {"key": "u2", "source": name, "target": "一"}]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)))
    run("evaluate", model, "--data", data).fails(1, "sample 'u2'", name, problem)
    run("compress", model, "-r", "int8-static", "--data", data, "-o", tmp_path / "out").fails(
        1, "sample 'u2'", name, problem
    )


def test_a_clip_shorter_than_a_frame_is_no_hypothesis_and_no_crash(model: Path) -> None:
    loaded = sottovoce.load(model)
    for count in (1, 2, 160, 399):
        sample = sottovoce.Sample(key="a", audio=np.full(count, 0.1, np.float32), text="一二三")
        assert loaded.architecture.runner.predict(loaded, sample) == sottovoce.Prediction()
        report = sottovoce.evaluate(loaded, sottovoce.Samples((sample,)))
        assert (report.metrics["cer"].value, report.metrics["cer"].details["without_hypothesis"]) == (100.0, 1)
    for count in (400, 560, 1000):
        sample = sottovoce.Sample(key="a", audio=np.full(count, 0.1, np.float32), text="一二三")
        loaded.architecture.runner.predict(loaded, sample)


def test_audio_is_what_funasr_itself_reads(model: Path, tmp_path: Path) -> None:
    from funasr.utils.load_utils import load_audio_text_image_video

    from sottovoce_paraformer.recognition import waveform

    loaded = sottovoce.load(model)
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32) / 10
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, noise, 16000)
        expected = load_audio_text_image_video(str(tmp_path / name), fs=16000).numpy()
        assert np.array_equal(waveform(loaded, sottovoce.Sample(key="a", audio=tmp_path / name)), expected)
