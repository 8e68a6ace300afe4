"""Search on a toy: the model stays as it is, the promise holds, and what cannot be is refused."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core.toy import LETTERS, ToyPlugin, make_host, make_model
from sottovoce import Model, Sample, Samples
from sottovoce.calibration.reference import Reference
from sottovoce.errors import GateError, OutputError, RecipeError, UsageError
from sottovoce.recipe_search import latency
from sottovoce.recipe_search.measurement import Measurement
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.recipe_search.trial import Outcome, Trial


def samples(count: int, seed: int = 0) -> Samples:
    torch.manual_seed(seed)
    texts = ["".join(LETTERS[int(i)] for i in torch.randint(len(LETTERS), (24,))) for _ in range(count)]
    return Samples(tuple(Sample(key=f"{seed}-{number}", text=text) for number, text in enumerate(texts)))


HOST = make_host(ToyPlugin(inputs=("text",)))
FITTED, OTHERS = samples(24), samples(24, seed=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("search") / "toy", width=64, blocks=4)


@pytest.fixture
def model(source: Path) -> Model:
    return make(source)


def make(source: Path) -> Model:
    model = sottovoce.load(source, host=HOST)
    # The later blocks hardly change anything, so a search must store them in fewer bits.
    for number, block in enumerate(model.module.blocks):  # type: ignore[arg-type]
        block.weight.data.mul_(0.01 if number > 1 else 3)
    return model


def search(
    model: Model, budget: Any, *, steps: Sequence[str] = ("quantize",), **options: Any
) -> sottovoce.SearchResult:
    return sottovoce.search(model, FITTED, budget, steps=steps, host=HOST, **options)


def compressed(model: Model, recipe: Any) -> Model:
    small = copy.deepcopy(model)
    sottovoce.compress(small, recipe, FITTED, host=HOST)
    return small


def test_insensitive_layers_get_fewer_bits_and_the_model_is_left_as_it_was(model: Model) -> None:
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    result = search(model, 21_000)
    bits = {name: choice.partition("-")[0] for name, choice in result.choices.items() if name.startswith("blocks")}
    assert bits == {"blocks.0": "int8", "blocks.1": "int8", "blocks.2": "int4", "blocks.3": "int4"}
    after = model.module.state_dict()
    assert list(after) == list(before)
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def test_the_promises_hold_on_other_samples(model: Model) -> None:
    result = search(model, 16_500)
    small = compressed(model, result.recipe)
    assert result.size_bytes["after"] <= 16_500
    assert file_bytes(small) == pytest.approx(result.size_bytes["after"], rel=0.01)
    loss = Reference(model, OTHERS).divergence(small)["all"]
    assert result.divergence["all"] == pytest.approx(loss, rel=0.5)


def test_the_mix_loses_less_than_uniform_recipes_that_are_no_smaller(model: Model) -> None:
    reference = Reference(model, OTHERS)
    step = {"step": "quantize", "bits": 4, "method": "gptq", "weight_range": "mse", "embeddings": "auto"}
    other = compressed(model, {"steps": [step | {"group_size": 8}]})
    mix = compressed(model, search(model, file_bytes(other)).recipe)
    assert file_bytes(mix) <= file_bytes(other)
    assert reference.divergence(mix)["all"] < 0.7 * reference.divergence(other)["all"]


def test_the_front_falls_with_size_and_the_recipe_is_on_it(model: Model) -> None:
    result = search(model, 21_000)
    divergences = [point.divergence for point in result.front]
    assert len(divergences) >= 6
    assert divergences == sorted(divergences, reverse=True)
    better = [point for point in result.front if point.size_bytes <= 21_000 and point.divergence < result.predicted]
    assert not better


def test_what_stays_float_is_cast_which_leaves_more_bytes_for_weights(model: Model, tmp_path: Path) -> None:
    budget = 21_000
    plain, cast = search(model, budget), search(model, budget, steps=("quantize", "cast"))
    assert [step["step"] for step in cast.recipe.to_dict()["steps"]] == ["quantize", "cast"]
    assert cast.predicted < plain.predicted
    assert cast.size_bytes["least"] < plain.size_bytes["least"]
    small = compressed(model, cast.recipe)
    file = sottovoce.save(small, tmp_path / "small", host=HOST) / "model.safetensors"
    assert file.stat().st_size == file_bytes(small) <= budget
    assert file.stat().st_size == pytest.approx(cast.size_bytes["after"], rel=0.01)


def test_a_model_of_16_bits_has_nothing_to_cast(model: Model) -> None:
    model.module.to(torch.bfloat16)
    steps = search(model, "x0.9", steps=("quantize", "cast")).recipe.to_dict()["steps"]
    assert [step["step"] for step in steps] == ["quantize"]


def test_weights_beyond_float16_are_cast_to_bfloat16(model: Model) -> None:
    model.module.blocks[0].weight.data[0, 0] = 1e5  # type: ignore[index, union-attr]
    steps = search(model, "x0.9", steps=("cast", "quantize")).recipe.to_dict()["steps"]
    assert steps[-1]["step"] == "cast"
    assert steps[-1]["dtype"] == "bfloat16"


def test_a_recipe_that_was_written_is_read_again(model: Model, tmp_path: Path) -> None:
    result = search(model, 21_000)
    path = tmp_path / "recipe.yaml"
    path.write_text(result.recipe.to_yaml(), encoding="utf-8")
    assert sottovoce.Recipe.read(path).to_dict() == result.recipe.to_dict()


def test_a_second_budget_measures_nothing(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(model, 21_000, cache=tmp_path)
    monkeypatch.setattr(Measurement, "__init__", lambda *_: pytest.fail("measured again"))
    second = search(model, 24_000, cache=tmp_path)
    assert second.sensitivity == first.sensitivity
    assert second.predicted < first.predicted


def widths_of(result: sottovoce.SearchResult) -> set[str]:
    return {name.partition("-")[0] for row in result.sensitivity.values() for name in row}


def test_few_bits_are_a_choice_where_the_budget_is_below_4_bits_or_names_them(model: Model, tmp_path: Path) -> None:
    usual = search(model, 16_500, cache=tmp_path)
    assert widths_of(usual) == {"float", "int8", "int4"}
    four_bits = next(point.size_bytes for point in usual.uniform if point.name == "int4-g64")
    small = search(model, four_bits - 1, cache=tmp_path)
    assert widths_of(small) == {"float", "int8", "int4", "int3", "int2"}
    assert small.size_bytes["least"] < usual.size_bytes["least"]
    assert widths_of(search(model, 16_500, cache=tmp_path, steps=("quantize=3,8",))) == {"float", "int8", "int3"}
    with pytest.raises(UsageError, match="below the least size"):
        search(model, four_bits - 1500, steps=("quantize=4,8",))


def test_a_mix_of_few_bits_keeps_its_promise_and_loses_less_than_a_uniform_one(model: Model) -> None:
    step = {"step": "quantize", "bits": 3, "method": "gptq", "weight_range": "mse", "embeddings": "auto"}
    uniform = compressed(model, {"steps": [step]})
    result = search(model, file_bytes(uniform))
    small = compressed(model, result.recipe)
    assert {name for name in result.choices.values() if name.startswith(("int3", "int2"))}
    assert file_bytes(small) <= file_bytes(uniform)
    assert file_bytes(small) == pytest.approx(result.size_bytes["after"], rel=0.01)
    reference = Reference(model, OTHERS)
    assert reference.divergence(small)["all"] < 0.7 * reference.divergence(uniform)["all"]


def test_what_was_measured_for_other_widths_changes_no_result(model: Model, tmp_path: Path) -> None:
    alone = search(model, 14_500)
    search(model, 16_500, cache=tmp_path)
    search(model, 14_500, cache=tmp_path, steps=("quantize=2,8",))
    after = search(model, 14_500, cache=tmp_path)
    assert after.sensitivity == alone.sensitivity
    assert after.recipe.to_dict() == alone.recipe.to_dict()


class Counted:
    """Measurements as they are made; the search is interrupted before the one of a number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int | None = None) -> None:
        self.first, self.thorough, self.trials = 0, 0, 0
        self._last = last
        for owner, name, counted in (
            (Measurement, "first", "first"),
            (Measurement, "thorough", "thorough"),
            (Trial, "_run", "trials"),
        ):
            monkeypatch.setattr(owner, name, self._counter(getattr(owner, name), counted))

    @property
    def all(self) -> int:
        return self.first + self.thorough + self.trials

    def _counter(self, function: Any, name: str) -> Any:
        def count(*arguments: Any, **options: Any) -> Any:
            if self.all == self._last:
                raise KeyboardInterrupt
            setattr(self, name, getattr(self, name) + 1)
            return function(*arguments, **options)

        return count


