"""Graphs from modules: what is written, what is quantized, what stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from sottovoce.errors import OutputError, UsageError
from sottovoce.formats.onnx import OnnxSession, export_onnx, quantize_onnx, write_metadata
from sottovoce.runtime.backends import instructions


class Pair(nn.Module):
    """Two layers, the first of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(64, 64)
        self.output_layer = nn.Linear(64, 8)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output_layer(self.dropout(self.shared(torch.relu(self.shared(x)))))


@pytest.fixture
def pair() -> Pair:
    torch.manual_seed(0)
    return Pair()


@pytest.fixture
def path(pair: Pair, tmp_path: Path) -> Path:
    export(pair, tmp_path / "pair.onnx")
    return tmp_path / "pair.onnx"


def export(module: nn.Module, path: Path) -> None:
    export_onnx(
        module,
        [torch.randn(2, 5, 64)],
        path,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch", 1: "time"}, "y": {0: "batch", 1: "time"}},
    )


def run(path: Path, x: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x.numpy()})[0])


def kinds(path: Path) -> dict[str, str]:
    return {node.name: node.op_type for node in onnx.load(path).graph.node}


def test_outputs_for_any_batch_and_length(pair: Pair, path: Path) -> None:
    for shape in ((1, 1, 64), (3, 700, 64)):
        x = torch.randn(shape)
        np.testing.assert_allclose(run(path, x), pair.eval()(x).detach().numpy(), atol=1e-5)


def test_modes_are_left_as_they_were(pair: Pair, tmp_path: Path) -> None:
    pair.train()
    pair.shared.eval()
    export(pair, tmp_path / "again.onnx")
    assert (pair.training, pair.shared.training, pair.dropout.training) == (True, False, True)


def test_opset_that_is_too_old_is_an_error(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^x\.onnx: opset 11 is too old: 17 is the first"):
        export_onnx(
            pair,
            [torch.randn(1, 64)],
            tmp_path / "x.onnx",
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={},
            opset=11,
        )


def test_graph_of_a_later_version_is_an_error_of_one_line(path: Path) -> None:
    model = onnx.load(path)
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OutputError, match=r"^pair\.onnx: onnxruntime does not read what was written") as caught:
        OnnxSession(path)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_traced_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^x\.onnx: Linear cannot be traced") as caught:
        export(nn.Linear(3, 3), tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


def test_products_become_int8_and_kept_ones_do_not(path: Path, tmp_path: Path, pair: Pair) -> None:
    small = tmp_path / "small.onnx"
    quantize_onnx(path, small, keep=["output"])
    integer = [name for name, kind in kinds(small).items() if kind == "MatMulInteger"]
    assert integer == ["/shared/MatMul_quant", "/shared_1/MatMul_quant"]
    assert kinds(small)["/output_layer/MatMul"] == "MatMul"
    weights = [weight for weight in onnx.load(small).graph.initializer if list(weight.dims) == [64, 64]]
    assert [weight.data_type for weight in weights] == [onnx.TensorProto.INT8]
    x = torch.randn(1, 20, 64)
    # Without VNNI, sums of two products of 8 bits saturate in onnxruntime.
    nearly = 0.05 if instructions.vnni() else 0.25
    np.testing.assert_allclose(run(small, x), pair.eval()(x).detach().numpy(), atol=nearly)


def test_nothing_kept(path: Path, tmp_path: Path) -> None:
    quantize_onnx(path, tmp_path / "small.onnx")
    assert "MatMul" not in kinds(tmp_path / "small.onnx").values()


def test_metadata_is_added_and_replaced(path: Path, tmp_path: Path) -> None:
    write_metadata(path, {"a": "1", "b": "2"})
    write_metadata(path, {"b": "3"})
    quantize_onnx(path, tmp_path / "small.onnx")
    for file in (path, tmp_path / "small.onnx"):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        known = session.get_modelmeta().custom_metadata_map
        assert (known["a"], known["b"]) == ("1", "3")


def test_weights_in_a_file_of_their_own_stay_there(path: Path, pair: Pair) -> None:
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = (path.parent / "weights.bin").read_bytes()
    write_metadata(path, {"a": "1"})
    assert (path.parent / "weights.bin").read_bytes() == before
    x = torch.randn(1, 3, 64)
    np.testing.assert_allclose(run(path, x), pair.eval()(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime.quantization"])
def test_missing_packages_are_named(missing: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(OutputError, match=r"pip install onnx onnxruntime"):
        quantize_onnx(path, path.with_name("small.onnx"))


def test_the_import_is_light() -> None:
    code = (
        "import sys, sottovoce.formats.onnx; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
