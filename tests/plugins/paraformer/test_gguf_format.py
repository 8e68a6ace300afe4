"""Paraformers in GGUF: the model's own integers, what FunASR's runtime cannot run, and its texts where it is there."""

from __future__ import annotations

import json
import stat
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sottovoce
from core.commands import Runner
from plugins.paraformer.tiny import TOKENS, TRAINED, make_model
from plugins.paraformer.widened import make_widened
from sottovoce import Sample
from sottovoce.errors import OutputError, UsageError
from sottovoce.formats.gguf import BLOCK, GGUFFile
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce_paraformer import gguf_runtime
from sottovoce_paraformer.gguf_format import Gguf
from sottovoce_paraformer.gguf_runtime import FILE, PROGRAM, VARIABLE, FunASRGguf

DATA = Path(__file__).parents[3] / "examples" / "data" / "mandarin-commands"
COUNT = 4
SIZES: dict[str, Any] = {
    "encoder_conf": {"output_size": 512, "linear_units": 128},
    "decoder_conf": {"linear_units": 128},
    "predictor_conf": {"idim": 512},
}
INT8: Any = {"steps": [{"step": "quantize", "method": "squant"}]}
INT4: Any = {"steps": [{"step": "quantize", "method": "hqq", "bits": 4}]}
RECIPES: dict[str, Any] = {
    "float32": None,
    "float16": {"steps": [{"step": "cast", "dtype": "float16"}]},
    "int8": INT8,
    "int4": INT4,
    "pruned int8": {"steps": [{"step": "prune_width", "keep": 0.9}, *INT8["steps"]]},
}

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own
needs_gguf = pytest.mark.skipif(not find_spec("gguf"), reason="gguf is not installed")
needs_runtime = pytest.mark.skipif(
    not (find_spec("gguf") and gguf_runtime.find()), reason=f"gguf or {PROGRAM} is not installed"
)