@pytest.mark.parametrize("last", [0, 5, 8, 9, 10, 12])
def test_an_interrupted_search_measures_only_the_rest_and_finds_the_same(
    last: int, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        counted = Counted(patch)
        whole = search(model, 21_000)
    # Two choices of four layers and one of the table; a third of them again; one trial.
    assert (counted.first, counted.thorough, counted.trials) == (9, 3, 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Counted(patch, last)
        search(model, 21_000, cache=tmp_path)
    with monkeypatch.context() as patch:
        counted = Counted(patch)
        resumed = search(model, 21_000, cache=tmp_path)
        assert counted.all == 13 - last
        again = search(model, 21_000, cache=tmp_path)
        assert counted.all == 13 - last
    for result in (resumed, again):
        forms = [result.to_dict() for result in (result, whole)]
        assert all(form.pop("seconds") for form in forms)
        assert forms[0] == forms[1]


def test_a_killed_search_loses_one_measurement(
    model: Model, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""
import os, signal
from core.entrypoints.test_search import *
measure, done = Measurement.first, []
def first(self, layers):
    done.append(measure(self, layers))
    if len(done) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return done[-1]
Measurement.first = first
search(make(Path({str(source)!r})), 21_000, cache={str(tmp_path)!r})
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with monkeypatch.context() as patch:
        counted = Counted(patch)
        resumed = search(model, 21_000, cache=tmp_path)
    assert counted.first == 9 - 5
    assert resumed.recipe.to_dict() == search(model, 21_000).recipe.to_dict()


def test_measurements_that_cannot_be_kept_are_one_line(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: measurements could not be kept"):
        search(model, 21_000, cache=tmp_path / "file")


def test_the_mix_is_measured_on_the_samples_that_are_held_out(model: Model, tmp_path: Path) -> None:
    halves = search(model, 16_500, cache=tmp_path)
    result = search(model, 16_500, cache=tmp_path, held_out=OTHERS)
    small = compressed(model, result.recipe)
    assert result.divergence["all"] == pytest.approx(Reference(model, OTHERS).divergence(small)["all"], rel=1e-6)
    assert result.divergence != halves.divergence
    low, high = result.interval
    assert low < result.divergence["all"] < high
    with pytest.raises(UsageError, match="the held-out samples are those that are calibrated on"):
        search(model, 16_500, held_out=FITTED)


def test_other_sizes_are_expected_to_lose_what_their_trials_measure(model: Model, tmp_path: Path) -> None:
    first = search(model, 16_500, cache=tmp_path, held_out=OTHERS)
    other = search(model, 18_000, cache=tmp_path, held_out=OTHERS)
    ratio = first.divergence["all"] / first.predicted
    assert other.divergence["all"] == pytest.approx(ratio * other.predicted, rel=0.5)
    assert all(point.expected == pytest.approx(ratio * point.divergence) for point in first.front)


def test_other_samples_or_a_damaged_cache_are_measured_anew(model: Model, tmp_path: Path) -> None:
    first = search(model, 21_000, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text("{", encoding="utf-8")
    assert search(model, 21_000, cache=tmp_path).sensitivity == first.sensitivity
    sottovoce.search(model, OTHERS, 21_000, host=HOST, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_limit_that_holds_is_reported_and_one_that_does_not_is_refused(model: Model) -> None:
    result = search(model, 21_000, limits={"max_cer_increase": 100})
    assert set(result.limits) == {"max_cer_increase"}
    with pytest.raises(GateError, match="within the budget min_token_agreement is .*: allow a larger budget"):
        search(model, 21_000, limits={"min_token_agreement": 101})


def test_a_budget_of_time_takes_faster_choices(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"": 1.0, "float": 0.2, "int8": 0.05}  # of the whole model, and of a layer of any shape
    models = {"before": 2.0, "after": 1.8}
    times = seconds | models
    monkeypatch.setattr(latency, "_take_turns", lambda calls, *_: {name: times.get(name, 0.3) for name in calls})
    result = search(model, "latency=x0.8")
    assert result.latency == {"before": 1.0, "after": pytest.approx(0.7), "measured": pytest.approx(0.9)}
    assert "the recipe takes x0.900 of the model's time when it runs, and x0.700 by the table" in result.notes[-1]
    assert sorted(result.choices.values()) == ["float", "float", "float", "int8", "int8"]
    monkeypatch.setattr(Measurement, "__init__", lambda *_: pytest.fail("measured for nothing"))
    with pytest.raises(UsageError, match=r"latency=x0\.3 is below the least time that the choices reach here, x0\.400"):
        search(model, "latency=x0.3")


@pytest.mark.parametrize(
    ("budget", "measured", "choices", "table", "kept"),
    [
        pytest.param(0.71, (0.9, 0.78), 3, 0.55, 0.78, id="faster: x0.56 by the table is asked for"),
        pytest.param(0.71, (0.9, 0.6), 3, 0.55, 0.6, id="within the budget"),
        pytest.param(0.71, (0.9, 0.95), 2, 0.7, 0.9, id="no faster: the first is kept"),
        pytest.param(0.71, (0.73,), 2, 0.7, 0.73, id="within the noise: no second trial"),
        pytest.param(0.41, (0.9,), 4, 0.4, 0.9, id="no mix is faster by the table"),
    ],
)
def test_a_recipe_that_is_slower_than_by_the_table_is_solved_again_once(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    budget: float,
    measured: tuple[float, ...],
    choices: int,
    table: float,
    kept: float,
) -> None:
    seconds = {"": 1.0, "float": 0.2, "int8": 0.05}
    shares = list(measured)

    def take_turns(calls: dict[str, Any], *_: Any) -> dict[str, float]:
        if "before" in calls:
            return {"before": 2.0, "after": 2.0 * shares.pop(0)}
        return {name: seconds.get(name, 0.3) for name in calls}

    monkeypatch.setattr(latency, "_take_turns", take_turns)
    result = search(model, f"latency=x{budget}")
    assert shares == []
    assert list(result.choices.values()).count("int8") == choices
    assert result.latency == {"before": 1.0, "after": pytest.approx(table), "measured": pytest.approx(kept)}
    note = f"the recipe takes x{kept:.3f} of the model's time when it runs, and x{table:.3f} by the table"
    assert any(note in line for line in result.notes) == (kept > budget * 1.05)


def test_size_and_time_that_no_mix_meets_together_are_one_line(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"": 1.0, "float": 0.2, "int8": 0.05}
    monkeypatch.setattr(latency, "_take_turns", lambda calls, *_: {name: seconds.get(name, 0.3) for name in calls})
    with pytest.raises(UsageError, match="no mix of choices meets size and time together"):
        search(model, ["latency=x0.5", 15_600])


def test_a_mix_that_is_larger_than_predicted_is_repaired_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = search(model, 17_000).size_bytes["after"]
    sizes = iter([limit + 300, limit - 100])
    runs: list[Any] = []

    def tried(self: Trial, recipe: Any) -> Outcome:
        runs.append(recipe.to_dict())
        return Outcome(next(sizes), {"all": 1e-3})

    monkeypatch.setattr(Trial, "run", tried)
    result = search(model, limit)
    assert len(runs) == 2
    assert runs[0] != runs[1] == result.recipe.to_dict()
    assert result.size_bytes["after"] == limit - 100
    assert "this is another" in result.notes[-1]


@pytest.mark.parametrize(
    ("budget", "options", "kind", "message"),
    [
        ("1kB", {}, UsageError, r"below the least size, 1[0-9.]+ kB \(1[0-9,]+ bytes\)"),
        ("9MB", {}, UsageError, "is not below the model's size of .* nothing was written"),
        ("x1.0", {}, UsageError, "is not below the model's size"),
        ("much", {}, UsageError, "'much' is not a budget"),
        ("latency=x1", {}, UsageError, "is not below the model's own time"),
        (
            21_000,
            {"steps": ("quantize", "shrink")},
            UsageError,
            "'shrink' is not a step of a search; the steps are: quan",
        ),
        (21_000, {"steps": ("cast",)}, UsageError, "cast alone leaves nothing to choose"),
        (21_000, {"steps": ("cast=float16",)}, UsageError, "cast has no parts; write cast"),
        (21_000, {"steps": ()}, UsageError, "a search needs steps"),
        (21_000, {"steps": ("prune_width",)}, UsageError, "toy has nothing that prune_width could prune"),
        (21_000, {"limits": {"max_beauty": 1}}, RecipeError, "'max_beauty' names no metric of toy"),
    ],
)
def test_what_cannot_be_is_one_line(
    budget: Any, options: dict[str, Any], kind: type[Exception], message: str, model: Model
) -> None:
    with pytest.raises(kind, match=message):
        search(model, budget, **options)


def test_a_compressed_model_is_refused(model: Model) -> None:
    small = compressed(model, "int8")
    with pytest.raises(UsageError, match="is compressed already; search from the float model"):
        search(small, 20_000)
