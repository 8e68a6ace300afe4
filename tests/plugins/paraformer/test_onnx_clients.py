"""The clients of an exported Paraformer hear what FunASR hears: funasr-onnx and sherpa-onnx on the bundled model.

funasr-onnx asks for numpy below 2, so it gets an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
import torch

from environments import interpreter
from plugins.paraformer.tiny import CHARACTERS, load, make_model
from sottovoce.model import Model
from sottovoce.runtime.backends import instructions
from sottovoce.source import Source
from sottovoce_paraformer.onnx_export import export_onnx

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-paraformer"
MANIFEST = ROOT / "examples" / "data" / "mandarin-commands" / "test.jsonl"
PACKAGES = ("funasr-onnx==0.4.3", "numpy<2", "soundfile", f"onnxruntime=={version('onnxruntime')}")
QUANTIZED = {"model": False, "model_quant": True}

CLIENT = """
import json, sys
import funasr_onnx, soundfile

def text(answer):
    heard = answer[0]["preds"]  # a text, or without timestamps a text and its words
    return (heard if isinstance(heard, str) else heard[0]).replace(" ", "")

for job in json.load(sys.stdin):
    client = getattr(funasr_onnx, job["client"])(job["directory"], quantize=job["quantize"], intra_op_num_threads=2)
    audio = [soundfile.read(path, dtype="float32")[0] for path in job["audio"]]
    print("answers", json.dumps([text(client(samples, *job["arguments"])) for samples in audio]))
"""

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment with funasr-onnx."""
    return interpreter("funasr-onnx", *PACKAGES, unpinned="numpy")


def run_funasr_onnx(python: Path, *jobs: dict[str, Any]) -> list[list[str]]:
    """The texts of every job, without spaces."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", CLIENT], input=json.dumps(jobs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("answers ")]
    return [json.loads(line.removeprefix("answers ")) for line in lines]


def job(directory: Path, audio: list[Path], quantize: bool = False, client: str = "Paraformer", *arguments: str) -> Any:
    return {
        "client": client,
        "directory": str(directory),
        "quantize": quantize,
        "audio": [str(path) for path in audio],
        "arguments": arguments,
    }


def run_sherpa_onnx(directory: Path, audio: list[Path], name: str = "model") -> list[str]:
    import sherpa_onnx

    recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
        paraformer=str(directory / f"{name}.onnx"), tokens=str(directory / "tokens.txt"), num_threads=2
    )
    texts = []
    for path in audio:
        samples, rate = soundfile.read(path, dtype="float32")
        stream = recognizer.create_stream()
        stream.accept_waveform(rate, samples)
        recognizer.decode_stream(stream)
        texts.append(stream.result.text.replace(" ", ""))
    return texts


def run_funasr(native: Any, audio: list[Path], **options: Any) -> list[str]:
    """What torch hears."""
    return [native.generate(str(path), **options)[0]["text"].replace(" ", "") for path in audio]


def export(native: Any, source: Path, directory: Path) -> Path:
    directory.mkdir()
    model = Model(
        module=native.model, native=native, architecture=None, source=Source(name=source.name, directory=source)
    )
    return export_onnx(model, directory)


class Heard:
    """What FunASR in torch hears of half of the bundled test set, and the exported model."""

    def __init__(self, directory: Path) -> None:
        lines = MANIFEST.read_text(encoding="utf-8").splitlines()[::2]
        rows = [json.loads(line) for line in lines]
        self.audio = [MANIFEST.parent / row["source"] for row in rows]
        self.targets = [row["target"] for row in rows]
        native = load(TRAINED)
        self.texts = run_funasr(native, self.audio)
        self.directory = export(native, TRAINED, directory / "onnx")

    def error_rate(self, texts: list[str]) -> float:
        return float(jiwer.cer(self.targets, texts))

    def check(self, texts: dict[str, list[str]]) -> None:
        same = np.mean([one == other for one, other in zip(texts["model"], self.texts, strict=True)])
        assert same >= 0.99, f"{same:.1%} of the utterances are heard alike"
        # Without VNNI the clients' sums of two products saturate: measured 0.2 points there, 0.1 with it.
        allowed = 0.005 if instructions.vnni() else 0.01
        assert abs(self.error_rate(texts["model_quant"]) - self.error_rate(self.texts)) <= allowed


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    return Heard(tmp_path_factory.mktemp("heard"))


def test_funasr_onnx_hears_what_torch_hears(heard: Heard, python: Path) -> None:
    jobs = [job(heard.directory, heard.audio, quantize) for quantize in QUANTIZED.values()]
    heard.check(dict(zip(QUANTIZED, run_funasr_onnx(python, *jobs), strict=True)))


def test_sherpa_onnx_hears_what_torch_hears(heard: Heard) -> None:
    heard.check({name: run_sherpa_onnx(heard.directory, heard.audio, name) for name in QUANTIZED})


@pytest.fixture
def noise(tmp_path: Path) -> list[Path]:
    """Two seconds and one second of noise."""
    random = np.random.default_rng(0)
    paths = [tmp_path / "long.wav", tmp_path / "short.wav"]
    for path, seconds in zip(paths, (2, 1), strict=True):
        soundfile.write(path, random.normal(0, 0.1, 16000 * seconds).clip(-1, 1), 16000)
    return paths


def test_funasr_onnx_takes_hotwords_and_timestamps(tmp_path: Path, python: Path, noise: list[Path]) -> None:
    jobs, want = [], []
    for kind in ("BiCifParaformer", "SeacoParaformer", "ContextualParaformer"):
        source = make_model(tmp_path / kind, kind)
        native = load(source)
        _speak_characters_only(native.model)
        directory = export(native, source, tmp_path / f"{kind}-onnx")
        hotwords = () if kind == "BiCifParaformer" else ("开灯 请关空调",)
        client = "Paraformer" if kind == "BiCifParaformer" else kind
        jobs += [job(directory, noise, quantize, client, *hotwords) for quantize in (False, True)]
        options = {"hotword": hotwords[0]} if hotwords else {}
        texts = run_funasr(native, noise, **options)
        # The client takes the last token for the end of the sentence, where it needs times for the others.
        want.append(texts if kind == "ContextualParaformer" else [text[:-1] for text in texts])
    got = run_funasr_onnx(python, *jobs)
    assert got[0::2] == want
    assert all(text and set(text) <= set(CHARACTERS) for texts in got for text in texts)


def test_silence_is_no_text(tmp_path: Path, python: Path, noise: list[Path]) -> None:
    source = make_model(tmp_path / "model")
    native = load(source)
    native.model.predictor.cif_output.bias.data.fill_(-12.0)
    directory = export(native, source, tmp_path / "onnx")
    assert run_sherpa_onnx(directory, noise) == ["", ""]
    assert run_funasr_onnx(python, job(directory, noise)) == [["", ""]]


def _speak_characters_only(module: Any) -> None:
    """Never the blank, the unknown or an end, which the clients leave out, each in its own way."""
    silent = torch.tensor([0, 1, 2, -1])
    for layer in (module.decoder.output_layer, getattr(module, "hotword_output_layer", None)):
        if layer is not None:
            layer.bias.data[silent] = -100.0
