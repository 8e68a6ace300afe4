"""The verbs on a toy family: what is promised is proven, and what cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core.toy import ToyPlugin, make_host, make_model
from sottovoce import Model, Sample, Samples
from sottovoce.checkpoint.model_card import fingerprint
from sottovoce.entrypoints.save import probe
from sottovoce.errors import (
    CheckpointError,
    CoverageError,
    PluginError,
    RecipeError,
    ReloadError,
    SourceError,
    UsageError,
)
from sottovoce.runtime.int8_linear import Int8Linear


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


def test_saved_compressed_model_reloads_exactly(source: Path, tmp_path: Path) -> None:
    host = make_host()
    model = sottovoce.load(source, host=host)
    report = sottovoce.compress(model, "int8", host=host)
    assert isinstance(model.module.blocks[0], Int8Linear)  # type: ignore[index]
    assert report.coverage["compressed_parameters"] == 2 * 32 * 32
    saved = sottovoce.save(model, tmp_path / "small", host=host)
    again = sottovoce.load(saved, host=host)
    assert probe(again).equal(probe(model))
    assert again.report is not None
    step = again.report.recipe["steps"][0]
    assert (step["step"], step["bits"], step["activations"]) == ("quantize", 8, "dynamic")


def test_report_on_disk_describes_the_compression(source: Path, tmp_path: Path) -> None:
    host = make_host()
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, "int8", host=host)
    form = json.loads((sottovoce.save(model, tmp_path / "small", host=host) / "compression.json").read_text())
    step = form["steps"][0]
    assert [target["name"] for target in step["targets"]] == ["blocks.0", "blocks.1"]
    assert {kept["name"]: kept["reason"] for kept in step["kept"]} == {
        "embed": "embedding table",
        "head": "output layer",
        "*.bias": "a bias is added in float",
    }
    assert form["source"] == {
        "name": "toy",
        "hub": None,
        "revision": None,
        "license": None,
        "languages": [],
        "fingerprint": fingerprint(source),
    }
    assert form["card"]["languages"] == ["en"]
    assert form["recipe_name"] == "int8"
    assert set(form["files"]) == {"config.yaml", "model.safetensors"}
    assert form["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]


def test_lossy_writer_is_a_reload_error(source: Path, tmp_path: Path) -> None:
    class Lossy(ToyPlugin):
        @sottovoce.hookimpl
        def sottovoce_export(self, model: Model, format: str, directory: Path) -> Path | None:
            with torch.no_grad():
                model.module.head.weight[0, 0] += 1  # type: ignore[index, union-attr, operator]
            written = super().sottovoce_export(model, format, directory)
            with torch.no_grad():
                model.module.head.weight[0, 0] -= 1  # type: ignore[index, union-attr, operator]
            return written

    host = make_host(Lossy())
    model = sottovoce.load(source, host=host)
    with pytest.raises(ReloadError, match="outputs on the probe differ by up to"):
        sottovoce.save(model, tmp_path / "lost", host=host)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"targets": ["blocks.7"]}, "no module of toy matches 'blocks.7'"),
        ({"targets": ["embed"], "min_coverage": 0}, "0.0%"),
        ({"ignore": ["re:.*"]}, "0 layers"),
        ({"min_coverage": 0.99}, "the recipe promises 99.0%"),
        ({"targets": ["Toy"]}, "is a Toy, not a float linear layer"),
    ],
)
def test_coverage_below_the_recipe_s_minimum_is_an_error(step: dict[str, Any], problem: str, source: Path) -> None:
    host = make_host()
    model = sottovoce.load(source, host=host)
    before = probe(model)
    with pytest.raises(CoverageError, match=problem):
        sottovoce.compress(model, {"steps": [{"step": "quantize", **step}]}, host=host)
    assert probe(model).equal(before)


def test_coverage_below_the_family_s_minimum_is_an_error(source: Path) -> None:
    host = make_host(ToyPlugin(min_coverage=0.9))
    with pytest.raises(CoverageError, match=r"meets 7\d\.\d% of the parameters of toy"):
        sottovoce.compress(sottovoce.load(source, host=host), "int8", host=host)


def test_inspect_shows_sizes_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    facts = sottovoce.inspect(source, "int8", host=make_host())
    assert facts["estimate"]["size_bytes"] < facts["size_bytes"]
    assert facts["coverage"]["parts"]["blocks"]["compressed_parameters"] == 2 * 32 * 32
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_inspect_of_a_compressed_model_describes_its_compression(source: Path, tmp_path: Path) -> None:
    host = make_host()
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, "int8", host=host)
    facts = sottovoce.inspect(sottovoce.save(model, tmp_path / "small", host=host), host=host)
    assert facts["coverage"] == model.report.coverage  # type: ignore[union-attr]
    assert facts["recipe"] == model.report.recipe  # type: ignore[union-attr]


def test_from_pretrained_returns_the_native_object(source: Path) -> None:
    native = sottovoce.from_pretrained(source, "int8", host=make_host())
    assert isinstance(native.blocks[0], Int8Linear)
    with pytest.raises(UsageError, match="vad_recipe: .* has no such companion model; it has: none"):
        sottovoce.from_pretrained(source, vad_recipe="int8", host=make_host())


def test_evaluate_compares_with_a_baseline(source: Path, tmp_path: Path) -> None:
    host = make_host()
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, "int8", host=host)
    samples = Samples((Sample(key="1", text="abcd"), Sample(key="2", text="hgfe")))
    report = sottovoce.evaluate(model, samples, source, host=host)
    assert report.metrics["size_bytes"].value < report.metrics["size_bytes"].baseline  # type: ignore[operator]
    assert report.metrics["token_agreement"].value == 100.0
    assert report.metrics["token_agreement"].baseline is None
    assert set(report.to_dict()) >= {"model", "architecture", "samples", "metrics", "machine", "baseline"}


def test_metric_of_two_plugins_is_an_error(source: Path) -> None:
    class Twin:
        @sottovoce.hookimpl
        def sottovoce_evaluate(self) -> list[sottovoce.Metric]:
            return [sottovoce.Metric(name="cer", value=0, unit="%")]

    with pytest.raises(PluginError, match="'cer' is given by two plugins"):
        sottovoce.evaluate(source, Samples((Sample(key="1", text="a"),)), host=make_host(ToyPlugin(), Twin()))


def test_unexpected_weights_are_refused_unless_allowed(source: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = source / "model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"optimizer.step": torch.zeros(1)}, weights)
    with pytest.raises(CheckpointError, match="1 unexpected: optimizer.step; leave unexpected"):
        sottovoce.load(source, host=make_host())
    sottovoce.load(source, host=make_host(), allow_unexpected=("re:optimizer.*",))
    del tensors["head.bias"]
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match="1 missing: head.bias"):
        sottovoce.load(source, host=make_host())


def test_step_without_a_plugin_is_an_error(source: Path) -> None:
    class Unheard(sottovoce.Step):
        pass

    host = make_host()
    with pytest.raises(RecipeError, match="no installed plugin applies the step 'unheard' to toy"):
        sottovoce.compress(sottovoce.load(source, host=host), {"steps": [{"step": "unheard"}]}, host=host)


@pytest.mark.parametrize("name", ["no/such/dir", "./none", "/nowhere", "none"])
def test_unknown_model_name_is_refused(name: str) -> None:
    with pytest.raises(SourceError, match="no such directory"):
        sottovoce.load(name, host=make_host())


def test_damaged_report_is_refused(source: Path, tmp_path: Path) -> None:
    host = make_host()
    saved = sottovoce.save(sottovoce.load(source, host=host), tmp_path / "copy", host=host)
    (saved / "compression.json").write_text("{}")
    with pytest.raises(SourceError, match=r"compression\.json: damaged"):
        sottovoce.load(saved, host=host)


class Unnamed(torch.nn.Module):
    pass


class Named:
    """An AutoModel of FunASR's says so where it came from."""

    model_path = "somewhere/paraformer"


@pytest.mark.parametrize(("given", "advice"), [(Unnamed(), "DIRECTORY"), (Named(), "'somewhere/paraformer'")])
@pytest.mark.parametrize("call", ["compress", "save", "export", "evaluate"])
def test_object_of_another_library_is_refused_with_advice(call: str, given: Any, advice: str, tmp_path: Path) -> None:
    arguments = {
        "compress": ("int8",),
        "save": (tmp_path / "out",),
        "export": ("onnx", tmp_path / "out"),
        "evaluate": (Samples((Sample(key="a", text="a"),)),),
    }[call]
    with pytest.raises(UsageError) as caught:
        getattr(sottovoce, call)(given, *arguments, host=make_host())
    assert f"sottovoce.{call} takes a model of sottovoce.load, not a {type(given).__name__}" in str(caught.value)
    assert f"sottovoce.load({advice})" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_model_says_what_it_is_on_one_line(tmp_path: Path) -> None:
    host = make_host()
    model = sottovoce.load(make_model(tmp_path / "toy"), host=host)
    assert repr(model) == f"<Model {tmp_path / 'toy'}: toy, 10.5 kB>"
    sottovoce.compress(model, "int8", host=host)
    assert repr(model).endswith("compressed by quantize>")
