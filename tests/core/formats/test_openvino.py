"""Graphs from ONNX in OpenVINO: the numbers of torch, and the integers of compressed layers, bit by bit."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sottovoce.errors import OutputError
from sottovoce.formats.onnx import export_onnx
from sottovoce.formats.openvino import OpenVINOSession, export_openvino
from sottovoce.formats.quantized_weights import QuantizedWeights
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import compute_qparams

pytestmark = pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
WIDTH, OUTPUTS = 48, 21
SCHEMES = {
    "int8": Scheme(bits=8),
    "int8 in groups": Scheme(bits=8, group_size=16),
    "int4": Scheme(bits=4),
    "int4 in groups": Scheme(bits=4, group_size=16),
    "int4 with zero points": Scheme(bits=4, group_size=16, symmetric=False),
    "int3 in groups": Scheme(bits=3, group_size=16),
    "int2 with zero points": Scheme(bits=2, group_size=16, symmetric=False),
}
ROUNDED_INPUTS = Scheme(bits=8, activations="dynamic")


def quantized(scheme: Scheme) -> nn.Module:
    torch.manual_seed(0)
    linear = nn.Linear(WIDTH, OUTPUTS)
    qparams = compute_qparams(linear.weight.detach(), scheme)
    return from_quantized(linear, qparams.quantize(linear.weight.detach()), qparams)


def graph(module: nn.Module, directory: Path, example: torch.Tensor | None = None) -> Path:
    axes = {0: "batch", 1: "time"}
    export_onnx(
        module,
        [torch.randn(2, 5, WIDTH) if example is None else example],
        directory / "graph.onnx",
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": axes, "y": axes},
    )
    return directory / "graph.onnx"


def elements(path: Path) -> list[str]:
    """Element types of the constants in a file."""
    import openvino

    nodes = openvino.Core().read_model(path).get_ordered_ops()
    return [node.get_output_element_type(0).get_type_name() for node in nodes if node.get_type_name() == "Constant"]


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_integers_of_a_layer_are_carried_over_exactly(scheme: Scheme, tmp_path: Path) -> None:
    layer = quantized(scheme)
    stands_for = layer.dequantize()
    path = tmp_path / "graph.xml"
    assert export_openvino(graph(nn.Sequential(stands_for), tmp_path), path, QuantizedWeights(layer)) == 1
    kind = "i8" if scheme.bits == 8 else "i4" if scheme.symmetric else "u4"
    assert kind in elements(path)
    # The identity as input gives the weights themselves.
    identity = np.eye(WIDTH, dtype=np.float32)[None]
    outputs = OpenVINOSession(path).run({"x": identity})["y"][0]
    np.testing.assert_array_equal(outputs, stands_for(torch.eye(WIDTH)).detach().numpy())
    assert path.with_suffix(".bin").stat().st_size < 4 * WIDTH * OUTPUTS


def test_float_outputs_are_those_of_torch_for_any_batch_and_length(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, OUTPUTS))
    path = tmp_path / "graph.xml"
    assert export_openvino(graph(module, tmp_path), path) == 0
    (tmp_path / "graph.onnx").unlink()
    session = OpenVINOSession(path, threads=1)
    assert session.inputs == {"x": [None, None, WIDTH]}
    for shape in ((1, 1, WIDTH), (3, 70, WIDTH)):
        x = torch.randn(shape)
        np.testing.assert_allclose(session.run({"x": x.numpy()})["y"], module(x).detach().numpy(), atol=1e-5)


def test_inputs_are_rounded_only_where_the_model_rounds_them(tmp_path: Path) -> None:
    x = torch.randn(1, 30, WIDTH)
    for scheme, is_exact in ((SCHEMES["int8"], True), (ROUNDED_INPUTS, False)):
        layer = quantized(scheme)
        stands_for = layer.dequantize()
        path = tmp_path / "graph.xml"
        export_openvino(graph(nn.Sequential(stands_for), tmp_path), path, QuantizedWeights(layer))
        assert ("DYNAMIC_QUANTIZATION_GROUP_SIZE" in path.read_text(encoding="utf-8")) is is_exact
        outputs = OpenVINOSession(path).run({"x": x.numpy()})["y"]
        np.testing.assert_allclose(outputs, stands_for(x).detach().numpy(), atol=1e-5 if is_exact else 0.1)


class Tied(nn.Module):
    """A table that is also the weight of the last product."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids) @ self.table.weight.T


def test_a_table_that_is_used_twice_keeps_its_integers_in_both_places(tmp_path: Path) -> None:
    table = Int8Embedding.from_float(nn.Embedding(WIDTH, 16))
    module = Tied(table.dequantize())
    path = tmp_path / "graph.xml"
    ids = torch.arange(WIDTH).reshape(2, -1)
    assert export_openvino(graph(module, tmp_path, ids), path, QuantizedWeights(table)) == 1
    assert elements(path).count("f32") <= 2  # Scales alone, once for each orientation.
    np.testing.assert_allclose(
        OpenVINOSession(path).run({"x": ids.numpy()})["y"], module(ids).detach().numpy(), atol=1e-5
    )


def test_what_is_no_graph_is_an_error_of_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(OutputError, match=r"^broken\.onnx: OpenVINO does not read the graph \(") as caught:
        export_openvino(broken, tmp_path / "graph.xml")
    assert "\n" not in str(caught.value)
    (tmp_path / "graph.xml").write_text("<net/>", encoding="utf-8")
    with pytest.raises(OutputError, match=r"^graph\.xml: OpenVINO does not compile it \("):
        OpenVINOSession(tmp_path / "graph.xml")


def test_inputs_of_another_shape_are_an_error(tmp_path: Path) -> None:
    export_openvino(graph(nn.Sequential(nn.Linear(WIDTH, 3)), tmp_path), tmp_path / "graph.xml")
    with pytest.raises(OutputError, match=r"^graph\.xml: OpenVINO does not run it \("):
        OpenVINOSession(tmp_path / "graph.xml").run({"x": np.zeros((1, 2, WIDTH + 1), np.float32)})


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(OutputError, match=r"needs openvino .*pip install 'sottovoce\[openvino\]'"):
        OpenVINOSession(tmp_path / "graph.xml")


def test_importing_is_light_and_openvino_reports_nothing() -> None:
    code = (
        "import sys, sottovoce.formats.openvino as format; light = 'openvino' in sys.modules; format._require();"
        "import openvino.tools.ovc as ovc;"
        "print(light, type(ovc.telemetry).__module__, 'openvino_telemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "openvino.tools.ovc.telemetry_stub", "False"]
