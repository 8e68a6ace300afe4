"""The work of a search: measure, solve, try, repair."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sottovoce.calibration.calibration import check_samples
from sottovoce.entrypoints.accuracy_gate import Gate
from sottovoce.entrypoints.compress import compress, work_key
from sottovoce.entrypoints.pruned_parts import PrunedParts
from sottovoce.entrypoints.search_trials import Trials, Tried
from sottovoce.errors import UsageError
from sottovoce.model import Model
from sottovoce.plugins.host import Host
from sottovoce.quantization.plan import tables_setting
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.recipe import Recipe
from sottovoce.recipe.scheme import WIDTHS
from sottovoce.recipe_search.analysis import Analysis
from sottovoce.recipe_search.bounds import check_latency, check_size
from sottovoce.recipe_search.budget import Budget
from sottovoce.recipe_search.cache import Cache
from sottovoce.recipe_search.casting import CAST, cast_of
from sottovoce.recipe_search.choices import CHOICES, FOUR_BITS, USUAL, choices_of
from sottovoce.recipe_search.front import alike, front, uniform
from sottovoce.recipe_search.latency import Latencies, measure_latencies, seconds_of
from sottovoce.recipe_search.measurement import Effort
from sottovoce.recipe_search.mix import Mix, Space, Table
from sottovoce.recipe_search.recipe import STEP, to_recipe
from sottovoce.recipe_search.removal import renumbered, renumbered_units
from sottovoce.recipe_search.result import SearchResult
from sottovoce.recipe_search.sensitivity import Sensitivity
from sottovoce.recipe_search.solver import Problem, smallest, solve
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.recipe_search.structures import QUANTIZE, REMOVED, steps_of
from sottovoce.recipe_search.trial import KeptTrial, Trial
from sottovoce.recipe_search.units import layers_of, selected, units_of
from sottovoce.runtime.layers import is_quantized
from sottovoce.samples import Sample, Samples
from sottovoce.system.progress import Progress

_EMBEDDINGS = "auto"
_SLOWER = 1.05
"""Measured time as a multiple of the budget from which a note says so: what is below is noise."""


class RecipeSearch:
    """One search: a model, samples, a budget, and the steps that a recipe may have."""

    def __init__(
        self,
        model: Model,
        samples: Samples,
        budget: Budget,
        steps: Mapping[str, Sequence[str]],
        host: Host,
        progress: Progress,
        held_out: Samples | None = None,
    ) -> None:
        """Check model and samples; nothing runs yet.

        Raises:
            UsageError: The model is compressed already, or its blocks are on disk; or the same samples are held out.
            SamplesError: The samples cannot be calibrated on.
        """
        _require_float(model)
        if held_out is not None and held_out.identity == samples.identity:
            raise UsageError("the held-out samples are those that are calibrated on: give others, or leave them out")
        self._notes = list(check_samples(samples, model.architecture))
        self._model, self._samples, self._budget = model, samples, budget
        self._held_out = held_out
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

        Raises:
            UsageError: The budget cannot be met, or the model meets it as it is.
            RecipeError: A limit names no metric.
            GateError: A limit does not hold.
        """
        self._least = self._check_size()
        gate = self._open_gate(limits)
        cache = Cache(directory, self._key())
        known = cache.read()
        trial = self._trial(known, cache)
        table = self._measure(known, cache, trial)
        with self._timed("solving"):
            problem = self._space.problem(table)
            mix = self._solve(problem)
        with self._timed("trial"):
            tried, expected = self._try(mix, problem, trial)
        measured = self._measured_share(tried)
        if measured is not None and (tighter := self._tighter(measured)) is not None:
            with self._timed("trial of a faster mix"):
                tried, expected, measured = self._try_faster(tighter, problem, trial, (tried, expected, measured))
        self._note_trial(tried, mix)
        self._note_time(tried.mix, measured)
        with self._timed("other sizes"):
            same = uniform(self._space, problem, expected)
            largest = max((point.size_bytes for point in same), default=self._before)
            points = front(problem, expected, largest, self._before)
        mix, outcome, recipe = tried.mix, tried.outcome, self._recipe(tried.mix)
        return SearchResult(
            recipe=recipe,
            model=self._model.source.name,
            size_bytes={"before": self._before, "after": outcome.size_bytes, "least": self._least},
            divergence=outcome.divergence,
            interval=outcome.interval,
            predicted=problem.cost(mix.numbers),
            latency=self._latency(mix, measured),
            choices=mix.names,
            sensitivity=_forms(table, self._space),
            front=points,
            uniform=same,
            limits=self._hold(gate, recipe),
            seconds=self._seconds,
            notes=self._notes,
        )

    def _check_size(self) -> int:
        """Return the least size that can be chosen, if the budget is not below."""
        sizes = self._space.problem(None)
        least = sizes.size_bytes(smallest(sizes))
        check_size(self._budget, self._before, least)
        return least

    def _measure(self, known: Sensitivity, cache: Cache, trial: KeptTrial) -> Table:
        """Measure what an earlier search has not; the space then knows the divergences of its states, and times."""
        if self._budget.latency_share is not None:
            with self._timed("latency"):  # first: a time that cannot be reached is known before all else is measured
                self._space = replace(self._space, latencies=self._latencies())
            self._check_latency()
        space = self._space
        with self._timed("sensitivity"):
            analysis = Analysis(self._model, space.units, space.layers, self._samples, self._step, self._progress)
            analysis.run(known, cache.keep)
        if self._parts.steps:
            with self._timed("pruned parts"):
                groups, notes = self._parts.measured(space.groups, trial, self._progress)
                self._space = replace(self._space, groups=groups)
                self._notes.extend(notes)
            self._least = self._check_size()
            self._check_latency()
        return known.table(space.units, space.layers)

    def _check_latency(self) -> None:
        if self._space.latencies is not None:
            check_latency(self._budget, self._space.problem(None), self._space.latencies.total_seconds)

    def _latencies(self) -> Latencies:
        space = self._space
        removable = [state.part for states in space.groups.values() for state in states if state.name == REMOVED]
        shapes = list(space.shapes())
        return measure_latencies(
            self._model, self._typical, space.layers, shapes, space.strategy, removable, self._progress
        )

    @property
    def _typical(self) -> Sample:
        return sorted(self._samples, key=lambda sample: sample.seconds)[len(self._samples) // 2]

    def _measured_share(self, tried: Tried) -> float | None:
        """Return the time of a compressed copy as a share of the float model's, which it runs beside."""
        if self._space.latencies is None:
            return None
        with self._timed("latency of the recipe"):
            small = self._compressed(self._recipe(tried.mix), self._samples)
            times = seconds_of({"before": self._model, "after": small}, self._typical)
        return times["after"] / times["before"]

    def _tighter(self, measured: float) -> float | None:
        """Return the share of time to solve for again, if what was measured is above the budget."""
        budget = self._budget.latency_share
        return budget * budget / measured if budget is not None and measured > budget * _SLOWER else None

    def _try_faster(
        self, share: float, problem: Problem, trial: KeptTrial, first: tuple[Tried, Problem, float]
    ) -> tuple[Tried, Problem, float]:
        """Return the best mix within a share of the time, its problem and its measured share; ``first`` if none is."""
        mix = self._solved(problem, None, share)
        if mix is None or mix.names == first[0].mix.names:
            return first
        tried, expected = self._try(mix, problem, trial, share)
        measured = self._measured_share(tried)
        return (tried, expected, measured) if measured is not None and measured < first[2] else first

    def _note_time(self, mix: Mix, measured: float | None) -> None:
        latencies = self._space.latencies
        if latencies is not None and measured is not None and self._tighter(measured) is not None:
            self._notes.append(
                f"the recipe takes x{measured:.3f} of the model's time when it runs, and x"
                f"{mix.seconds / latencies.total_seconds:.3f} by the table of layers"
            )

    def _latency(self, mix: Mix, measured: float | None) -> dict[str, float] | None:
        """Return the seconds before and after by the table, and those measured."""
        latencies = self._space.latencies
        if latencies is None or measured is None:
            return None
        before = latencies.total_seconds
        return {"before": before, "after": mix.seconds, "measured": measured * before}

    def _whole_space(self) -> Space:
        embeddings = tables_setting(self._model, self._model.architecture, self._step)
        layers = layers_of(selected(self._model, embeddings), self._model.architecture)
        self._cast = cast_of(self._model.module) if CAST in self._steps else None
        narrow = None if self._cast is None else getattr(torch, self._cast.dtype)
        self._parts = PrunedParts(self._model, self._steps, embeddings, self._host, narrow)
        groups = self._parts.states(layers)

        def space(widths: Sequence[int]) -> Space:
            return Space.of(self._model, units_of(self._model, layers, choices_of(widths)), layers, groups, narrow)

        if QUANTIZE not in self._steps:
            return space(())
        if named := self._steps[QUANTIZE]:
            return space(list(map(int, named)))
        usual, limit = space(USUAL), self._budget.bytes_of(self._before)
        sizes = usual.problem(None)
        asks_for_fewer = limit is not None and limit < sizes.size_bytes(alike(usual, sizes, FOUR_BITS))
        # Every width costs a measurement of every layer, and 2 or 3 bits lose much: only where 4 hardly do.
        return space(WIDTHS) if asks_for_fewer else usual

    def _trial(self, known: Sensitivity, cache: Cache) -> KeptTrial:
        others = self._held_out
        # What is fitted when a part is pruned errs more on other samples than what is rounded: it is measured on all.
        swaps = bool(self._space.groups)
        trial = Trial(self._model, self._samples, others, self._compressed, swaps=swaps)
        identity = others.identity if others is not None else "both halves" if swaps else "one half"
        return KeptTrial(trial, identity, known, cache.keep)

    def _try(
        self, mix: Mix, problem: Problem, trial: KeptTrial, latency_share: float | None = None
    ) -> tuple[Tried, Problem]:
        """Try a mix, and those that follow from it within the same share of the time."""
        trials = Trials(trial, self._recipe, partial(self._solved, latency_share=latency_share))
        limit = self._budget.bytes_of(self._before) or self._before
        return trials.run(self._space, problem, mix, limit)

    def _note_trial(self, tried: Tried, mix: Mix) -> None:
        self._notes.extend(note for note in tried.outcome.notes if note not in self._notes)
        if tried.mix.names != mix.names:
            self._notes.append("the first mix was not as predicted when it was tried: this is another")
        if not tried.outcome.is_held_out:
            self._notes.append(
                "the samples are too few to calibrate on half of them: the divergence is of samples that the weights "
                "were rounded on; give others with held_out (--held-out)"
            )

    def _solve(self, problem: Problem) -> Mix:
        mix = self._solved(problem, None)
        if mix is None:
            raise UsageError(
                "no mix of choices meets size and time together: allow more of one, or more steps (--steps)"
            )
        return mix

    def _solved(self, problem: Problem, size_bytes: int | None, latency_share: float | None = None) -> Mix | None:
        latencies, share = self._space.latencies, latency_share or self._budget.latency_share
        seconds = share * latencies.total_seconds if latencies is not None and share is not None else None
        limit = self._budget.bytes_of(self._before) if size_bytes is None else size_bytes
        numbers = solve(problem, limit, seconds)
        return None if numbers is None else Mix.of(self._space, problem, numbers)

    def _recipe(self, mix: Mix) -> Recipe:
        steps = steps_of(mix.states.values(), self._model.architecture)
        removed = [state.part for state in mix.states.values() if state.name == REMOVED]
        units, layers = renumbered_units(self._space.units, mix.layers, removed)
        choices = {renumbered(name, removed): choice for name, choice in mix.choices.items()}
        return to_recipe(units, layers, choices, _EMBEDDINGS, steps, self._cast)

    def _compressed(self, recipe: Recipe, samples: Samples) -> Model:
        model = copy.deepcopy(self._model)
        with _quiet():
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
        effort = asdict(Effort.of(self._space.choices))
        settings = {"step": self._step.to_dict(), "choices": [choice.name for choice in CHOICES], "effort": effort}
        return work_key(self._model, settings, self._samples)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[what] = round(time.perf_counter() - begin, 3)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the messages of a trial; they stand in the result."""
    logger = logging.getLogger("sottovoce")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _forms(table: Table, space: Space) -> dict[str, dict[str, Any]]:
    forms = {unit: {name: entry.to_dict() for name, entry in row.items()} for unit, row in table.items()}
    return forms | {
        group: {state.name: state.divergence.to_dict() for state in states} for group, states in space.groups.items()
    }


def _require_float(model: Model) -> None:
    if model.report is not None or model.settings or (model.stream is None and is_quantized(model.module)):
        raise UsageError(f"{model.source.name}: is compressed already; search from the float model")
    if model.stream is not None:
        raise UsageError(f"{model.source.name}: a search runs the model, whose weights must be in memory: allow more")
