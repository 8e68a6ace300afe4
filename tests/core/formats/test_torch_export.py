"""Programs of torch.export: any batch and length, no pickles, none of this machine's paths."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sottovoce.errors import OutputError, SourceError
from sottovoce.formats.torch_export import ProgramSession, export_program, pickles_in

WIDTH = 8


class Pair(nn.Module):
    """Two outputs, one of them of a length that the data decide."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.dropout(self.linear(x)), torch.arange(lengths.max() + 1)


class Branch(nn.Module):
    """Module that decides by its data."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.fixture(scope="module")
def module() -> Pair:
    torch.manual_seed(0)
    return Pair()


@pytest.fixture(scope="module")
def path(module: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "pair.pt2"
    module.train()
    export_program(
        module,
        [torch.randn(2, 5, WIDTH), torch.tensor([5, 3])],
        path,
        input_names=["x", "lengths"],
        output_names=["y", "positions"],
        dynamic_axes={"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}, "y": {0: "batch", 1: "more"}},
    )
    assert module.training
    return path


def test_outputs_are_the_modules_for_any_batch_and_length(module: Pair, path: Path) -> None:
    session = ProgramSession(path)
    assert session.inputs == {"x": [None, None, WIDTH], "lengths": [None]}
    for shape in ((1, 1, WIDTH), (3, 700, WIDTH)):
        x = torch.randn(shape)
        outputs = session.run({"lengths": np.full(shape[0], shape[1]), "x": x.numpy()})
        np.testing.assert_array_equal(outputs["y"], module.eval()(x, torch.tensor([1]))[0].detach().numpy())
        assert outputs["positions"].tolist() == list(range(shape[1] + 1))


def test_the_file_holds_no_pickle_and_no_path_of_this_machine(path: Path) -> None:
    assert pickles_in(path) == []
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(__file__).parent).encode() not in content
    assert b"Dropout" not in content


def test_a_file_with_a_pickle_is_not_read(path: Path, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    samples, weights = tmp_path / "samples.pt2", tmp_path / "weights.pt2"
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    config = next(name for name in parts if name.endswith("weights_config.json"))
    member = next(name for name in parts if "sample_inputs" in name)
    for hostile, changes in (
        (samples, {member: pickle.dumps(Touch())}),
        (weights, {config: parts[config].replace(b'"use_pickle": false', b'"use_pickle": true')}),
    ):
        with zipfile.ZipFile(hostile, "w") as target:
            for name, content in (parts | changes).items():
                target.writestr(name, content)
        with pytest.raises(SourceError, match=rf"^{hostile.name}: holds the pickle .*; export the model again"):
            ProgramSession(hostile)
    assert not (tmp_path / "ran").exists()


def test_a_module_that_branches_on_data_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^x\.pt2: Branch cannot be captured \(") as caught:
        export_program(
            Branch(), [torch.ones(2)], tmp_path / "x.pt2", input_names=["x"], output_names=["y"], dynamic_axes={}
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.pt2").exists()


def test_other_files_and_other_inputs_are_errors(path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no program", encoding="utf-8")
    with pytest.raises(SourceError, match=r"^text\.pt2: is not a file of torch\.export"):
        ProgramSession(tmp_path / "text.pt2")
    with zipfile.ZipFile(tmp_path / "empty.pt2", "w") as archive:
        archive.writestr("empty/version", "0")
    with pytest.raises(OutputError, match=r"^empty\.pt2: PyTorch does not read it \("):
        ProgramSession(tmp_path / "empty.pt2")
    with pytest.raises(OutputError, match=r"^pair\.pt2: PyTorch does not run it \("):
        ProgramSession(path).run({"x": np.zeros((1, 2, WIDTH + 1), np.float32), "lengths": np.array([2])})
