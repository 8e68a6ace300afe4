"""Paraformers as programs of PyTorch's own: FunASR's outputs at other lengths, the compressed model's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sottovoce
from plugins.paraformer.exported import HOTWORD_KINDS, batch, cached, run_torch, some_hotwords
from sottovoce import Format, Sample
from sottovoce.errors import OutputError, UsageError
from sottovoce.formats.torch_export import pickles_in
from sottovoce_paraformer import graph_engines, torch_export_format, torchscript_format
from sottovoce_paraformer.torch_export_format import TorchExport
from sottovoce_paraformer.torchscript_format import TorchScript

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-paraformer"
DATA = ROOT / "examples" / "data" / "mandarin-commands"
COUNT = 4
FORMATS: dict[str, tuple[type[Format], Any, Any]] = {
    "torch-export": (TorchExport, torch_export_format.sessions, graph_engines.TorchExport),
    "torchscript": (TorchScript, torchscript_format.sessions, graph_engines.TorchScript),
}
CASES = [
    ("torch-export", "BiCifParaformer"),
    ("torch-export", "ContextualParaformer"),
    ("torchscript", "BiCifParaformer"),
    ("torchscript", "SeacoParaformer"),
]

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.mark.parametrize(("format", "kind"), CASES)
def test_outputs_are_funasrs_for_any_batch_and_length(
    format: str, kind: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    exported = cached(tmp_path_factory, kind)
    before = {name: type(part) for name, part in exported.model.module.named_modules()}
    form, sessions, _ = FORMATS[format]
    form().write(exported.model, tmp_path)
    assert {name: type(part) for name, part in exported.model.module.named_modules()} == before
    session = sessions(tmp_path)[0]
    hotwords = some_hotwords(3) if kind in HOTWORD_KINDS else None
    for lengths in ([1], [5, 60, 33]):
        speech, sizes = batch(lengths)
        inputs = {"speech": speech.numpy(), "speech_lengths": sizes.int().numpy()}
        if hotwords is not None:
            inputs["bias_embed"] = np.repeat(exported.embed(hotwords)[None], len(lengths), axis=0)
        outputs = session.run(inputs)
        expected = run_torch(exported.model.module, speech, sizes, hotwords)
        names = ("logits", "token_num", "us_alphas", "us_cif_peak")
        # torch.export unrolls an LSTM, so its programs give no timestamps.
        assert tuple(outputs) == names[: 2 if format == "torch-export" else len(expected)]
        for name, values in zip(names, expected, strict=False):
            if name in outputs:
                np.testing.assert_allclose(outputs[name], values.numpy(), atol=1e-3, rtol=1e-3, err_msg=name)


@pytest.fixture(scope="module")
def compressed() -> Any:
    """A model in int4 and the first utterances, with the model's answers."""
    model = sottovoce.load(TRAINED)
    sottovoce.compress(model, {"steps": [{"step": "quantize", "method": "hqq", "bits": 4}]}, None)
    samples = [
        Sample(key=sample.key, audio=sottovoce.read_audio(sample.audio), text=sample.text)
        for sample in list(sottovoce.read_samples(DATA / "test.jsonl"))[:COUNT]
        if sample.audio is not None
    ]
    return model, samples, [model.architecture.runner.predict(model, sample).text or "" for sample in samples]


@pytest.mark.parametrize("format", FORMATS)
def test_compressed_models_answer_as_in_pytorch_and_stay_small(
    format: str, compressed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, samples, texts = compressed
    form, _, engine = FORMATS[format]
    form().write(model, tmp_path)
    form().check(tmp_path)
    assert engine().fits(tmp_path)
    assert [name for name, (_, _, other) in FORMATS.items() if other().fits(tmp_path)] == [format]
    run = engine().load(tmp_path)
    assert [run(sample).text for sample in samples] == texts
    assert len(set(texts)) > 2
    path = next(tmp_path.glob("model.*t*"))
    assert path.stat().st_size < 0.3 * (TRAINED / "model.safetensors").stat().st_size
    if format == "torch-export":
        assert pickles_in(path) == []
    audio = next(iter(sottovoce.read_samples(DATA / "test.jsonl"))).audio
    exec(form.usage.replace("{directory}", str(tmp_path)).replace("{audio}", str(audio)), {})
    assert capsys.readouterr().out.strip() == texts[0]


def test_what_cannot_be_captured_says_which_formats_can(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    exported = cached(tmp_path_factory, "SeacoParaformer")
    with pytest.raises(UsageError, match="cannot be exported as torch-export: .* export it as onnx or openvino"):
        TorchExport().write(exported.model, tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_script_that_is_broken_or_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.torchscript.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(OutputError, match=r"^model\.torchscript\.pt: PyTorch does not read it"):
        TorchScript().check(tmp_path)
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), (torch.ones(2),)), path)  # type: ignore[no-untyped-call]
    with pytest.raises(OutputError, match=r"^model\.torchscript\.pt: PyTorch does not read it"):
        TorchScript().check(tmp_path)
