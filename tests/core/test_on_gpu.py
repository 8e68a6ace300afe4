"""Compressing and running on a GPU: on one that is pretended everywhere, and on a real one where there is one."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pretend_gpu
import sottovoce
from core.drawn import MULTIPLIED, SCHEMES, name_of, normal, quantized
from core.toy import LETTERS, ToyPlugin, make_host, write
from sottovoce import LoadOptions, Model, Prediction, Sample, Samples, ScalePair, Source
from sottovoce.architecture import Architecture
from sottovoce.calibration import runner
from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.checkpoint import load_strictly_, read_config, read_tensors
from sottovoce.entrypoints.save import probe
from sottovoce.formats import compressed_tensors
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import int8_engine, int_mm, onednn_float
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.int8_linear import Int8Linear

WIDTH = 64
SAMPLES = Samples(tuple(Sample(key=str(number), text=LETTERS[number:] + LETTERS * number) for number in range(6)))
QUANTIZE = {"step": "quantize"}
RECIPES: dict[str, list[dict[str, Any]]] = {
    "int8": [QUANTIZE],
    "int8 by least error": [QUANTIZE | {"weight_range": "mse"}],
    "int8 by GPTQ": [QUANTIZE | {"method": "gptq"}],
    "int8 with calibrated inputs": [QUANTIZE | {"activations": "static"}],
    "int8 weights and tables": [QUANTIZE | {"activations": "none", "embeddings": "int8"}],
    "int4 in groups by GPTQ": [QUANTIZE | {"bits": 4, "method": "gptq", "group_size": 32, "symmetric": False}],
    "int4 by AWQ": [QUANTIZE | {"bits": 4, "method": "awq", "weight_range": "mse"}],
    "int4 by HQQ": [QUANTIZE | {"bits": 4, "method": "hqq", "symmetric": False}],
    "smoothed int8": [{"step": "smooth"}, QUANTIZE | {"activations": "static"}],
    "fp8": [QUANTIZE | {"type": "float"}],
}
EACH_RECIPE = pytest.mark.parametrize("name", RECIPES)


class Gated(nn.Module):
    """A normalization and the layers that read it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.gate = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.down(torch.tanh(self.gate(y)) * self.up(y))  # type: ignore[no-any-return]


class Network(nn.Module):
    """Blocks between a table and a head."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.width = WIDTH
        self.embed = nn.Embedding(len(LETTERS), WIDTH)
        self.blocks = nn.ModuleList(Gated() for _ in range(blocks))
        self.head = nn.Linear(WIDTH, len(LETTERS))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


def forward(model: Model, sample: Sample) -> Tensor:
    ids = torch.tensor([LETTERS.index(letter) for letter in sample.text or ""])
    return model.module(ids.to(next(model.module.parameters()).device))  # type: ignore[no-any-return]


def predict(model: Model, sample: Sample) -> Prediction:
    tokens = tuple(LETTERS[index] for index in forward(model, sample).argmax(-1).tolist())
    return Prediction(text="".join(tokens), tokens=tokens)


class NetworkPlugin(ToyPlugin):
    """Loads :class:`Network` to where it is asked for."""

    def __init__(self) -> None:
        super().__init__(
            targets=(r"re:blocks\.\d+\.(gate|up|down)",),
            inputs=("text",),
            forward=forward,
            predict=predict,
            scale_pairs={r"re:blocks\.\d+": (ScalePair("norm", ("gate", "up")), ScalePair("up", ("down",)))},
        )

    @sottovoce.hookimpl
    def sottovoce_load(self, source: Source, architecture: Architecture, options: LoadOptions) -> Model:
        facts = read_config(source.directory / "config.yaml")
        module = Network(facts["blocks"])
        if config := facts.get("quantization_config"):
            compressed_tensors.prepare_(module, config)
        weights = source.directory / "model.safetensors"
        load_strictly_(module, read_tensors(weights), str(weights))
        module.to(options.device)
        return Model(module=module.eval(), native=module, architecture=architecture, source=source)


HOST = make_host(NetworkPlugin())


@pytest.fixture(params=["pretended", *(["real"] if torch.cuda.is_available() else [])])
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which it is."""
    with pretend_gpu.pretend_gpu() if request.param == "pretended" else contextlib.nullcontext():
        yield request.param


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = Network()
    with torch.no_grad():
        network.embed.weight.mul_(torch.linspace(-1, 1, WIDTH).exp())
    return write(network, tmp_path / "network")


