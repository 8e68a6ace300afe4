"""The presets keep what they promise on the bundled models, each measured on the bundled test set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from sottovoce import CompressionReport, EvaluationReport, Model, Samples, read_samples
from sottovoce.formats import int8_engine

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data" / "mandarin-commands"
PRESETS = ("int8", "int8-gptq", "int4")
OTHER_ENGINE = "int8 by another engine"
"""``int8`` once more, by what a CPU with other instructions would run it."""

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@contextmanager
def engine(name: str | None) -> Iterator[None]:
    """Have int8 products run by one engine; ``None`` is this CPU's own choice."""
    before = os.environ.get(int8_engine.ENGINE_VARIABLE)
    if name is not None:
        os.environ[int8_engine.ENGINE_VARIABLE] = name
    yield
    os.environ.pop(int8_engine.ENGINE_VARIABLE, None)
    if before is not None:
        os.environ[int8_engine.ENGINE_VARIABLE] = before


def other_engine() -> str:
    working = [name for name, works in int8_engine._ENGINES.items() if works()]
    return next(name for name in working if name != int8_engine.engine())


@dataclass
class Measured:
    """A bundled model under every preset: what was done, and what it is against the model as it was."""

    compression: dict[str, CompressionReport]
    evaluation: dict[str, EvaluationReport]
    bfloat16: EvaluationReport | None
    """What plain rounding to bfloat16 costs in the same run: the yardstick of what depends on the CPU."""

    @classmethod
    def of(cls, name: str, *, yardstick: bool) -> Measured:
        # Every second utterance: half of the time, and hardly less to be seen.
        test = Samples(tuple(read_samples(DATA / "test.jsonl"))[::2])
        calibration = read_samples(DATA / "calibration.jsonl")
        source = EXAMPLES / "models" / name
        baseline: Model = sottovoce.load(source)
        measured = cls({}, {}, None)
        if yardstick:
            measured.bfloat16 = sottovoce.evaluate(sottovoce.load(source, dtype="bfloat16"), test, baseline)
        for preset in (*PRESETS, OTHER_ENGINE):
            with engine(other_engine() if preset == OTHER_ENGINE else None):
                model = sottovoce.load(source)
                samples = calibration if preset in ("int8-gptq", "int4") else None
                recipe = "int8" if preset == OTHER_ENGINE else preset
                measured.compression[preset] = sottovoce.compress(model, recipe, samples)
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
    return Measured.of("tiny-paraformer", yardstick=False)


@pytest.fixture(scope="module")
def aligner() -> Measured:
    return Measured.of("tiny-aligner", yardstick=True)


@pytest.fixture(params=["tiny-paraformer", pytest.param("tiny-aligner", marks=pytest.mark.slow)])
def measured(request: pytest.FixtureRequest) -> Measured:
    found: Measured = request.getfixturevalue("paraformer" if request.param == "tiny-paraformer" else "aligner")
    return found


@pytest.mark.parametrize(("preset", "points"), [("int8", 0.5), ("int8-gptq", 0.5), ("int4", 1.0), (OTHER_ENGINE, 0.5)])
def test_the_recognizer_hears_as_well_as_before(preset: str, points: float, paraformer: Measured) -> None:
    cer = paraformer.metric(preset, "cer")
    assert cer.value <= cer.baseline + points


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "points"), [("int8", 1.0), ("int8-gptq", 1.0), ("int4", 3.0), (OTHER_ENGINE, 1.0)])
def test_the_aligner_moves_hardly_more_boundaries_than_bfloat16_does(
    preset: str, points: float, aligner: Measured
) -> None:
    assert aligner.bfloat16 is not None
    yardstick = aligner.bfloat16.metrics["boundary_agreement"].value
    assert aligner.metric(preset, "boundary_agreement").value >= yardstick - points
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
