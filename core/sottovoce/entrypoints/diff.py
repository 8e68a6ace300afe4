"""Explanation of one sample: which layers, made float again, bring the baseline's output back."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sottovoce.checkpoint.model_card import fingerprint
from sottovoce.entrypoints.comparison.subjects import own_options
from sottovoce.entrypoints.comparison.utterances import Utterances
from sottovoce.entrypoints.comparison.variants import public_name
from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.measurement import metrics_of
from sottovoce.entrypoints.processes import require_one_process
from sottovoce.errors import MemoryLimitError, SamplesError, SottovoceError, UsageError
from sottovoce.metrics.headline import deciding
from sottovoce.model import Model
from sottovoce.plugins.host import Host, default_host
from sottovoce.report import Explanation, RestoredUnit
from sottovoce.samples import Prediction, Run, Sample, Samples, SamplesArgument, as_samples
from sottovoce.system.process_state import kept_random_state
from sottovoce.system.progress import Progress, shown

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.recipe_search.differences import Unit
    from sottovoce.recipe_search.probe import Probe

ASKED = 12
"""Units of which the output is asked, those that leave least divergence."""
TOGETHER = 64
"""Units that are put back together at most."""
_NAMES = ("baseline", "model")


@kept_random_state()
def diff(
    model: str | os.PathLike[str],
    baseline: str | os.PathLike[str],
    samples: SamplesArgument,
    key: str,
    *,
    by_block: bool = False,
    host: Host | None = None,
    progress: Progress | bool = False,
    **options: Any,
) -> Explanation:
    """Explain what compression changed for one sample.

    Each layer that differs is put back as it is in the baseline, alone. What is left of the divergence from the
    baseline's logits says how much the layer accounts for. Both models are in memory meanwhile.

    Args:
        model: The compressed model: a directory, an alias or a hub id.
        baseline: The model that it was compressed from.
        samples: Samples or their manifest.
        key: Key of the sample.
        by_block: If true, whole blocks are put back rather than layers.
        host: The plugins; by default the process's own.
        progress: True for a display on standard error; or a function, called after every layer.
        **options: As for :func:`load`; ``weights`` are the baseline's.

    Raises:
        SamplesError: There is no such sample, or the baseline has no output for it.
        UsageError: The models are of different families, or are the same.
        MemoryLimitError: A model does not fit in memory.
    """
    require_one_process("an explanation")
    host = host or default_host()
    sample = _find(as_samples(samples), key)
    before = _load(baseline, options, host)
    after = _load(model, own_options(options), host)
    if before.architecture.name != after.architecture.name:
        raise UsageError(
            f"{model} is a {after.architecture.name}, {baseline} a {before.architecture.name}; "
            "give the model that was compressed"
        )
    with shown(progress) as progress:
        return _Explanation(before, after, sample, host, progress).run(by_block)


def _find(samples: Samples, key: str) -> Sample:
    if not isinstance(key, str):
        raise UsageError(f"key: give the key of a sample, not {type(key).__name__}")
    for sample in samples:
        if sample.key == key:
            if sample.too_short:
                raise SamplesError(f"sample {key!r}: is shorter than one frame, so no model is run on it")
            return sample
    close = difflib.get_close_matches(key, [sample.key for sample in samples], n=1, cutoff=0.0)
    nearest = f"; the nearest is {close[0]!r}" if close else ""
    raise SamplesError(f"{samples.path or 'the samples'}: no sample has the key {key!r}{nearest}")


def _load(name: str | os.PathLike[str], options: dict[str, Any], host: Host) -> Model:
    model = load(name, host=host, **options)
    if model.stream is not None:
        raise MemoryLimitError(f"{name}: takes {model.size_bytes / 1e9:.1f} GB, more than there is; it cannot be run")
    return model


class _Explanation:
    """Both models, and the sample.

    The baseline's module is what runs: first with all layers of the compressed model in it, then with one of its own
    after the other.
    """

    def __init__(self, before: Model, after: Model, sample: Sample, host: Host, progress: Progress) -> None:
        self._before, self._after, self._sample = before, after, sample
        self._host, self._progress = host, progress
        self._replaced: dict[str, nn.Module] = {}
        """Modules of the compressed model, by name, in the place of the baseline's."""
        self._originals: dict[str, nn.Module] = {}

    def run(self, by_block: bool) -> Explanation:
        """Measure, and put every unit back alone, then together."""
        from sottovoce.calibration.reference import Reference
        from sottovoce.recipe_search.differences import block_names, differing_units
        from sottovoce.recipe_search.probe import Probe

        expected, given = self._predict(self._before), self._predict(self._after)
        reference = Reference(self._before, [self._sample])
        units = differing_units(self._after.module, self._before.module, self._before.architecture, by_block=by_block)
        explanation = self._describe(expected, given, reference.positions)
        if not units:
            self._refuse("differ in nothing")
        if not units[0].name:
            self._refuse("are built differently")
        self._exchange(units)
        blocks = block_names(self._before.module, self._before.architecture)
        probe = Probe.of(self._before, reference, blocks)
        whole = probe.reference.divergence(self._before)["all"]
        restored = self._alone(units, probe, expected)
        if all(unit.divergence is None for unit in restored):
            self._refuse("have no layers that fit into each other")
        together = None if _same(expected, given) else self._together(units, restored, expected)
        return replace(explanation, divergence=whole, units=restored, together=together)

    def _refuse(self, problem: str) -> NoReturn:
        raise UsageError(
            f"{self._after.source.name} and {self._before.source.name} {problem}; give a compressed model, and the one "
            "that it was made of"
        )

    def _predict(self, model: Model) -> Prediction:
        import torch

        with torch.inference_mode():
            return model.architecture.runner.predict(model, self._sample)

    def _describe(self, expected: Prediction, given: Prediction, positions: int) -> Explanation:
        """Return the outputs, aligned, without the layers."""
        samples = Samples((self._sample,))
        runs = [_run(prediction, self._sample) for prediction in (expected, given)]
        metrics = []
        for model, run in zip((self._before, self._after), runs, strict=True):
            try:
                metrics.append(metrics_of(self._host, model, samples, run, runs[0]))
            except SamplesError:  # there is nothing to compare with but the baseline
                metrics.append({})
        languages = self._before.architecture.card.languages
        metric = deciding(metrics[0].values(), languages[0] if languages else "")
        utterances = Utterances(
            samples,
            dict(zip(_NAMES, ([expected], [given]), strict=True)),
            _NAMES[0],
            {
                name: measured.get(metric.name) if metric else None
                for name, measured in zip(_NAMES, metrics, strict=True)
            },
            languages[0] if languages else None,
        )
        utterance = utterances.of(0)
        return Explanation(
            key=utterance.key,
            model=public_name(self._after.source),
            baseline=public_name(self._before.source),
            reference=None if self._sample.text is None else utterance.reference,
            outputs=utterance.outputs,
            words=utterance.words,
            is_same=_same(expected, given),
            positions=positions,
            notes=(*self._notes(), *_unfinished(self._before, expected), *_unfinished(self._after, given)),
        )

    def _notes(self) -> tuple[str, ...]:
        report = self._after.report
        if report is None or report.source.fingerprint == fingerprint(self._before.source.directory):
            return ()
        made_of = Path(report.source.name).name
        return (f"{self._after.source.name} was compressed from {made_of} with other weights than these.",)

    def _exchange(self, units: Sequence[Unit]) -> None:
        """Put all layers of the compressed model into the baseline's module."""
        for name in (name for unit in units for name in unit.modules):
            self._originals[name] = self._before.module.get_submodule(name)
            self._replaced[name] = self._after.module.get_submodule(name)
            self._put(name, self._replaced[name])

    def _put(self, name: str, layer: nn.Module) -> None:
        from sottovoce.recipe_search.probe import put_

        put_(self._before.module, name, layer)

    @contextmanager
    def _restored(self, units: Sequence[Unit]) -> Iterator[None]:
        """Put layers of the baseline back for the block."""
        names = [name for unit in units for name in unit.modules]
        for name in names:
            self._put(name, self._originals[name])
        try:
            yield
        finally:
            for name in names:
                self._put(name, self._replaced[name])

    def _alone(self, units: Sequence[Unit], probe: Probe, expected: Prediction) -> tuple[RestoredUnit, ...]:
        """Return every unit put back alone, the one that leaves least divergence first."""
        left: dict[str, float | None] = {}
        for number, unit in enumerate(units):
            with self._restored([unit]):
                try:
                    left[unit.name] = probe.sums(self._before, unit.modules[0]).means["all"]
                except SottovoceError:  # its shapes do not fit into the compressed model
                    left[unit.name] = None
            self._progress("layers", number + 1, len(units))
        order = sorted(units, key=lambda unit: _rank(left[unit.name]))
        rows = []
        for number, unit in enumerate(order):
            row = RestoredUnit(
                name=unit.name, layers=len(unit.modules), bits=self._bits(unit), divergence=left[unit.name]
            )
            if number < ASKED and row.divergence is not None:
                with self._restored([unit]):
                    prediction = self._predict(self._before)
                row = replace(row, text=prediction.text, is_back=_same(prediction, expected))
            rows.append(row)
        return tuple(rows)

    def _bits(self, unit: Unit) -> float | None:
        schemes = [getattr(self._replaced[name], "scheme", None) for name in unit.modules]
        widths = {scheme.bits for scheme in schemes if scheme is not None}
        return float(widths.pop()) if len(widths) == 1 else None

    def _together(
        self, units: Sequence[Unit], rows: Sequence[RestoredUnit], expected: Prediction
    ) -> tuple[str, ...] | None:
        """Return the units that bring the output back: one alone, or some added one by one in the order of effect."""
        if alone := next((row.name for row in rows if row.is_back), None):
            return (alone,)
        by_name = {unit.name: unit for unit in units}
        order = [by_name[row.name] for row in rows if row.divergence is not None][:TOGETHER]
        for count in range(1, len(order) + 1):
            with self._restored(order[:count]):
                if _same(self._predict(self._before), expected):
                    return tuple(unit.name for unit in order[:count])
            self._progress("together", count, len(order))
        return None


def _unfinished(model: Model, prediction: Prediction) -> Iterator[str]:
    if prediction.cut_off:
        yield f"{model.source.name}: the output ends at the model's limit of tokens, unfinished."


def _rank(divergence: float | None) -> float:
    return float("inf") if divergence is None else divergence


def _same(first: Prediction, second: Prediction) -> bool:
    return first.text == second.text and list(map(list, first.timestamps)) == list(map(list, second.timestamps))


def _run(prediction: Prediction, sample: Sample) -> Run:
    return Run(predictions=[prediction], seconds=[0.0], audio_seconds=[sample.seconds])