def compressed(source: Path, name: str, device: str, **options: Any) -> Model:
    model = sottovoce.load(source, host=HOST, device=device)
    sottovoce.compress(model, {"steps": RECIPES[name], **options.pop("recipe", {})}, SAMPLES, host=HOST, **options)
    return model


def state(model: Model) -> Mapping[str, Tensor]:
    """The tensors, which all lie where the model does."""
    tensors = model.module.state_dict()
    assert len({str(tensor.device) for tensor in tensors.values()}) == 1
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def targets(model: Model) -> list[dict[str, Any]]:
    """What the report says of the layers."""
    assert model.report is not None
    found: list[dict[str, Any]] = model.report.to_dict()["steps"][-1]["targets"]
    return found


def assert_same(found: Model, want: Model, gpu: str) -> None:
    """The same steps and scales; on a real GPU, whose sums are others, nearly."""
    one, other = state(found), state(want)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype
        if gpu == "pretended":
            assert tensor.equal(other[name]), name
        elif tensor.is_floating_point():
            assert torch.allclose(tensor.float(), other[name].float(), rtol=0.07, atol=1e-3), name
        else:
            assert (tensor != other[name]).float().mean() < 0.2, name


@EACH_RECIPE
def test_steps_and_scales_are_those_of_the_cpu(
    name: str, source: Path, gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Products of other libraries have other last bits, which decide where a value lies half way between two steps.
    monkeypatch.setattr(onednn_float, "float_supported", lambda: False)
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "float")
    found, want = compressed(source, name, "cuda"), compressed(source, name, "cpu")
    assert_same(found, want, gpu)
    nearly = 1e-4 if gpu == "pretended" else 0.1
    for one, other in zip(targets(found), targets(want), strict=True):
        assert (one["name"], one["bits"]) == (other["name"], other["bits"])
        assert one.get("output_error", 0) == pytest.approx(other.get("output_error", 0), rel=nearly)
    assert torch.allclose(probe(found).cpu(), probe(want), atol=1e-4 if gpu == "pretended" else 0.2)


@EACH_RECIPE
def test_what_was_saved_is_loaded_to_the_gpu_and_to_the_cpu(name: str, source: Path, gpu: str, tmp_path: Path) -> None:
    model = compressed(source, name, "cuda")
    saved = sottovoce.save(model, tmp_path / "small", host=HOST)  # which compares what both give
    again, here = (sottovoce.load(saved, host=HOST, device=device) for device in ("cuda", "cpu"))
    assert probe(again).equal(probe(model))
    assert probe(again).is_cuda
    assert (probe(here) - probe(model).cpu()).norm() < 2e-2 * probe(here).norm()
    assert_same(here, model, "pretended")


def test_interrupted_work_goes_on_where_the_model_lies(source: Path, gpu: str, tmp_path: Path) -> None:
    name, kept = "int8 by GPTQ", tmp_path / "kept"
    first = compressed(source, name, "cuda", resume=kept)
    assert_same(compressed(source, name, "cuda", resume=kept), first, "pretended")


def test_layers_that_a_gate_makes_precise_again_stay_there(tmp_path: Path, gpu: str) -> None:
    torch.manual_seed(0)
    network = Network(4)
    with torch.no_grad():
        for block in network.blocks:
            block.gate.weight[:, ::32] = 30  # type: ignore[union-attr, operator]
            block.down.weight.mul_(20)  # type: ignore[union-attr, operator]
    model = sottovoce.load(write(network, tmp_path / "network"), host=HOST, device="cuda")
    recipe = {"steps": [QUANTIZE | {"bits": 4}], "gate": {"min_token_agreement": 100}}
    report = sottovoce.compress(model, recipe, host=HOST, gate_samples=SAMPLES)
    assert report.gate is not None
    assert {each["bits"] for each in report.gate["raised"]} & {8, 32}
    state(model)


