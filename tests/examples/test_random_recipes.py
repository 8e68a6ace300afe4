"""Whatever a recipe says, what is saved is what is in memory: random recipes on the bundled models."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sottovoce
from sottovoce import Samples, read_samples
from sottovoce.entrypoints.save import probe
from sottovoce.errors import CoverageError, GateError

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS = Samples(tuple(read_samples(EXAMPLES / "data/mandarin-commands/calibration.jsonl"))[:8])
TASKS = Samples(tuple(read_samples(EXAMPLES / "data/omni-tasks/calibration.jsonl"))[::7])

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own

INT8 = st.fixed_dictionaries(
    {"step": st.just("quantize"), "min_coverage": st.just(0)},
    optional={
        "activations": st.sampled_from(["none", "dynamic", "static"]),
        "method": st.sampled_from(["round_to_nearest", "squant", "hqq", "gptq"]),
        "weight_range": st.sampled_from(["minmax", "mse"]),
        "embeddings": st.sampled_from(["int8", "keep"]),
    },
)
INT4 = st.fixed_dictionaries(
    {"step": st.just("quantize"), "min_coverage": st.just(0), "bits": st.sampled_from([2, 3, 4])},
    optional={
        "group_size": st.just("auto"),
        "method": st.sampled_from(["round_to_nearest", "squant", "hqq", "gptq", "awq"]),
        "symmetric": st.booleans(),
        "embeddings": st.sampled_from(["int8", "keep"]),
    },
)
FLOAT8 = st.just({"step": "quantize", "type": "float", "min_coverage": 0})
SMOOTH = st.just({"step": "smooth"})
QUANTIZE = st.one_of(INT8, INT4, FLOAT8)
SPEECH = st.one_of(
    SMOOTH.map(lambda step: [step]),
    QUANTIZE.map(lambda step: [step]),
    st.tuples(SMOOTH, QUANTIZE).map(list),
)
PRUNE = st.fixed_dictionaries({"step": st.just("prune_experts"), "keep": st.sampled_from([0.5, 0.75, 12])})
SKIP = st.fixed_dictionaries({"step": st.just("skip_experts"), "threshold": st.sampled_from([0.1, 0.5])})
MIXTURE = st.one_of(
    SKIP.map(lambda step: [step]),
    PRUNE.map(lambda step: [step]),
    st.tuples(PRUNE, QUANTIZE).map(list),
    st.tuples(PRUNE, SKIP, QUANTIZE).map(list),
)


def check(name: str, recipe: dict[str, Any], samples: Samples) -> None:
    model = sottovoce.load(EXAMPLES / "models" / name)
    try:
        sottovoce.compress(model, recipe, samples)
    except (CoverageError, GateError):
        return  # a recipe may be one that changes nothing, which is refused
    with TemporaryDirectory() as folder:
        saved = sottovoce.save(model, Path(folder) / "saved")  # raises ReloadError where outputs differ
        again = sottovoce.load(saved)
        assert probe(again).equal(probe(model))
        assert again.size_bytes == model.size_bytes


def examples(count: int) -> settings:
    return settings(
        max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


MANY = pytest.param(20, marks=pytest.mark.slow)


@pytest.mark.parametrize("count", [3, MANY])
@pytest.mark.parametrize("name", ["tiny-aligner", "tiny-paraformer"])
def test_a_random_recipe_reloads_exactly(name: str, count: int) -> None:
    @examples(count)
    @given(steps=SPEECH)
    def reloads(steps: list[dict[str, Any]]) -> None:
        check(name, {"steps": steps}, COMMANDS)

    reloads()


@pytest.mark.parametrize("count", [2, MANY])
def test_a_random_recipe_of_a_mixture_reloads_exactly(count: int) -> None:
    @examples(count)
    @given(steps=MIXTURE)
    def reloads(steps: list[dict[str, Any]]) -> None:
        check("tiny-omni", {"steps": steps}, TASKS)

    reloads()


@pytest.mark.parametrize("name", ["tiny-aligner", "tiny-paraformer"])
@pytest.mark.parametrize("limit", [{"max_latency_ms": 1e9}, {"min_token_agreement": 0}, {"min_boundary_agreement": 0}])
def test_a_recipe_that_quantizes_nothing_reloads_exactly(name: str, limit: dict[str, float]) -> None:
    if ("boundary" in str(limit)) != (name == "tiny-aligner") and "latency" not in str(limit):
        pytest.skip("not a metric of this family")
    check(name, {"steps": [{"step": "smooth"}], "gate": limit}, COMMANDS)


def test_a_gate_that_makes_every_layer_float_again_reloads_exactly() -> None:
    recipe = {
        "steps": [{"step": "quantize", "bits": 4, "method": "round_to_nearest", "embeddings": "keep"}],
        "gate": {"min_boundary_agreement": 100, "max_boundary_shift_max_ms": 0},
    }
    model = sottovoce.load(EXAMPLES / "models" / "tiny-aligner")
    report = sottovoce.compress(model, recipe, gate_samples=COMMANDS)
    assert report.gate is not None
    with TemporaryDirectory() as folder:
        saved = sottovoce.save(model, Path(folder) / "saved")
        assert probe(sottovoce.load(saved)).equal(probe(model))
