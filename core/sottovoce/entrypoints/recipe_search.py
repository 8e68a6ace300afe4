"""The work of a search: measure, solve, try, repair."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sottovoce.calibration.calibration import check_samples
from sottovoce.calibration.reference import ALL
from sottovoce.entrypoints.accuracy_gate import Gate
from sottovoce.entrypoints.compress import compress, work_key
from sottovoce.errors import UsageError
from sottovoce.model import Model
from sottovoce.plugins.host import Host
from sottovoce.quantization.plan import tables_setting
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.recipe import Recipe
from sottovoce.recipe_search.analysis import Analysis
from sottovoce.recipe_search.bounds import check_size
from sottovoce.recipe_search.budget import Budget
from sottovoce.recipe_search.cache import Cache
from sottovoce.recipe_search.front import front, uniform
from sottovoce.recipe_search.mix import Mix, Space, Table
from sottovoce.recipe_search.recipe import STEP, to_recipe
from sottovoce.recipe_search.result import SearchResult
from sottovoce.recipe_search.solver import Problem, smallest, solve
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.recipe_search.trial import Outcome, Trial
from sottovoce.recipe_search.units import layers_of, selected, units_of
from sottovoce.runtime.layers import is_quantized
from sottovoce.samples import Samples
from sottovoce.system.progress import Progress

_EMBEDDINGS = "auto"
_TRUSTED = 2.0
"""Ratio of measured to predicted divergence up to which a mix is taken as it is."""


class RecipeSearch:
    """One search: a model, samples, a budget, and the steps that a recipe may have."""

    def __init__(
        self, model: Model, samples: Samples, budget: Budget, steps: tuple[str, ...], host: Host, progress: Progress
    ) -> None:
        """Check model and samples; nothing runs yet.

        Raises:
            UsageError: The model is compressed already, or its blocks are on disk.
            SamplesError: The samples cannot be calibrated on.
        """
        _require_float(model)
        self._notes = list(check_samples(samples, model.architecture))
        self._model, self._samples, self._budget = model, samples, budget
        self._steps, self._host, self._progress = steps, host, progress
        self._before = file_bytes(model)
        self._seconds: dict[str, float] = {}
        step = Quantize.model_validate({key: value for key, value in STEP.items() if key != "step"})
        self._step = step.model_copy(update={"embeddings": _EMBEDDINGS})
        self._space = self._whole_space()

    def run(self, limits: Mapping[str, float], directory: Path | None) -> SearchResult:
        """Search.

        Args:
            limits: Bounds on metrics.
            directory: Directory for measurements; ``None`` keeps none.
        """
        sizes = self._space.problem(None)
        least = sizes.size_bytes(smallest(sizes))
        check_size(self._budget, self._before, least)
        gate = self._open_gate(limits)
        cache = Cache(directory, self._key())
        with self._timed("sensitivity"):
            known = cache.read()
            analysis = Analysis(
                self._model, self._space.units, self._space.layers, self._samples, self._step, self._progress
            )
            analysis.run(known, cache.keep)
        table = known.table(self._space.units, self._space.layers)
        with self._timed("solving"):
            problem = self._space.problem(table)
            mix = self._solve(problem)
            points = front(problem, self._before)
        with self._timed("trial"):
            trial = Trial(self._model, self._samples, self._compressed)
            recipe = self._recipe(mix)
            outcome = trial.run(recipe)
        return SearchResult(
            recipe=recipe,
            model=self._model.source.name,
            size_bytes={"before": self._before, "after": outcome.size_bytes, "least": least},
            divergence=outcome.divergence,
            predicted=mix.divergence,
            choices=mix.names,
            sensitivity={unit: {name: entry.to_dict() for name, entry in row.items()} for unit, row in table.items()},
            front=points,
            uniform=uniform(self._space, table),
            limits=self._hold(gate, recipe),
            seconds=self._seconds,
            notes=self._notes,
        )

    def _whole_space(self) -> Space:
        embeddings = tables_setting(self._model, self._model.architecture, self._step)
        layers = layers_of(selected(self._model, embeddings), self._model.architecture)
        return Space.of(self._model, units_of(self._model, layers), layers, {})

    def _solve(self, problem: Problem) -> Mix:
        numbers = solve(problem, self._budget.bytes_of(self._before))
        assert numbers is not None
        return Mix.of(self._space, problem, numbers)

    def _recipe(self, mix: Mix) -> Recipe:
        return to_recipe(self._space.units, mix.layers, mix.choices, _EMBEDDINGS)

    def _compressed(self, recipe: Recipe, samples: Samples) -> Model:
        model = copy.deepcopy(self._model)
        compress(model, recipe, samples, host=self._host)
        return model

    def _open_gate(self, limits: Mapping[str, float]) -> Gate | None:
        return Gate.open(limits, self._model, self._samples, self._host, self._progress) if limits else None

    def _hold(self, gate: Gate | None, recipe: Recipe) -> dict[str, float]:
        """Return the values of the limited metrics.

        Raises:
            GateError: One does not hold.
        """
        if gate is None:
            return {}
        try:
            return gate.require(self._compressed(recipe, self._samples))
        finally:
            gate.float_backup.close()

    def _key(self) -> str:
        """Return a digest of all that the measurements depend on."""
        settings = {"step": self._step.to_dict(), "embeddings": _EMBEDDINGS}
        return work_key(self._model, settings, self._samples)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[what] = round(time.perf_counter() - begin, 3)


def _require_float(model: Model) -> None:
    if model.report is not None or model.settings or (model.stream is None and is_quantized(model.module)):
        raise UsageError(f"{model.source.name}: is compressed already; search from the float model")
    if model.stream is not None:
        raise UsageError(f"{model.source.name}: a search runs the model, whose weights must be in memory: allow more")
