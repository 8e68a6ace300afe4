"""The presets keep what they promise on the bundled models, each measured on the bundled test set."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from sottovoce import CompressionReport, EvaluationReport, Model, Samples, read_samples
from sottovoce.runtime.backends import int8_engine

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


class Measured:
    """A bundled model under the presets that are asked for: what was done, and what it is against the model before."""

    def __init__(self, name: str) -> None:
        # Every second utterance: half of the time, and hardly less to be seen.
        self._test = Samples(tuple(read_samples(DATA / "test.jsonl"))[::2])
        self._source = EXAMPLES / "models" / name
        self._baseline: Model = sottovoce.load(self._source)
        self._measured: dict[str, tuple[CompressionReport, EvaluationReport]] = {}

    @functools.cache  # noqa: B019  # as long as the module's fixture
    def bfloat16(self) -> EvaluationReport:
        """What plain rounding to bfloat16 costs in the same run: the yardstick of what depends on the CPU."""
        return sottovoce.evaluate(sottovoce.load(self._source, dtype="bfloat16"), self._test, self._baseline)

    def under(self, preset: str) -> tuple[CompressionReport, EvaluationReport]:
        """Compress the model and measure it, once."""
        if preset not in self._measured:
            with engine(other_engine() if preset == OTHER_ENGINE else None):
                model = sottovoce.load(self._source)
                samples = read_samples(DATA / "calibration.jsonl") if preset in ("int8-gptq", "int4") else None
                compression = sottovoce.compress(model, "int8" if preset == OTHER_ENGINE else preset, samples)
                self._measured[preset] = compression, sottovoce.evaluate(model, self._test, self._baseline)
        return self._measured[preset]

    def metric(self, preset: str, name: str) -> Any:
        return self.under(preset)[1].metrics[name]

    def errors(self, preset: str) -> tuple[float, float]:
        """The layers' output errors, summed: as they are, and had they been rounded to nearest."""
        (step,) = self.under(preset)[0].to_dict()["steps"]
        targets = [target for target in step["targets"] if "output_error" in target]
        assert len(targets) > len(step["targets"]) / 2
        return tuple(sum(target[key] for target in targets) for key in ("output_error", "rounded_output_error"))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def paraformer() -> Measured:
    return Measured("tiny-paraformer")


@pytest.fixture(scope="module")
def aligner() -> Measured:
    return Measured("tiny-aligner")


@pytest.fixture(params=["tiny-paraformer", "tiny-aligner"])
def measured(request: pytest.FixtureRequest) -> Measured:
    found: Measured = request.getfixturevalue("paraformer" if request.param == "tiny-paraformer" else "aligner")
    return found


@pytest.mark.parametrize(
    ("preset", "points"),
    [
        ("int8", 0.5),
        pytest.param("int8-gptq", 0.5, marks=pytest.mark.slow),
        pytest.param("int4", 1.0, marks=pytest.mark.slow),
        (OTHER_ENGINE, 0.5),
    ],
)
def test_the_recognizer_hears_as_well_as_before(preset: str, points: float, paraformer: Measured) -> None:
    cer = paraformer.metric(preset, "cer")
    assert cer.value <= cer.baseline + points


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "points"), [("int8", 0.3), ("int8-gptq", 0.5), ("int4", 3.0), (OTHER_ENGINE, 0.3)])
def test_the_aligner_moves_hardly_more_boundaries_than_bfloat16_does(
    preset: str, points: float, aligner: Measured
) -> None:
    yardstick = aligner.bfloat16().metrics["boundary_agreement"].value
    assert aligner.metric(preset, "boundary_agreement").value >= yardstick - points
    assert aligner.metric(preset, "boundary_shift_max_ms").value <= 500


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["int8-gptq", "int4"])
def test_gptq_errs_less_than_rounding_to_nearest(preset: str, measured: Measured) -> None:
    error, rounded = measured.errors(preset)
    assert 0 < error < rounded


@pytest.mark.slow
def test_fewer_bits_are_fewer_bytes(measured: Measured) -> None:
    sizes = {preset: measured.metric(preset, "size_bytes").value for preset in PRESETS}
    assert sizes["int4"] < sizes["int8"] < measured.metric("int8", "size_bytes").baseline
    for preset in PRESETS:
        assert measured.under(preset)[0].size_bytes["after"] == sizes[preset]
