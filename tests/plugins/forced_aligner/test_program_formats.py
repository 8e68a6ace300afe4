"""The aligner's graph in OpenVINO and as a program of torch.export: the boundaries of the model, with its integers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from plugins.forced_aligner.exported import boundaries, compressed, own_boundaries, utterances
from sottovoce.engines import Engine
from sottovoce.formats import Format
from sottovoce_forced_aligner import engines
from sottovoce_forced_aligner.openvino_format import OpenVINO
from sottovoce_forced_aligner.torch_export_format import TorchExport

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, transformers' and OpenVINO's


def agreement(name: str, format: Format, engine: Engine, directory: Path) -> float:
    """Export, check and run; share of the boundaries that are the same model's in PyTorch."""
    model, samples = compressed(name), utterances(8)
    format.write(model, directory)
    format.check(directory)
    assert engine.fits(directory) and (directory / "align.py").is_file()
    heard = engine.load(directory)
    return float(np.mean(boundaries([heard(sample) for sample in samples]) == own_boundaries(model, samples)))


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize(("name", "bytes_"), [("float", 13e6), ("int4", 2.6e6)])
def test_openvino_finds_the_boundaries(name: str, bytes_: float, tmp_path: Path) -> None:
    assert agreement(name, OpenVINO(), engines.OpenVINO(), tmp_path) >= (0.999 if name == "float" else 0.98)
    assert (tmp_path / "model.bin").stat().st_size < bytes_


def test_program_of_pytorch_finds_the_boundaries(tmp_path: Path) -> None:
    assert agreement("int4", TorchExport(), engines.TorchExport(), tmp_path) >= 0.999
    assert (tmp_path / "model.pt2").stat().st_size < 4e6
