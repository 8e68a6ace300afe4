"""TorchScript: any batch and length, names of inputs and outputs, none of this machine's paths."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sottovoce.errors import OutputError
from sottovoce.formats.torchscript import ScriptSession, export_script

WIDTH = 8

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch deprecates TorchScript


class Pair(nn.Module):
    """Two outputs, one of them of a length that the data decide."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.dropout(self.linear(x)), torch.arange(lengths.max() + 1)


def export(module: nn.Module, path: Path) -> None:
    export_script(
        module,
        [torch.randn(2, 5, WIDTH), torch.tensor([5, 3])],
        path,
        input_names=["x", "lengths"],
        output_names=["y", "positions"],
        dynamic_axes={"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}},
    )


def test_outputs_are_the_modules_for_any_batch_and_length(tmp_path: Path) -> None:
    module, path = Pair().train(), tmp_path / "pair.pt"
    export(module, path)
    assert module.training
    session = ScriptSession(path)
    assert session.inputs == {"x": [None, None, WIDTH], "lengths": [None]}
    for shape in ((1, 1, WIDTH), (3, 700, WIDTH)):
        x = torch.randn(shape)
        outputs = session.run({"lengths": np.full(shape[0], shape[1]), "x": x.numpy()})
        np.testing.assert_allclose(outputs["y"], module.eval().linear(x).detach().numpy(), atol=1e-6)
        assert outputs["positions"].tolist() == list(range(shape[1] + 1))
    with pytest.raises(OutputError, match=r"^pair\.pt: PyTorch does not run it \("):
        session.run({"x": np.zeros((1, 2, WIDTH + 1), np.float32), "lengths": np.array([2])})


def test_the_archive_holds_two_pickles_and_no_path_of_this_machine(tmp_path: Path) -> None:
    export(Pair(), tmp_path / "pair.pt")
    with zipfile.ZipFile(tmp_path / "pair.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    pickles = [name for name, content in members.items() if content.startswith(b"\x80") or "pkl" in name]
    assert pickles == ["pair/data.pkl", "pair/constants.pkl"]
    assert not any(str(Path(__file__).parent).encode() in content for content in members.values())


def test_a_module_that_cannot_be_traced_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^x\.pt: Linear cannot be traced \(") as caught:
        export_script(
            nn.Linear(3, 3),
            [torch.ones(2, 4)],
            tmp_path / "x.pt",
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={},
        )
    assert "\n" not in str(caught.value)
