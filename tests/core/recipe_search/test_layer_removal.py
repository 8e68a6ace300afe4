"""A search that may remove layers: those that add little go, and the recipe does what was promised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.pruning.layered import HOST, SAMPLES, make_model
from core.toy import ToyPlugin, make_host
from core.toy import make_model as make_toy
from sottovoce import Model
from sottovoce.calibration.reference import Reference
from sottovoce.errors import UsageError
from sottovoce.recipe_search import latency, plots
from sottovoce.recipe_search.choices import FLOAT
from sottovoce.recipe_search.removal import renumbered
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.recipe_search.trial import Trial
from sottovoce.recipe_search.units import layers_of, selected

STEPS = ("quantize", "prune_layers")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("net") / "net")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measurements that searches of the same model share."""
    return tmp_path_factory.mktemp("known")


@pytest.fixture
def model(source: Path) -> Model:
    return sottovoce.load(source, host=HOST)


def search(model: Model, budget: Any, *steps: str, **options: Any) -> sottovoce.SearchResult:
    return sottovoce.search(model, SAMPLES, budget, steps=steps or STEPS, host=HOST, **options)


def compressed(source: Path, recipe: Any) -> Model:
    small = sottovoce.load(source, host=HOST)
    sottovoce.compress(small, recipe, SAMPLES, host=HOST)
    return small


def test_layers_that_add_next_to_nothing_are_removed_and_the_size_is_as_promised(
    source: Path, model: Model, known: Path
) -> None:
    least = search(model, "x0.9", "quantize").size_bytes["least"]
    limit = least - 1000
    result = search(model, limit, cache=known)
    steps = result.recipe.to_dict()["steps"]
    assert steps[0]["step"] == "prune_layers"
    assert set(steps[0]["layers"]) <= {"encoder.layers.1", "encoder.layers.4"}
    small = compressed(source, result.recipe)
    assert len(small.module.encoder.layers) == 6 - len(steps[0]["layers"])  # type: ignore[arg-type, union-attr]
    assert file_bytes(small) <= limit
    assert file_bytes(small) == pytest.approx(result.size_bytes["after"], rel=0.01)
    assert len(model.module.encoder.layers) == 6  # type: ignore[arg-type, union-attr]
    assert result.divergence["all"] == pytest.approx(Reference(model, list(SAMPLES)).divergence(small)["all"], rel=0.5)


def test_each_layer_gets_its_own_choice_once_those_before_it_are_removed(
    source: Path, model: Model, known: Path
) -> None:
    result = search(model, search(model, "x0.9", cache=known).size_bytes["least"] + 2500, cache=known)
    removed = {name.split()[1] for name, state in result.choices.items() if state == "removed"}
    assert removed
    small = compressed(source, result.recipe)
    for name, choice in result.choices.items():
        if "w_" not in name or name.rpartition(".")[0] in removed:
            continue
        layer = small.module.get_submodule(renumbered(name, removed))
        scheme = getattr(layer, "scheme", None)
        assert choice.partition("-")[0] == (f"int{scheme.bits}" if scheme else "float"), name
    assert len({choice for name, choice in result.choices.items() if "w_" in name}) > 1


