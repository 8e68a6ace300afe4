"""The presets keep what they promise on the bundled models, each measured on the bundled test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from sottovoce import CompressionReport, EvaluationReport, Model, read_samples
from sottovoce.formats.int8_engine import engine

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "mandarin-commands"
PRESETS = ("int8", "int8-gptq", "int4")
INT8_PERCENT = 99 if engine() == "onednn" else 98.5
"""Where the CPU has no instructions for int8, PyTorch rounds the inputs otherwise, at times by 7 bits."""

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@dataclass
class Measured:
    """A bundled model under every preset: what was done, and what it is against the model as it was."""

    compression: dict[str, CompressionReport]
    evaluation: dict[str, EvaluationReport]

    @classmethod
    def of(cls, name: str) -> Measured:
        test = read_samples(DATA / "test.jsonl")
        calibration = read_samples(DATA / "calibration.jsonl")
        source = EXAMPLES / "models" / name
        baseline: Model = sottovoce.load(source)
        measured = cls({}, {})
        for preset in PRESETS:
            model = sottovoce.load(source)
            samples = None if preset == "int8" else calibration
            measured.compression[preset] = sottovoce.compress(model, preset, samples)
            measured.evaluation[preset] = sottovoce.evaluate(model, test, baseline)
        return measured

    def metric(self, preset: str, name: str) -> Any:
        return self.evaluation[preset].metrics[name]

    def errors(self, preset: str) -> tuple[float, float]:
        """The layers' output errors, summed: as they are, and had they been rounded to nearest."""
        (step,) = self.compression[preset].to_dict()["steps"]
        targets = [target for target in step["targets"] if "output_error" in target]
        assert len(targets) > len(step["targets"]) / 2
        return tuple(sum(target[key] for target in targets) for key in ("output_error", "rounded_output_error"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def paraformer() -> Measured:
    return Measured.of("tiny-paraformer")


@pytest.fixture(scope="module")
def aligner() -> Measured:
    return Measured.of("tiny-aligner")


@pytest.fixture(params=["tiny-paraformer", "tiny-aligner"])
def measured(request: pytest.FixtureRequest) -> Measured:
    found: Measured = request.getfixturevalue("paraformer" if request.param == "tiny-paraformer" else "aligner")
    return found


@pytest.mark.parametrize(("preset", "points"), [("int8", 0.1), ("int8-gptq", 0.1), ("int4", 0.5)])
def test_the_recognizer_hears_as_well_as_before(preset: str, points: float, paraformer: Measured) -> None:
    cer = paraformer.metric(preset, "cer")
    assert cer.value <= cer.baseline + points


@pytest.mark.parametrize(("preset", "percent"), [("int8", INT8_PERCENT), ("int8-gptq", 99), ("int4", 97)])
def test_the_aligner_finds_the_same_boundaries(preset: str, percent: float, aligner: Measured) -> None:
    assert aligner.metric(preset, "boundary_agreement").value >= percent
    assert aligner.metric(preset, "boundary_shift_max_ms").value <= 500


@pytest.mark.parametrize("preset", ["int8-gptq", "int4"])
def test_gptq_errs_less_than_rounding_to_nearest(preset: str, measured: Measured) -> None:
    error, rounded = measured.errors(preset)
    assert 0 < error < rounded


def test_fewer_bits_are_fewer_bytes(measured: Measured) -> None:
    sizes = {preset: measured.metric(preset, "size_bytes").value for preset in PRESETS}
    assert sizes["int4"] < sizes["int8"] < measured.metric("int8", "size_bytes").baseline
    for preset in PRESETS:
        assert measured.compression[preset].size_bytes["after"] == sizes[preset]