def test_activations_on_the_gpu_do_not_go_to_disk(source: Path, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    want = compressed(source, "int8 by GPTQ", "cuda")
    monkeypatch.setattr(runner, "room_for_activations", lambda *_: 0)
    monkeypatch.setattr(ActivationCache, "_write", None)
    assert_same(compressed(source, "int8 by GPTQ", "cuda"), want, "pretended")


def by_definition(layer: nn.Module, x: Tensor) -> Tensor:
    """The product with rounded inputs, which a CPU without instructions for int8 rounds otherwise."""
    if not isinstance(layer, Int8Linear) or not x.numel():
        return layer(x)  # type: ignore[no-any-return]
    rows = x.float()
    if inputs := layer.input_range:
        scale, zero_point = torch.tensor(inputs.scale), torch.tensor(inputs.zero_point)
    elif layer.scheme.strategy == "token":
        scale, zero_point = rows.abs().amax(-1, keepdim=True) / 127, torch.tensor(0)
    else:
        low, high = rows.min().clamp(max=0), rows.max().clamp(min=0)
        scale = (high - low) / 255
        zero_point = (-low / scale).round() - 128
    steps = ((rows / scale).round() + zero_point).clamp(-128, 127) - zero_point
    return layer.dequantize().float()(steps * scale).to(x.dtype)


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64,), (5, 64), (40, 64), (2, 3, 64), (0, 64)])
def test_layers_run_and_move(scheme: Scheme, dtype: torch.dtype, shape: tuple[int, ...], gpu: str) -> None:
    layer, x = quantized(scheme, dtype=dtype).eval(), normal(*shape).to(dtype)
    with torch.inference_mode():
        want, expected = layer(x), by_definition(layer, x)
        layer.to("cuda")
        assert {tensor.device.type for tensor in layer.state_dict().values()} == {"cuda"}
        found = layer(x.cuda())
        assert (found.dtype, found.shape, found.is_cuda) == (dtype, want.shape, True)
        assert torch.allclose(found.cpu(), expected, rtol=1e-4, atol=1e-4 if dtype == torch.float32 else 0.1)
        assert layer.to("cpu")(x).equal(want)


def test_tables_run_and_move(gpu: str) -> None:
    table = Int8Embedding.from_float(nn.Embedding(9, 16, _weight=normal(9, 16)))
    ids = torch.tensor([[1, 8], [0, 1]])
    want = table(ids)
    found = table.to("cuda")(ids.cuda())
    assert found.is_cuda
    assert found.cpu().equal(want)