def test_without_quantize_no_layer_is_rounded_and_the_pictures_are_of_the_parts(
    source: Path, model: Model, tmp_path: Path
) -> None:
    result = search(model, "x0.8", "prune_layers")
    assert [step["step"] for step in result.recipe.to_dict()["steps"]] == ["prune_layers"]
    assert set(result.choices.values()) <= {"float", "all", "removed"}
    small = compressed(source, result.recipe)
    assert file_bytes(small) == pytest.approx(result.size_bytes["after"], rel=0.01)
    assert file_bytes(small) <= 0.8 * file_bytes(model)
    for draw in (plots.heat_map, plots.front):
        draw(result, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_layers_that_a_family_keeps_and_other_parts_are_no_choice(model: Model, known: Path) -> None:
    names = [name for name in search(model, "x0.5", cache=known).choices if name.startswith("prune_layers")]
    assert names == [f"prune_layers encoder.layers.{number}" for number in range(5)]  # -1 is kept
    named = search(model, "x0.5", "quantize", "prune_layers=decoder").choices
    names = [name for name in named if name.startswith("prune_layers")]
    # The last of four is kept, and nothing before the first could absorb it.
    assert names == ["prune_layers decoder.layers.1", "prune_layers decoder.layers.2"]


def test_removals_are_measured_once_for_all_budgets(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("quantize=4,8", "prune_layers")
    first = search(model, "x0.3", *steps, cache=tmp_path)
    runs: list[Any] = []
    run = Trial.run
    monkeypatch.setattr(Trial, "run", lambda self, recipe: (runs.append(recipe), run(self, recipe))[1])
    second = search(model, "x0.4", *steps, cache=tmp_path)
    assert all("quantize" in [step.name for step in recipe.steps] for recipe in runs)
    assert len(runs) <= 5
    assert second.sensitivity == first.sensitivity
    assert second.predicted < first.predicted


def test_a_budget_of_time_removes_layers_with_all_that_is_in_them(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A layer takes 0.1 of the time, of which its two linear layers take half; rounding makes nothing faster.
    monkeypatch.setattr(
        latency, "_take_turns", lambda calls, *_: {name: 1.0 if name == "" else 0.025 for name in calls}
    )
    monkeypatch.setattr(latency, "_module_seconds", lambda _, __, names: dict.fromkeys(names, 0.1))
    result = search(model, "latency=x0.8")
    removed = {name.split()[1] for name, state in result.choices.items() if state == "removed"}
    assert removed == {"encoder.layers.1", "encoder.layers.4"}
    assert result.latency is not None
    assert result.latency["after"] == pytest.approx(0.8)
    with pytest.raises(UsageError, match=r"below the least time that the choices reach here, x0\.500"):
        search(model, "latency=x0.4")


def test_times_of_layers_that_may_be_removed_are_measured(model: Model) -> None:
    layers = layers_of(selected(model, None), model.architecture)
    names = ["encoder.layers.0", "encoder.layers.1"]
    shapes = [(layer, FLOAT) for layer in layers.values()]
    times = latency.measure_latencies(model, SAMPLES[0], layers, shapes, "token", names)
    assert set(times.others) == set(names)
    assert all(0 <= seconds < times.total_seconds for seconds in times.others.values())


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (("prune_layers=tail",), "layered has no part 'tail' that prune_layers could prune; it has: encoder, decoder"),
        (("prune_heads=encoder",), "layered has no part 'encoder' that prune_heads could prune; it has none"),
        (("prune_heads",), "layered has nothing that prune_heads could prune: leave the step out"),
        (("prune_layers=",), "'prune_layers=' names no part"),
        (
            ("quantize=encoder",),
            "quantize has no width of 'encoder': write quantize or, .* quantize=2,3,4,8",
        ),
        (("quantize=4,5",), "quantize has no width of '5'"),
        (("quantize=",), "quantize has no width of ''"),
    ],
)
def test_parts_that_cannot_be_pruned_are_one_line(steps: tuple[str, ...], message: str, model: Model) -> None:
    with pytest.raises(UsageError, match=message):
        search(model, "x0.5", *steps)


def test_a_family_without_layers_to_remove_is_one_line(tmp_path: Path) -> None:
    host = make_host(ToyPlugin(inputs=("text",)))
    toy = sottovoce.load(make_toy(tmp_path / "toy"), host=host)
    with pytest.raises(UsageError, match="toy has nothing that prune_layers could prune: leave the step out"):
        sottovoce.search(toy, SAMPLES, "x0.5", steps=STEPS, host=host)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.layers.0.w", "a.layers.0.w"),
        ("a.layers.2.w", "a.layers.1.w"),
        ("a.layers.10", "a.layers.8"),
        ("b.layers.1.w", "b.layers.0.w"),
        ("aa.layers.5.w", "aa.layers.5.w"),
        ("a.layers", "a.layers"),
        ("head", "head"),
    ],
)
def test_layers_after_a_removed_one_are_numbered_anew(name: str, expected: str) -> None:
    assert renumbered(name, {"a.layers.1", "a.layers.9", "b.layers.0"}) == expected
