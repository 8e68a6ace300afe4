"""Paraformers in OpenVINO: torch's outputs for any batch and length, the compressed model's own answers, errors."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sottovoce
from plugins.paraformer.exported import HOTWORD_KINDS, batch, cached, run_torch, some_hotwords
from plugins.paraformer.tiny import KINDS
from sottovoce import Sample
from sottovoce.errors import OutputError, UsageError
from sottovoce.formats.format import formats_for
from sottovoce.formats.openvino import OpenVINOSession
from sottovoce_paraformer.architectures import PARAFORMER
from sottovoce_paraformer.graph_engines import OpenVINO as Engine
from sottovoce_paraformer.openvino_format import OpenVINO

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-paraformer"
DATA = ROOT / "examples" / "data" / "mandarin-commands"
COUNT = 8

pytestmark = [
    pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed"),
    pytest.mark.filterwarnings("ignore"),  # FunASR's and torch's own
]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Utterances with their audio in memory."""
    return [
        Sample(key=sample.key, audio=sottovoce.read_audio(sample.audio), text=sample.text)
        for sample in list(sottovoce.read_samples(DATA / "test.jsonl"))[:COUNT]
        if sample.audio is not None
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_torchs_for_any_batch_and_length(
    kind: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    exported = cached(tmp_path_factory, kind)
    OpenVINO().write(exported.model, tmp_path)
    OpenVINO().check(tmp_path)
    session = OpenVINOSession(tmp_path / "model.xml")
    hotwords = some_hotwords(3) if kind in HOTWORD_KINDS else None
    for lengths in ([7], [5, 60, 33]):
        speech, sizes = batch(lengths)
        inputs = {"speech": speech.numpy(), "speech_lengths": sizes.int().numpy()}
        if hotwords is not None:
            inputs["bias_embed"] = np.repeat(exported.embed(hotwords)[None], len(lengths), axis=0)
        outputs = list(session.run(inputs).values())
        expected = run_torch(exported.model.module, speech, sizes, hotwords)
        assert outputs[1].tolist() == expected[1].tolist()
        for values, torchs in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(values, torchs.numpy(), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(("recipe", "kind"), [("none", "f32"), ("int8-weight", "i8"), ("int4", "i4")])
def test_answers_are_those_of_the_model_in_pytorch(
    recipe: str, kind: str, tmp_path: Path, samples: list[Sample]
) -> None:
    model = sottovoce.load(TRAINED)
    steps: dict[str, Any] = {
        "int8-weight": {"step": "quantize", "method": "squant", "activations": "none"},
        "int4": {"step": "quantize", "method": "hqq", "bits": 4},
    }
    if recipe in steps:
        sottovoce.compress(model, {"steps": [steps[recipe]]}, None)
    OpenVINO().write(model, tmp_path)
    assert f'element_type="{kind}"' in (tmp_path / "model.xml").read_text(encoding="utf-8")
    engine = Engine()
    assert engine.fits(tmp_path)
    run = engine.load(tmp_path)
    texts = [run(sample).text for sample in samples]
    assert texts == [model.architecture.runner.predict(model, sample).text or "" for sample in samples]
    assert len(set(texts)) > 2
    assert run(Sample(key="short", audio=np.zeros(10, np.float32))).text == ""


def test_the_snippet_of_model_cards_prints_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: list[Sample]
) -> None:
    OpenVINO().write(sottovoce.load(TRAINED), tmp_path)
    sample = next(iter(sottovoce.read_samples(DATA / "test.jsonl")))
    exec(OpenVINO.usage.replace("{directory}", str(tmp_path)).replace("{audio}", str(sample.audio)), {})
    assert capsys.readouterr().out.strip() == Engine().load(tmp_path)(samples[0]).text


def test_a_broken_weight_is_not_finite_and_refused(tmp_path: Path) -> None:
    model = sottovoce.load(TRAINED)
    with torch.no_grad():
        model.module.decoder.output_layer.bias[0] = float("nan")
    OpenVINO().write(model, tmp_path)
    with pytest.raises(OutputError, match=r"^model\.xml: gives numbers that are not finite"):
        OpenVINO().check(tmp_path)


def test_other_classes_and_missing_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(formats_for(PARAFORMER)["openvino"], OpenVINO)
    model = sottovoce.load(TRAINED)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(OutputError, match=r"pip install 'sottovoce\[openvino\]'"):
        OpenVINO().write(model, tmp_path)
    monkeypatch.setattr(type(model.module), "__module__", "elsewhere")
    model.module.__class__ = type("Conformer", (torch.nn.Module,), {"__module__": "funasr.models.conformer"})
    with pytest.raises(UsageError, match="Conformer cannot be exported as openvino; the classes that can are Para"):
        OpenVINO().write(model, tmp_path)
