"""Accuracy gate: bounds on the loss that a recipe allows, held by restoring layers to higher precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sottovoce.checkpoint.float_backup import FloatBackup
from sottovoce.entrypoints.measurement import Measurement, measure, metrics_of
from sottovoce.errors import GateError, RecipeError
from sottovoce.model import Model
from sottovoce.plugins.host import Host
from sottovoce.report import GateReport, RestoredLayer, SampleSet, StepReport, Target
from sottovoce.samples import Samples
from sottovoce.system.progress import Progress
from sottovoce.text.translations import Text

FLOAT_REASON = "restored to floating point, for the gate"
_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of the layers that are restored after each round, the most sensitive first."""

_NAMED = 3
"""Layers that an error names."""


@dataclass
class Gate:
    """Limits of one compression, measured on its samples.

    A limit is named after a metric: ``max_latency_ms`` and ``min_token_agreement`` bound its value,
    ``max_cer_increase`` its increase over the uncompressed model's.
    """

    limits: Mapping[str, float]
    samples: Samples
    host: Host
    progress: Progress
    before: Measurement
    """Measurement of the model before it is compressed."""
    float_backup: FloatBackup = field(default_factory=FloatBackup)
    labels: dict[str, Text] = field(default_factory=dict)
    """Names of the limits' metrics for people, once they were measured."""

    @classmethod
    def open(cls, limits: Mapping[str, float], model: Model, samples: Samples, host: Host, progress: Progress) -> Gate:
        """Measure the model before it is changed.

        Raises:
            RecipeError: A limit names no metric of the family.
        """
        before = measure(model, samples, None, {}, is_baseline=True, host=host)
        # Against itself the model has also the metrics that need a baseline.
        names = measured_names(model, samples, before, host)
        if unknown := [limit for limit in limits if GateReport.metric_of(limit) not in names]:
            raise RecipeError(
                f"the gate {unknown[0]!r} names no metric of {model.architecture.name} (there are: {', '.join(names)})"
            )
        return cls(limits, samples, host, progress, before)

    def enforce(self, model: Model, steps: Sequence[StepReport]) -> tuple[list[StepReport], GateReport]:
        """Restore layers to higher precision, in place, until every limit holds.

        Returns:
            The steps' reports, revised, and the gate's.

        Raises:
            GateError: A limit does not hold even with all linear layers float, or what a step fitted to the calibration
                samples does not hold on those held out: then limits that hold on some samples say too little.
        """
        _refuse_disagreement(steps)
        # The algorithms need torch, which importing this module does not.
        from sottovoce.quantization.data_free import restore_precision_

        widths: dict[str, int] = {}
        stored_bits: dict[str, float | None] = {}
        values = self._measure(model)
        rounds = 0
        for names, bits in self._schedule(steps):
            if not self._violations(values):
                break
            rounds += 1
            self.progress("gate", rounds, 2 * len(_SHARES))
            for name in names:
                layer = self.float_backup.restore(name)
                stored_bits[name] = restore_precision_(model.module, name, layer, bits)
                widths[name] = bits
            values = self._measure(model)
        if violations := self._violations(values):
            raise GateError(f"the gate cannot be held: {'; '.join(violations)}, with every layer float but tables")
        report = GateReport(
            limits=dict(self.limits),
            found=values,
            samples=SampleSet(**self.samples.to_dict()),
            rounds=rounds,
            labels=self.labels,
            raised=[RestoredLayer(name=name, bits=bits) for name, bits in widths.items()],
        )
        part_of = model.architecture.part_of
        return [step.with_restored(stored_bits, part_of, FLOAT_REASON) for step in steps], report

    def require(self, model: Model) -> dict[str, float]:
        """Return the values of the limited metrics for a compressed model, and change nothing.

        Raises:
            GateError: A limit does not hold.
        """
        values = self._measure(model)
        if violations := self._violations(values):
            raise GateError(f"within the budget {'; '.join(violations)}: allow a larger budget, or more steps")
        return values

    def _measure(self, model: Model) -> dict[str, float]:
        metrics = measure(model, self.samples, self.before.run, {}, host=self.host).metrics
        values: dict[str, float] = {}
        for limit in self.limits:
            name = GateReport.metric_of(limit)
            value = metrics[name].value if name in metrics else None
            if value is None:
                raise GateError(f"the gate {limit!r} has no value on these samples")
            if limit.endswith("_increase"):
                value -= self.before.metrics[name].value or 0.0
            values[limit] = value
            if (label := metrics[name].label) is not None:
                self.labels[name] = label
        return values

    def _violations(self, values: Mapping[str, float]) -> list[str]:
        return [
            f"{limit} is {values[limit]:.4g}, not {bound:.4g}"
            for limit, bound in self.limits.items()
            if (values[limit] > bound if limit.startswith("max_") else values[limit] < bound)
        ]

    def _schedule(self, steps: Sequence[StepReport]) -> Iterator[tuple[list[str], int]]:
        """Yield the layers to restore, round by round, with their new width: narrow ones to 8 bits, then all to 32."""
        targets = [target for step in steps for target in step.targets if target.output_error or target.snr_db]
        ordered = sorted((target for target in targets if self.float_backup.has(target.name)), key=_sensitivity)
        narrow = [target.name for target in ordered if target.bits is not None and target.bits < 8]
        for names, bits in ((narrow, 8), ([target.name for target in ordered], 32)):
            done = 0
            for share in _SHARES if names else ():
                end = max(done + 1, round(share * len(names)))
                if end > len(names):
                    break
                yield names[done:end], bits
                done = end


def _refuse_disagreement(steps: Sequence[StepReport]) -> None:
    """Refuse what was fitted to the calibration samples alone: layers that are removed cannot be restored."""
    for step in steps:
        if names := step.disagreeing:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            raise GateError(
                f"the gate cannot vouch for {step.name}: what it fitted errs far more on held-out samples, at "
                f"{', '.join(names[:_NAMED])}{more}; give more calibration samples, keep more, or leave the gate out "
                "and evaluate on other samples"
            )


def measured_names(model: Model, samples: Samples, before: Measurement, host: Host) -> list[str]:
    """Return the names of the metrics that the family has when it is compared with a baseline."""
    return list(metrics_of(host, model, samples, replace(before.run), before.run))


def _sensitivity(target: Target) -> float:
    """Return a number that is smallest for the layer that errs most: by its output if measured, else by its weight."""
    if target.output_error is not None:
        return -target.output_error
    return target.snr_db if target.snr_db is not None else 0.0