@pytest.fixture
def without_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(gguf_runtime.shutil, "which", lambda name: None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return Runner(monkeypatch, capfd)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in the sizes of the runtime."""
    return make_model(tmp_path_factory.mktemp("large") / "model", **SIZES)


@needs_gguf
def test_a_float_model_is_written_in_float32_with_statistics_and_tokens(
    large: Path, tmp_path: Path, without_runtime: None
) -> None:
    model = sottovoce.load(large)
    file = GGUFFile(sottovoce.export(model, "gguf", tmp_path / "gguf") / FILE)
    state = model.module.state_dict()
    named = {name for name in state if name.startswith(("encoder.", "decoder.", "predictor."))}
    assert set(file.names) == {name for name in named if "embed" not in name} | {"cmvn.shift", "cmvn.scale"}
    assert {file.type(name) for name in file.names} == {"F32"}
    shifted = {"predictor.cif_conv1d.weight"}
    for name in set(file.names) & named - shifted:
        expected = state[name].numpy()
        expected = expected[:, 0].T if "fsmn" in name else expected
        assert np.array_equal(file.floats(name), expected), name
    assert (file.floats("cmvn.shift") == -8.0).all()
    assert file.metadata["pf.vocab"] == ["", "", "", *TOKENS[3:-1], ""]
    assert file.metadata["pf.enc.num_blocks"] == 2
    assert file.metadata["pf.predictor.tail_threshold"] == pytest.approx(0.45)


@needs_gguf
@torch.no_grad()
@pytest.mark.parametrize("predictor", ["CifPredictorV2", "CifPredictor"])
def test_the_runtimes_sum_of_frames_and_convolution_is_the_models_predictor(
    predictor: str, tmp_path: Path, without_runtime: None
) -> None:
    model = sottovoce.load(make_model(tmp_path / "model", predictor=predictor, **SIZES))
    path = sottovoce.export(model, "gguf", tmp_path / "gguf") / FILE
    kernel = torch.from_numpy(GGUFFile(path).floats("predictor.cif_conv1d.weight"))
    part = model.module.predictor
    frames = torch.randn(1, 512, 9)
    summed = torch.nn.functional.conv1d(frames, kernel, part.cif_conv1d.bias, padding=1) + frames
    own = part.cif_conv1d(part.pad(frames))
    torch.testing.assert_close(summed, own + frames if predictor == "CifPredictor" else own, atol=1e-5, rtol=1e-5)


@needs_gguf
def test_an_int8_model_keeps_its_own_integers(large: Path, tmp_path: Path, without_runtime: None) -> None:
    model = sottovoce.load(large)
    sottovoce.compress(model, INT8, None)
    path = sottovoce.export(model, "gguf", tmp_path / "gguf") / FILE
    import gguf

    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    layers = {name: part for name, part in model.module.named_modules() if isinstance(part, Int8Linear)}
    assert len(layers) > 10
    for name, layer in layers.items():
        tensor = stored[f"{name}.weight"]
        if layer.weight.shape[1] % BLOCK:
            assert tensor.tensor_type.name == "F32"
            continue
        assert tensor.tensor_type.name == "Q8_0"
        blocks = np.asarray(tensor.data).reshape(len(layer.weight), -1, 2 + BLOCK)
        assert (blocks[..., 2:].view(np.int8).reshape(layer.weight.shape) == layer.weight.numpy()).all()
        scales = blocks[..., :2].copy().view(np.float16)[..., 0]
        assert (scales == layer.weight_scale.numpy().astype(np.float16)).all()


@needs_gguf
def test_an_int4_model_is_written_in_4_bits(large: Path, tmp_path: Path, without_runtime: None) -> None:
    model = sottovoce.load(large)
    sottovoce.compress(model, INT4, None)
    file = GGUFFile(sottovoce.export(model, "gguf", tmp_path / "gguf") / FILE)
    types = [file.type(name) for name in file.names]
    assert sum(name.startswith("Q4_") for name in types) > 10
    layer = model.module.decoder.decoders[0].src_attn.linear_out
    floats = layer.dequantize().weight.detach().numpy()
    np.testing.assert_allclose(
        file.floats("decoder.decoders.0.src_attn.linear_out.weight"), floats, atol=abs(floats).max() / 500
    )


@needs_gguf
def test_weights_cast_to_float16_stay_so_and_those_in_bfloat16_become_float32(
    large: Path, tmp_path: Path, without_runtime: None
) -> None:
    for dtype, type in (("float16", "F16"), ("bfloat16", "F32")):
        model = sottovoce.load(large)
        sottovoce.compress(model, {"steps": [{"step": "cast", "dtype": dtype}]}, None)
        file = GGUFFile(sottovoce.export(model, "gguf", tmp_path / dtype) / FILE)
        layer = "encoder.encoders0.0.self_attn.linear_q_k_v"
        assert file.type(f"{layer}.weight") == type
        assert np.array_equal(file.floats(f"{layer}.weight"), model.module.get_submodule(layer).weight.detach().numpy())
        assert file.type(f"{layer}.bias") == file.type("predictor.cif_output.weight") == "F32"


@needs_gguf
def test_integers_in_groups_that_no_block_has_are_refused(large: Path, tmp_path: Path) -> None:
    model = sottovoce.load(large)
    sottovoce.compress(model, {"steps": [{"step": "quantize", "method": "hqq", "bits": 4, "group_size": 16}]}, None)
    with pytest.raises(UsageError, match=r"4 bits in groups of 16 do not fit .* name a multiple of 32"):
        sottovoce.export(model, "gguf", tmp_path / "gguf")
    assert not (tmp_path / "gguf").exists()


DIFFERENT: dict[str, dict[str, Any]] = {
    "width 512 in its source, and this model 32": {},
    "4 heads in every attention in its source, and this model 8": {"encoder_conf": {"attention_heads": 8}},
    "memories of 11 frames around each in its source, and this model 4 before and 4 after": {
        "decoder_conf": {"kernel_size": 9}
    },
    "lfr_n 6 in its source, and this model 5": {"frontend_conf": {"lfr_n": 5}},
    "a tail_threshold above 0 in its source, and this model 0.0": {"predictor_conf": {"tail_threshold": 0.0}},
    "smooth_factor 1 and noise_threshold 0 in its source": {"predictor_conf": {"smooth_factor": 0.9}},
    "decoder blocks without attention to the frames 0 in its source, and this model 1": {
        "decoder_conf": {"num_blocks": 3}
    },
}


@pytest.mark.parametrize(("message", "changes"), DIFFERENT.items(), ids=DIFFERENT)
def test_a_model_unlike_the_runtimes_source_is_refused(message: str, changes: dict[str, Any], tmp_path: Path) -> None:
    sizes = {name: {**SIZES.get(name, {}), **changes.get(name, {})} for name in {*SIZES, *changes}} if changes else {}
    model = sottovoce.load(make_model(tmp_path / "model", **sizes))
    with pytest.raises(UsageError, match=f"^Paraformer cannot be exported as gguf: {PROGRAM} has {message}") as caught:
        sottovoce.export(model, "gguf", tmp_path / "gguf")
    assert str(caught.value).endswith("; use onnx or openvino")
    assert not (tmp_path / "gguf").exists()


@pytest.mark.parametrize("kind", ["SeacoParaformer", "ContextualParaformer"])
def test_models_with_hotwords_are_refused(kind: str, tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "model", kind))
    with pytest.raises(UsageError, match=f"^{kind} cannot be exported as gguf, whose runtime takes no hotwords; use"):
        sottovoce.export(model, "gguf", tmp_path / "gguf")


def test_cards_name_only_the_formats_that_take_the_model(large: Path, tmp_path: Path) -> None:
    named = {}
    for name, source in (
        ("large", large),
        ("small", make_model(tmp_path / "small")),
        ("hotwords", make_model(tmp_path / "hotwords", "SeacoParaformer")),
    ):
        saved = sottovoce.save(sottovoce.load(source), tmp_path / "saved" / name)
        named[name] = set(json.loads((saved / "compression.json").read_text(encoding="utf-8"))["card"]["serving"])
    assert named["large"] - named["small"] == {"gguf"}
    assert named["small"] - named["hotwords"] >= {"sherpa-onnx", "torch-export"}
    assert {"onnx", "openvino"} <= named["hotwords"]


def test_a_model_without_some_heads_is_refused(large: Path, tmp_path: Path) -> None:
    model = sottovoce.load(large)
    sottovoce.compress(
        model, {"steps": [{"step": "prune_heads", "keep": 0.5, "score": "magnitude", "refit": False}]}, None
    )
    with pytest.raises(UsageError, match="has 4 heads in every attention in its source, and this model 2"):
        sottovoce.export(model, "gguf", tmp_path / "gguf")


@needs_gguf
def test_times_of_tokens_are_left_out(tmp_path: Path, without_runtime: None) -> None:
    model = sottovoce.load(make_model(tmp_path / "model", "BiCifParaformer", **SIZES))
    file = GGUFFile(sottovoce.export(model, "gguf", tmp_path / "gguf") / FILE)
    assert [name for name in file.names if name.startswith("predictor.")] == [
        f"predictor.{part}.{tensor}" for part in ("cif_conv1d", "cif_output") for tensor in ("weight", "bias")
    ]


@needs_gguf
def test_without_the_runtime_the_command_says_that_the_file_was_only_read(
    large: Path, tmp_path: Path, run: Runner, without_runtime: None
) -> None:
    done = run("export", large, "--format", "gguf", "--output", tmp_path / "gguf", "--json").json
    assert len(done["lines"]) == 1
    assert done["lines"][0].startswith(f"the file was read, not run: {PROGRAM} is not installed; build {PROGRAM} of")
    assert FunASRGguf().fits(tmp_path / "gguf")
    assert FunASRGguf().missing() == [PROGRAM]
    with pytest.raises(OutputError, match=f"^model.gguf: {PROGRAM} is not installed; build"):
        FunASRGguf().load(tmp_path / "gguf")(Sample(key="noise", audio=np.zeros(16000, np.float32)))


@needs_gguf
def test_a_file_that_is_damaged_afterwards_is_refused(large: Path, tmp_path: Path, without_runtime: None) -> None:
    path = sottovoce.export(sottovoce.load(large), "gguf", tmp_path / "gguf")
    content = bytearray((path / FILE).read_bytes())
    content[-32:-28] = np.float32([np.nan]).tobytes()
    (path / FILE).write_bytes(content)
    with pytest.raises(OutputError, match=r"^model\.gguf: .* has numbers that are not finite; is a weight damaged"):
        Gguf().check(path)
    (path / FILE).write_bytes(content[:9999])
    with pytest.raises(OutputError, match=r"^model\.gguf: gguf does not read it"):
        Gguf().check(path)


def program(path: Path, body: str) -> Path:
    """A program in the place of the runtime."""
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_engine_gives_what_the_program_prints_and_says_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_bytes(b"")
    run = FunASRGguf().load(tmp_path)
    noise = Sample(key="noise", audio=np.zeros(16000, np.float32))
    talks = program(tmp_path / "talks", "print('年月', sys.argv[1::2] == ['-m', '-a'])")
    monkeypatch.setenv(VARIABLE, str(talks))
    assert FunASRGguf().missing() == []
    assert run(noise).text == "年月 True"
    assert run(Sample(key="short", audio=np.zeros(10, np.float32))).text == ""
    monkeypatch.setenv(VARIABLE, str(program(tmp_path / "fails", "sys.exit('missing cmvn.shift')")))
    with pytest.raises(OutputError, match=rf"^model\.gguf: {PROGRAM} does not run it \(missing cmvn.shift, exit"):
        run(noise)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=f"^{VARIABLE}: .*nothing cannot be run; name the program"):
        FunASRGguf().missing()


@pytest.fixture(scope="module")
def widened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model in the sizes of the runtime, and the same words."""
    return make_widened(tmp_path_factory.mktemp("widened") / "model")


def first(count: int = COUNT) -> list[Sample]:
    samples = list(sottovoce.read_samples(DATA / "test.jsonl"))[:count]
    return [Sample(key=sample.key, audio=sottovoce.read_audio(sample.audio), text=sample.text) for sample in samples]


def test_the_bundled_model_in_the_runtimes_sizes_says_what_it_said(widened: Path) -> None:
    narrow, wide = sottovoce.load(TRAINED), sottovoce.load(widened)
    texts = [narrow.architecture.runner.predict(narrow, sample).text for sample in first()]
    assert [wide.architecture.runner.predict(wide, sample).text for sample in first()] == texts
    assert len(set(texts)) > 2


@needs_runtime
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_runtime_says_what_pytorch_says(recipe: Any, widened: Path, tmp_path: Path) -> None:
    model = sottovoce.load(widened)
    if recipe is not None:
        sottovoce.compress(model, recipe, DATA / "calibration.jsonl" if recipe["steps"][1:] else None)
    path = sottovoce.export(model, "gguf", tmp_path / "gguf")
    run = FunASRGguf().load(path)
    texts = [model.architecture.runner.predict(model, sample).text for sample in first()]
    assert [run(sample).text for sample in first()] == texts
    assert len(set(texts)) > 2
