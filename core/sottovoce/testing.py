"""The conformance kit: checks that the models of every plugin must pass.

A plugin's test is a subclass that writes a tiny model::

    from sottovoce.testing import Conformance

    class TestMyModel(Conformance):
        architecture = "my-model"

        @classmethod
        def make_model(cls, directory):
            ...  # write a tiny model, random weights, in its own library's files

pytest collects the checks. They load, inspect, compress, save, reload, damage and refuse.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sottovoce.architecture import Architecture, Training
from sottovoce.checkpoint import digests
from sottovoce.checkpoint.weights import leave_file_
from sottovoce.entrypoints import compress, evaluate, inspect, load, save
from sottovoce.errors import CoverageError, SourceError, UsageError
from sottovoce.model import Model
from sottovoce.plugins.host import Host
from sottovoce.pruning.parts import modules_of
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.presets import PRESETS
from sottovoce.recipe.recipe import Recipe
from sottovoce.samples import Prediction, Sample, Samples, read_samples
from sottovoce.system.interpreter import python_command, python_environment

if TYPE_CHECKING:
    from torch import Tensor

_WEIGHTS = (".safetensors", ".pt", ".pb", ".bin")
_PICKLES = (".pt", ".pb", ".bin", ".pkl", ".pickle", ".pth", ".ckpt")


class Conformance:
    """Checks for one family. Subclass it, name the family, write a tiny model."""

    architecture: str
    """Name of the architecture that the plugin describes."""
    recipe = "int8"
    """Recipe that needs no samples."""
    largest_error = 0.35
    """Largest error of the compressed model's outputs, relative to the standard deviation of the float model's."""
    calibration: Path | None = None
    """Manifest of real samples for the recipes that calibrate; without it these recipes are skipped."""

    @classmethod
    def make_model(cls, directory: Path) -> None:
        """Write a tiny model with random weights into an existing, empty directory, in its own library's files."""
        raise AssertionError(f"{cls.__name__} does not define make_model")

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls) -> Host:
        """Return a host with the installed plugins."""
        return Host()

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return the tiny model's directory, which no check may change."""
        directory = tmp_path_factory.mktemp(cls.architecture) / "model"
        directory.mkdir()
        cls.make_model(directory)
        return directory

    @pytest.fixture(scope="class")
    @classmethod
    def compressed(cls, host: Host, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return the directory of the tiny model, compressed and saved."""
        model = load.load(source, host=host)
        compress.compress(model, cls.recipe, host=host)
        return save.save(model, tmp_path_factory.mktemp(cls.architecture) / "compressed", host=host)

    @pytest.fixture
    def facts(self, host: Host) -> Architecture:
        """Return the plugin's description of the family."""
        return host.architectures[self.architecture]

    def test_is_described_without_heavy_imports(self, facts: Architecture) -> None:
        """Check that the description imports no torch and no model library, and has a reason for every kept pattern."""
        code = "import sys; from sottovoce.plugins.host import Host; Host().architectures; print(*sorted(sys.modules))"
        done = subprocess.run(
            python_command("-c", code), capture_output=True, text=True, check=True, env=python_environment()
        )
        assert not {"torch", "transformers", "funasr"} & set(done.stdout.split())
        assert facts.matches
        assert facts.layers.targets
        assert all(reason.strip() for reason in facts.layers.ignore.values())

    def test_loads_in_evaluation_mode(self, host: Host, source: Path) -> None:
        """Check that the model is recognized by its class name, and that two runs give the same outputs."""
        model = load.load(source, host=host)
        assert model.architecture.name == self.architecture
        assert not model.module.training
        first, second = save.probe(model), save.probe(model)
        assert first.numel() > 0
        assert first.isfinite().all()
        assert first.equal(second)

    def test_unknown_option_is_refused(self, host: Host, source: Path) -> None:
        """Check that a misspelt keyword is an error that names it."""
        with pytest.raises(UsageError, match="no_such_option"):
            load.load(source, host=host, no_such_option=1)

    def test_unknown_weights_are_refused(self, host: Host, source: Path) -> None:
        """Check that weights that do not exist are an error that names them."""
        with pytest.raises(UsageError, match="no-such-file"):
            load.load(source, host=host, weights="no-such-file")

    def test_predicts(self, host: Host, source: Path) -> None:
        """Check that a sample gives a prediction, as a user would get it."""
        model = load.load(source, host=host)
        prediction = model.architecture.runner.predict(model, model.architecture.runner.probe(model))
        assert isinstance(prediction, Prediction)

    def test_inspect_agrees_with_compress(self, host: Host, source: Path) -> None:
        """Check that the dry run and the real one agree, and account for every parameter."""
        facts = inspect.inspect(source, self.recipe, host=host)
        model = load.load(source, host=host)
        before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
        report = compress.compress(model, self.recipe, host=host).to_dict()
        assert facts["coverage"] == report["coverage"]
        assert facts["estimate"]["size_bytes"] == report["size_bytes"]["after"] == model.size_bytes
        assert report["size_bytes"]["after"] < report["size_bytes"]["before"]
        changed = sum(target["parameters"] for target in facts["targets"])
        kept = sum(part["parameters"] for part in facts["kept"])
        assert changed + kept == facts["parameters"]
        self._check_changed(model, before, facts)

    def _check_changed(self, model: Model, before: dict[str, Any], facts: dict[str, Any]) -> None:
        """Check that every target is stored in fewer bytes, and that nothing else changed."""
        after = model.module.state_dict()
        targets = {f"{target['name']}.weight" for target in facts["targets"]}
        for name in targets:
            stored = sum(tensor.nbytes for key, tensor in after.items() if key.startswith(name))
            assert 0 < stored < before[name].nbytes, name
        for name in set(before) - targets:
            assert after[name].equal(before[name]), name

    def test_saves_and_reloads_exactly(self, host: Host, source: Path, compressed: Path) -> None:
        """Check that the saved files give the outputs of the model in memory, have no pickles, and list digests."""
        model = load.load(source, host=host)
        compress.compress(model, self.recipe, host=host)
        assert save.probe(model).equal(save.probe(load.load(compressed, host=host)))
        assert not [path for path in compressed.rglob("*") if path.suffix in _PICKLES]
        files = json.loads((compressed / "compression.json").read_text(encoding="utf-8"))["files"]
        expected = {name: value for name, value in digests(compressed).items() if name != "compression.json"}
        assert files == expected

    @pytest.mark.parametrize("preset", sorted(PRESETS))
    def test_every_preset_reloads_exactly(self, host: Host, source: Path, preset: str, tmp_path: Path) -> None:
        """Check that each of core's presets applies to the family, and that its saved files reload exactly."""
        recipe = host.recipe(preset)
        if self._calibrates(recipe) and self.calibration is None:
            pytest.skip("the family's test names no calibration samples")
        model = load.load(source, host=host)
        report = compress.compress(model, recipe, self.calibration, host=host).to_dict()
        estimate = inspect.inspect(source, recipe, host=host)["estimate"]["size_bytes"]
        # Ranges of inputs that no sample reached are not stored, which the dry run cannot know.
        assert abs(estimate - model.size_bytes) <= 0.01 * model.size_bytes
        assert model.size_bytes < report["size_bytes"]["before"]
        assert all(target["bits"] < 16 for step in report["steps"] for target in step["targets"])
        saved = save.save(model, tmp_path / "saved", host=host)
        assert save.probe(load.load(saved, host=host)).equal(save.probe(model))

    def _calibrates(self, recipe: Recipe) -> bool:
        return any(isinstance(step, Quantize) and step.needs_samples for step in recipe.steps)

    @pytest.mark.parametrize("step", ["prune_width", "prune_heads"])
    def test_what_its_shape_states_can_be_pruned(
        self, host: Host, source: Path, facts: Architecture, step: str, tmp_path: Path
    ) -> None:
        """Check that half of the units and heads can go, as the dry run says, and that the files reload exactly."""
        model = load.load(source, host=host)
        parts = [width.part for width in facts.shape.widths if modules_of(model.module, width.modules)]
        if step == "prune_heads":
            parts = [
                heads.part
                for heads in facts.shape.heads
                if any(
                    heads.groups(model.module.get_submodule(name)) > 1
                    for name in modules_of(model.module, heads.modules)
                )
            ]
        if not parts:
            pytest.skip("the tiny model has none that the family states")
        form = {"step": step, "score": "magnitude", "refit": False, **dict.fromkeys(parts, 0.5)}
        recipe = Recipe.from_dict({"steps": [form]})
        estimate = inspect.inspect(source, recipe, host=host)["estimate"]["size_bytes"]
        before = model.size_bytes
        compress.compress(model, recipe, host=host)
        assert estimate == model.size_bytes < before
        saved = save.save(model, tmp_path / "saved", host=host)
        assert save.probe(load.load(saved, host=host)).equal(save.probe(model))

    def test_batch_of_training_gives_each_sample_what_it_gives_alone(self, host: Host, source: Path) -> None:
        """Check that padding changes no logits by more than rounding does."""
        import torch

        model = load.load(source, host=host)
        training, samples = self._training_samples(model, 3)
        with torch.no_grad():
            together = training.forward(model, training.collate(model, samples), None)
            alone = [training.forward(model, training.collate(model, [sample]), None) for sample in samples]
        assert together.counts == tuple(count for outputs in alone for count in outputs.counts)
        logits = torch.cat([outputs.logits for outputs in alone]).float()
        assert _distance(together.logits.float(), logits) < 1e-3

    def test_is_distilled_and_reloads_exactly(self, host: Host, source: Path, tmp_path: Path) -> None:
        """Check that two updates have finite losses, and that the files of the student reload exactly."""
        model = load.load(source, host=host)
        _, samples = self._training_samples(model, 6)
        step = {"step": "distill", "steps": 2, "batch": 2, "evaluations": 1, "held_out": 0.3}
        report = compress.compress(model, {"steps": [step]}, training_samples=Samples(samples), host=host)
        assert report.steps[0].details["steps"] == 2
        assert math.isfinite(report.steps[0].details["score_after"])
        again = load.load(save.save(model, tmp_path / "saved", host=host), host=host)
        # In a mapped file weights lie at odd addresses, where kernels may add in another order: the last digits.
        leave_file_(again.module)
        assert save.probe(again).equal(save.probe(model))

    def _training_samples(self, model: Model, count: int) -> tuple[Training, tuple[Sample, ...]]:
        training = model.architecture.training
        if training is None or self.calibration is None:
            pytest.skip("the family states no training, or its test names no calibration samples")
        return training, tuple(read_samples(self.calibration))[:count]

    def test_smoothing_keeps_the_function(self, host: Host, source: Path, facts: Architecture) -> None:
        """Check that scaling the family's scale pairs does not change the float model's outputs."""
        if not facts.layers.scale_pairs or self.calibration is None:
            pytest.skip("the family states nothing to scale, or its test names no calibration samples")
        model = load.load(source, host=host)
        samples = [facts.runner.probe(model), *read_samples(self.calibration)[:8]]
        expected = [_logits(model, sample) for sample in samples]
        report = compress.compress(model, {"steps": [{"step": "smooth"}]}, self.calibration, host=host)
        note = report.to_dict()["steps"][0]["notes"][-1]
        assert not note.startswith("the inputs of 0 layers")
        scaled = [_logits(model, sample) for sample in samples]
        unchanged = [logits.equal(before) for logits, before in zip(scaled, expected, strict=True)]
        assert not all(unchanged), "nothing was scaled"
        # The median: where a model decides (a token more or less), the last bits of a float decide for a sample or two.
        assert statistics.median(map(_distance, scaled, expected)) < 1e-3

    def test_stays_close_to_the_float_model(self, host: Host, source: Path, compressed: Path) -> None:
        """Check that the compressed model's outputs are near the float model's, but not the same."""
        expected = save.probe(load.load(source, host=host))
        logits = save.probe(load.load(compressed, host=host))
        assert logits.shape == expected.shape
        error = (logits - expected).pow(2).mean().sqrt() / expected.std()
        assert 0 < error < self.largest_error

    def test_loaded_model_saves_again_unchanged(
        self, host: Host, source: Path, compressed: Path, tmp_path: Path
    ) -> None:
        """Check that a float and a compressed model can be saved again, with the same outputs."""
        for name, directory in (("float", source), ("compressed", compressed)):
            model = load.load(directory, host=host)
            again = save.save(model, tmp_path / name, host=host)
            assert save.probe(load.load(again, host=host)).equal(save.probe(model))

    def test_compressing_twice_is_an_error(self, host: Host, compressed: Path) -> None:
        """Check that a compressed model, which has no float targets, is refused."""
        with pytest.raises(CoverageError):
            compress.compress(load.load(compressed, host=host), self.recipe, host=host)

    def test_damaged_weights_are_refused(self, host: Host, source: Path, compressed: Path, tmp_path: Path) -> None:
        """Check that truncated weights, missing weights and a flipped bit are one-line errors."""
        for number, directory in enumerate((source, compressed)):
            for damage in (_truncate, _remove, _flip):
                if damage is _flip and directory is source:
                    continue  # only files that Sottovoce wrote have digests
                copy = tmp_path / f"{damage.__name__}{number}"
                shutil.copytree(directory, copy)
                damage(next(path for path in sorted(copy.iterdir()) if path.suffix in _WEIGHTS))
                with pytest.raises(SourceError) as caught:
                    load.load(copy, host=host)
                assert "\n" not in str(caught.value)

    def test_existing_output_is_refused_and_source_unchanged(self, host: Host, source: Path) -> None:
        """Check that save refuses an existing directory, and that no verb changes the source."""
        before = digests(source)
        model = load.load(source, host=host)
        with pytest.raises(UsageError):
            save.save(model, source, host=host)
        compress.compress(model, self.recipe, host=host)
        assert digests(source) == before
        assert sorted(path.name for path in source.parent.iterdir()) == ["model"]

    def test_evaluates(self, host: Host, source: Path, compressed: Path) -> None:
        """Check that the metrics of a compressed model have values, and are compared with the baseline's."""
        model = load.load(source, host=host)
        probe = model.architecture.runner.probe(model)
        report = evaluate.evaluate(compressed, Samples((probe,)), source, host=host)
        size = report.metrics["size_bytes"]
        assert size.value is not None
        assert size.baseline is not None
        assert size.value < size.baseline
        assert report.metrics["latency_ms"].value


def _logits(model: Model, sample: Sample) -> Tensor:
    import torch

    with torch.inference_mode():
        return model.architecture.runner.forward(model, sample)


def _distance(logits: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest value; infinity for different shapes."""
    if logits.shape != expected.shape:
        return math.inf
    return float((logits - expected).abs().max() / expected.abs().max())


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _remove(path: Path) -> None:
    path.unlink()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
