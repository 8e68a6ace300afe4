"""Which layers account for what compression changed in one sample, on the toy family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sottovoce
from core.toy import LETTERS, Toy, ToyPlugin, make_host, make_model, write
from sottovoce.errors import SamplesError, UsageError
from sottovoce.plugins.host import Host
from sottovoce.report import Explanation

Change = Callable[[Toy], None]


@pytest.fixture(scope="module")
def host() -> Host:
    return make_host(ToyPlugin(inputs=("text",)))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"key": "one", "target": LETTERS * 2}) + "\n", encoding="utf-8")
    return path


def explain(folder: Path, manifest: Path, host: Host, change: Change, **options: Any) -> Explanation:
    """Explain what a change of the weights does."""
    source = make_model(folder / "toy", blocks=4)
    module = Toy(blocks=4)
    module.load_state_dict(sottovoce.load(source, host=host).module.state_dict())
    with torch.no_grad():
        change(module)
    write(module, folder / "changed")
    return sottovoce.diff(folder / "changed", source, manifest, "one", host=host, **options)


def turn(layer: nn.Module, amount: float = 1.0) -> None:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    weight += amount * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))


def test_the_one_layer_that_changed_is_named_and_brings_the_text_back(
    tmp_path: Path, manifest: Path, host: Host
) -> None:
    result = explain(tmp_path, manifest, host, lambda module: turn(module.blocks[2]))
    [unit] = result.units
    assert (unit.name, unit.is_back, unit.layers) == ("blocks.2", True, 1)
    assert unit.divergence == pytest.approx(0, abs=1e-6)
    assert result.divergence > 0.01
    assert not result.is_same
    assert result.together == ("blocks.2",)
    assert unit.text == result.outputs["baseline"].text != result.outputs["model"].text


def test_layers_are_in_the_order_of_what_they_account_for(tmp_path: Path, manifest: Path, host: Host) -> None:
    def change(module: Toy) -> None:
        turn(module.blocks[0], 0.02)
        turn(module.blocks[1], 1.5)
        turn(module.blocks[3], 0.3)

    result = explain(tmp_path, manifest, host, change)
    assert [unit.name for unit in result.units] == ["blocks.1", "blocks.3", "blocks.0"]
    left = [unit.divergence or 0.0 for unit in result.units]
    assert left == sorted(left)
    assert result.together is not None
    assert result.together[0] == "blocks.1"


def test_layer_that_brings_the_text_back_alone_is_named_without_others(
    tmp_path: Path, manifest: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(module: Toy) -> None:
        turn(module.blocks[0], 0.02)
        turn(module.blocks[1], 1.5)

    # As if another layer left less divergence than the one that changed the text.
    monkeypatch.setattr("sottovoce.entrypoints.diff._rank", lambda divergence: -divergence)
    result = explain(tmp_path, manifest, host, change)
    assert [(unit.name, unit.is_back) for unit in result.units] == [("blocks.0", False), ("blocks.1", True)]
    assert result.together == ("blocks.1",)


def test_divergence_is_that_of_the_reference_computed_by_hand(tmp_path: Path, manifest: Path, host: Host) -> None:
    result = explain(tmp_path, manifest, host, lambda module: turn(module.head, 0.5))
    [sample] = sottovoce.read_samples(manifest)
    before, after = (sottovoce.load(tmp_path / name, host=host) for name in ("toy", "changed"))
    with torch.inference_mode():
        p, q = (model.architecture.runner.forward(model, sample).log_softmax(-1) for model in (before, after))
    assert result.divergence == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-4)
    assert result.positions == 16
    assert [unit.name for unit in result.units] == ["head"]


def test_quantized_layers_have_their_bits(tmp_path: Path, manifest: Path, host: Host) -> None:
    source = make_model(tmp_path / "toy", blocks=4)
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, "int8", host=host)
    sottovoce.save(model, tmp_path / "int8", host=host)
    result = sottovoce.diff(tmp_path / "int8", source, manifest, "one", host=host)
    assert {(unit.name, unit.bits) for unit in result.units} == {(f"blocks.{number}", 8) for number in range(4)}
    assert result.divergence > 0
    assert all(unit.divergence is not None for unit in result.units)


def test_quantized_model_is_refused_beside_itself(tmp_path: Path, manifest: Path, host: Host) -> None:
    model = sottovoce.load(make_model(tmp_path / "toy", blocks=4), host=host)
    sottovoce.compress(model, "int8", host=host)
    sottovoce.save(model, tmp_path / "int8", host=host)
    with pytest.raises(UsageError, match="differ in nothing"):
        sottovoce.diff(tmp_path / "int8", tmp_path / "int8", manifest, "one", host=host)


def test_only_quantized_layers_with_other_weights_differ(tmp_path: Path, manifest: Path, host: Host) -> None:
    source = make_model(tmp_path / "toy", blocks=4)
    other = sottovoce.load(source, host=host)
    with torch.no_grad():
        turn(other.module.get_submodule("blocks.2"), 0.1)
    for name, model in (("first", sottovoce.load(source, host=host)), ("second", other)):
        sottovoce.compress(model, "int8", host=host)
        sottovoce.save(model, tmp_path / name, host=host)
    result = sottovoce.diff(tmp_path / "second", tmp_path / "first", manifest, "one", host=host)
    assert [unit.name for unit in result.units] == ["blocks.2"]


def test_alignment_says_what_was_edited(tmp_path: Path, manifest: Path, host: Host) -> None:
    result = explain(tmp_path, manifest, host, lambda module: turn(module.blocks[2]))
    assert result.reference == LETTERS * 2
    for output in result.outputs.values():
        assert "".join(after for _, _, after in output.edits) == output.text


def test_unknown_key_is_refused_with_the_nearest(tmp_path: Path, manifest: Path, host: Host) -> None:
    source = make_model(tmp_path / "toy")
    with pytest.raises(SamplesError, match=r"no sample has the key 'ono'; the nearest is 'one'"):
        sottovoce.diff(source, source, manifest, "ono", host=host)


@pytest.mark.parametrize(("sizes", "message"), [({}, "differ in nothing"), ({"width": 16}, "have no layers that fit")])
def test_models_that_cannot_be_explained_are_refused(
    tmp_path: Path, manifest: Path, host: Host, sizes: dict[str, int], message: str
) -> None:
    source, other = make_model(tmp_path / "toy"), make_model(tmp_path / "other", **sizes)
    with pytest.raises(UsageError, match=message):
        sottovoce.diff(other, source, manifest, "one", host=host)


def test_removed_blocks_are_put_back_together(tmp_path: Path, manifest: Path, host: Host) -> None:
    source = make_model(tmp_path / "toy", blocks=4)
    kept = Toy(blocks=2)
    kept.load_state_dict(
        {
            name: tensor
            for name, tensor in sottovoce.load(source, host=host).module.state_dict().items()
            if "s.2" not in name and "s.3" not in name
        }
    )
    write(kept, tmp_path / "short")
    result = sottovoce.diff(tmp_path / "short", source, manifest, "one", host=host)
    assert [(unit.name, unit.is_back) for unit in result.units] == [("blocks", True)]