class TestInt8Linear:
    """Which product runs, and that nothing waits for the device."""

    BY_ROW = MULTIPLIED[0]

    @pytest.fixture(autouse=True)
    def _anew(self, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SOTTOVOCE_INT8_ENGINE", raising=False)
        monkeypatch.setattr(int8_engine, "_warned", set())

    @pytest.fixture
    def sizes(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
        """Of the products of integers from now on."""
        int_mm.supported(torch.zeros(1, device="cuda").device)
        calls, product = [], torch._int_mm

        def counted(x: Tensor, weight: Tensor) -> Tensor:
            calls.append((*x.shape, weight.shape[1]))
            return product(x, weight)

        monkeypatch.setattr(torch, "_int_mm", counted)
        return calls

    @staticmethod
    def run(layer: nn.Module, rows: int = 40) -> Tensor:
        with torch.inference_mode():
            return layer(normal(rows, 64).cuda())  # type: ignore[no-any-return]

    @pytest.mark.parametrize("scheme", MULTIPLIED, ids=name_of)
    def test_nothing_waits_for_the_device(self, scheme: Scheme, gpu: str, sizes: list[tuple[int, ...]]) -> None:
        layer, x = quantized(scheme).to("cuda"), normal(40, 64).cuda()
        self.run(layer)
        pretend_gpu.waits.clear()
        if gpu == "real":
            torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.inference_mode():
                layer(x)
        finally:
            if gpu == "real":
                torch.cuda.set_sync_debug_mode("default")
        assert not pretend_gpu.waits
        assert sizes == [(40, 64, 48)] * 2

    @pytest.mark.parametrize("rows", [1, 16, 17, 31, 32, 33])
    def test_few_rows_are_filled_up(self, rows: int, sizes: list[tuple[int, ...]]) -> None:
        assert self.run(quantized(self.BY_ROW).to("cuda"), rows).shape == (rows, 48)
        assert sizes == [(max(rows, 32), 64, 48)]

    def test_the_environment_asks_for_floats(
        self, monkeypatch: pytest.MonkeyPatch, sizes: list[tuple[int, ...]], caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "float")
        self.run(quantized(self.BY_ROW).to("cuda"))
        assert not sizes
        assert not caplog.records

    def test_sizes_that_the_kernel_does_not_take_are_floats(self, sizes: list[tuple[int, ...]]) -> None:
        layer = Int8Linear.from_float(nn.Linear(64, 47))
        with torch.no_grad():
            want = layer.dequantize()(normal(40, 64))
        assert torch.allclose(self.run(layer.to("cuda")).cpu(), want, atol=1e-5)
        assert not sizes

    def test_a_device_without_the_kernel_is_said_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(int_mm, "supported", lambda device: False)
        with caplog.at_level(logging.WARNING, logger="sottovoce"):
            for _ in range(2):
                self.run(quantized(self.BY_ROW).to("cuda"))
        (record,) = caplog.records
        assert "'float'" in record.getMessage()
        assert "cuda:0" in record.getMessage()

    def test_loading_takes_the_place_of_what_was_prepared(self) -> None:
        layer, other = (quantized(MULTIPLIED[1], bias=bias).to("cuda") for bias in (True, True))
        self.run(layer)
        state = {name: tensor * 2 if name == "weight_scale" else tensor for name, tensor in other.state_dict().items()}
        layer.load_state_dict(state)
        assert not self.run(layer).equal(self.run(other))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
class TestRealGpu:
    """What cannot be pretended; where there is a GPU, all tests above run on it as well."""

    def test_it_multiplies_integers(self) -> None:
        assert int_mm.supported(torch.zeros(1, device="cuda").device)

    @pytest.mark.parametrize("rows", [1, 17, 33, 100, 1000])
    @pytest.mark.parametrize(("width", "out"), [(64, 48), (72, 24), (1280, 5120), (8, 8)])
    def test_sums_are_exact(self, rows: int, width: int, out: int) -> None:
        generator = torch.Generator().manual_seed(0)
        x, weight = (
            torch.randint(-128, 128, size, generator=generator, dtype=torch.int8)
            for size in ((rows, width), (out, width))
        )
        prepared = int_mm.prepare(weight.cuda(), torch.ones(out).cuda())
        found = int_mm.linear(int_mm.ActivationCache(x.cuda(), torch.ones(rows, 1).cuda(), None), prepared)
        assert found.cpu().equal((x.double() @ weight.double().t()).float())

    @pytest.mark.parametrize("scheme", MULTIPLIED, ids=name_of)
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_values_that_are_not_finite_are_not_hidden(self, scheme: Scheme, value: float, dtype: torch.dtype) -> None:
        x = normal(40, 64).to(dtype)
        x[3, 4] = value
        with torch.inference_mode():
            found = quantized(scheme).to("cuda")(x.cuda())
        assert not found[3].isfinite().any()
        assert found[4:].isfinite().all()

    def test_gradients_flow_through_the_float_product(self) -> None:
        layer, x = quantized(MULTIPLIED[0]).to("cuda"), normal(40, 64).cuda().requires_grad_()
        layer(x).sum().backward()
        assert x.grad is not None
