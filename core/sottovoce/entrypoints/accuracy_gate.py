"""A recipe's gate: what compression may cost at most, and making layers precise again until it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sottovoce.checkpoint.float_backup import FloatBackup
from sottovoce.entrypoints.evaluate import Measurement, measured
from sottovoce.errors import GateError, RecipeError
from sottovoce.model import Model
from sottovoce.plugins.host import Host
from sottovoce.report import Coverage, GateReport, Kept, RestoredLayer, SampleSet, StepReport, Target
from sottovoce.samples import Samples
from sottovoce.system.progress import Progress
from sottovoce.text.translations import Text

FLOAT_REASON = "restored to floating point, for the gate"
_SHARES = (0.125, 0.25, 0.5, 1.0)
"""How many of the layers are made more precise in one round after another, the most sensitive first."""


@dataclass
class Gate:
    """The limits of one compression, measured on its samples.

    A limit is named after a metric: ``max_boundary_shift_ms`` and ``min_token_agreement`` bound its value,
    ``max_cer_increase`` what it has more than the uncompressed model.
    """

    limits: Mapping[str, float]
    samples: Samples
    host: Host
    progress: Progress
    before: Measurement
    float_backup: FloatBackup = field(default_factory=FloatBackup)
    labels: dict[str, Text] = field(default_factory=dict)
    """Names of the limits' metrics for people, once they were measured."""

    @classmethod
    def open(cls, limits: Mapping[str, float], model: Model, samples: Samples, host: Host, progress: Progress) -> Gate:
        """Measure the model before it is changed.

        Raises:
            RecipeError: A limit names no metric of the family.
        """
        before = measured(model, samples, None, {}, is_baseline=True, host=host)
        # Against itself the model has also the metrics that need a baseline.
        names = measured_names(model, samples, before, host)
        if unknown := [limit for limit in limits if GateReport.metric_of(limit) not in names]:
            raise RecipeError(
                f"the gate {unknown[0]!r} names no metric of {model.architecture.name} (there are: {', '.join(names)})"
            )
        return cls(limits, samples, host, progress, before)

    def hold_(self, model: Model, steps: Sequence[StepReport]) -> tuple[list[StepReport], GateReport]:
        """Make layers precise again, in place, until every limit holds.

        Returns:
            The steps' reports as they are true now, and what the gate found.

        Raises:
            GateError: A limit does not hold even with all linear layers float.
        """
        raised: dict[str, int] = {}
        found = self._measure(model)
        rounds = 0
        for names, bits in self._ladder(steps):
            if not self._broken(found):
                break
            rounds += 1
            self.progress("gate", rounds, 2 * len(_SHARES))
            for name in names:
                _raise(model, self.float_backup, name, bits)
                raised[name] = bits
            found = self._measure(model)
        if broken := self._broken(found):
            raise GateError(f"the gate cannot be held: {'; '.join(broken)}, with every layer float but tables")
        report = GateReport(
            limits=dict(self.limits),
            found=found,
            samples=SampleSet(**self.samples.to_dict()),
            rounds=rounds,
            labels=self.labels,
            raised=[RestoredLayer(name=name, bits=bits) for name, bits in raised.items()],
        )
        return [_revised(step, raised, model) for step in steps], report

    def _measure(self, model: Model) -> dict[str, float]:
        now = measured(model, self.samples, self.before.run, {}, host=self.host).metrics
        found: dict[str, float] = {}
        for limit in self.limits:
            name = GateReport.metric_of(limit)
            value = now[name].value if name in now else None
            if value is None:
                raise GateError(f"the gate {limit!r} has no value on these samples")
            if limit.endswith("_increase"):
                value -= self.before.metrics[name].value or 0.0
            found[limit] = value
            if (label := now[name].label) is not None:
                self.labels[name] = label
        return found

    def _broken(self, found: Mapping[str, float]) -> list[str]:
        return [
            f"{limit} is {found[limit]:.4g}, not {bound:.4g}"
            for limit, bound in self.limits.items()
            if (found[limit] > bound if limit.startswith("max_") else found[limit] < bound)
        ]

    def _ladder(self, steps: Sequence[StepReport]) -> Iterator[tuple[list[str], int]]:
        """Layers to raise, round by round, with their new width: 4 to 8 bits first, then to float (32)."""
        targets = [target for step in steps for target in step.targets if target.output_error or target.snr_db]
        ordered = sorted((target for target in targets if self.float_backup.has(target.name)), key=_sensitivity)
        narrow = [target.name for target in ordered if target.bits is not None and target.bits < 8]
        for names, bits in ((narrow, 8), ([target.name for target in ordered], 32)):
            done = 0
            for share in _SHARES if names else ():
                upto = max(done + 1, round(share * len(names)))
                if upto > len(names):
                    break
                yield names[done:upto], bits
                done = upto


def measured_names(model: Model, samples: Samples, before: Measurement, host: Host) -> list[str]:
    """The metrics that the family has beside a baseline."""
    again = replace(before.run)
    answers = host.call(
        "sottovoce_evaluate", model.architecture, model=model, samples=samples, run=again, baseline=before.run
    )
    return [metric.name for answer in answers for metric in answer]


def _sensitivity(target: Target) -> float:
    """Smallest for the layer that errs most: by its output where that was measured, else by its weights."""
    if target.output_error is not None:
        return -target.output_error
    return target.snr_db if target.snr_db is not None else 0.0


def _raise(model: Model, float_backup: FloatBackup, name: str, bits: int) -> None:
    from sottovoce.recipe.scheme import Scheme
    from sottovoce.runtime.layers import from_quantized, replace_
    from sottovoce.runtime.qparams import compute_qparams

    # It was kept on disk, wherever the model is.
    layer = float_backup.restore(name).to(next(model.module.get_submodule(name).buffers()).device)
    if bits == 32:
        replace_(model.module, name, layer)
        return
    qparams = compute_qparams(layer.weight, Scheme(bits=bits))
    replace_(model.module, name, from_quantized(layer, qparams.round(layer.weight), qparams))


def _revised(step: StepReport, raised: Mapping[str, int], model: Model) -> StepReport:
    from sottovoce.quantization.data_free import stored_bits

    if step.coverage is None or not any(target.name in raised for target in step.targets):
        return step
    floats = [target for target in step.targets if raised.get(target.name) == 32]
    targets = tuple(
        _again(target, stored_bits(model.module.get_submodule(target.name))) if target.name in raised else target
        for target in step.targets
        if target not in floats
    )
    kept = (*step.kept, *(Kept(name=one.name, parameters=one.parameters, reason=FLOAT_REASON) for one in floats))
    return replace(step, targets=targets, kept=kept, coverage=_less(step.coverage, floats, model))


def _again(target: Target, bits: float) -> Target:
    """A target that was rounded anew, which was not measured."""
    return Target(name=target.name, parameters=target.parameters, bits=bits)


def _less(coverage: Coverage, floats: Sequence[Target], model: Model) -> Coverage:
    lost: dict[str, int] = {}
    for target in floats:
        part = model.architecture.part_of(target.name)
        lost[part] = lost.get(part, 0) + target.parameters
    parts = {
        name: replace(part, compressed_parameters=part.compressed_parameters - lost.get(name, 0))
        for name, part in coverage.parts.items()
    }
    compressed = coverage.compressed_parameters - sum(lost.values())
    return replace(coverage, compressed_parameters=compressed, parts=parts)
