"""Declarations of metrics: everything that lists or shows a metric reads its :class:`MetricKind`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from pydantic import BaseModel, ConfigDict

from sottovoce.errors import PluginError, require_name
from sottovoce.report import Machine, Metric
from sottovoce.report.metric import Better, Kind
from sottovoce.system.registry import import_modules, new_registry
from sottovoce.text.translations import Text

_KINDS: dict[str, MetricKind] = new_registry()
_IN_NOTEBOOK: set[str] = set()
"""Names of the metrics that the main module declared: a notebook's cells, or a script."""


class MetricKind(BaseModel):
    """One metric, declared once, beside the function that measures it; constructing it registers it.

    A name may have suffixes: with ``suffixes``, ``accuracy_audio`` is ``accuracy`` of the audio samples alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name in reports, gates and ``--json``, such as ``cer``."""
    unit: str = ""
    """Unit, such as ``%`` or ``ms``; ``bytes`` are shown as MB."""
    kind: Kind = "quality"
    """``quality``; ``cost``, which is compared by factors; or ``against_baseline`` for a comparison with the base
    model, which therefore has no value of its own."""
    better: Better | None = None
    """The better direction; ``None`` where neither is."""
    label: Text
    """Name for people, as in a table."""
    description: Text
    """Definition in one sentence, for the reference."""
    headline: int | None = None
    """Rank among the metrics that may speak for a model, lowest first; without one, it does not."""
    headline_languages: tuple[str, ...] = ()
    """Codes of the languages in which it goes before all others."""
    suffixes: Mapping[str, Text] = {}
    """Suffixes of the name, after an underscore, with what they stand for."""
    always_shown: bool = False
    """If true, a card says so where it was not measured."""
    timed: bool = False
    """If true, it says nothing when the machine was busy."""

    def model_post_init(self, context: Any) -> None:
        """Register the metric.

        Raises:
            PluginError: Another metric has the name, or the name is not one that a gate could have.
        """
        require_name("metric", self.name, "a plugin")
        if self.name.endswith("_increase"):
            raise PluginError(f"the metric {self.name!r}: gates read names that end in _increase as a limit on it")
        if _is_in_notebook() and self.name in _IN_NOTEBOOK:
            _KINDS[self.name] = self  # a cell that runs again may declare it in another way
        elif _is_in_notebook() and self.name not in _KINDS:
            _IN_NOTEBOOK.add(self.name)
        if _KINDS.setdefault(self.name, self) != self:
            raise PluginError(f"the metric {self.name!r} is declared twice, and not alike; give one another name")

    def measured(
        self,
        value: float | None,
        *,
        baseline: float | None = None,
        details: Mapping[str, Any] | None = None,
        suffix: str | None = None,
        by_sample: Sequence[tuple[float, float] | None] = (),
    ) -> Metric:
        """Return a measured number of this kind.

        Args:
            value: The number; ``None`` where there is nothing to measure.
            baseline: The same of the model that is compared with.
            details: Further facts in the form of JSON.
            suffix: One of the kind's suffixes.
            by_sample: For a ratio of sums, numerator and denominator of every sample; see :class:`~sottovoce.Metric`.
        """
        if (item := getattr(value, "item", None)) is not None:
            value = item()  # a number of NumPy or PyTorch
        metric = Metric(
            name=self.name if suffix is None else f"{self.name}_{suffix}",
            value=value,
            unit=self.unit,
            baseline=baseline,
            details=details or {},
            by_sample=tuple(by_sample),
        )
        return self._describe(metric, suffix)

    def _describe(self, metric: Metric, suffix: str | None) -> Metric:
        return dataclasses.replace(
            metric,
            kind=self.kind,
            better=self.better,
            label=self.label if suffix is None else self._labelled(suffix),
            headline=self.headline if suffix is None else None,
            headline_languages=self.headline_languages,
        )

    def _labelled(self, suffix: str) -> Text:
        of = self.suffixes.get(suffix, Text(en=suffix))
        return Text(en=f"{self.label.en}, {of.en}", zh=f"{self.label.in_language('zh')}（{of.in_language('zh')}）")


def _is_in_notebook() -> bool:
    """Return true if the main module constructs a metric just now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(("pydantic", __name__)):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "__main__"


def metric_kinds() -> Mapping[str, MetricKind]:
    """Return every metric that was declared, by name: core's, and those of the plugins that are loaded."""
    import_modules("sottovoce.metrics")
    return dict(_KINDS)


def kind_of(name: str) -> tuple[MetricKind, str | None] | None:
    """Return the declaration that a metric's name belongs to, and its suffix; ``None`` for an unknown name."""
    kinds = metric_kinds()
    if kind := kinds.get(name):
        return kind, None
    for kind in kinds.values():
        suffix = name.removeprefix(f"{kind.name}_")
        if suffix != name and suffix in kind.suffixes:
            return kind, suffix
    return None


def described(metric: Metric) -> Metric:
    """Return a metric with what its declaration says, where it has nothing of its own."""
    declared = kind_of(metric.name) if metric.label is None and metric.kind is None else None
    return metric if declared is None else declared[0]._describe(metric, declared[1])


def label_of(metric: str) -> Text | None:
    """Return the name for people of a metric; ``None`` for an unknown one."""
    return described(Metric(name=metric, value=None, unit="")).label


def recorded(metrics: Mapping[str, Metric], machine: Machine) -> dict[str, Metric]:
    """Return the metrics that are worth keeping: accuracy is the same on a busy machine, times are not."""
    return {name: metric for name, metric in metrics.items() if not (machine.busy and is_timed(name))}


def is_timed(metric: str) -> bool:
    """Return true for a metric that says nothing when the machine was busy."""
    declared = kind_of(metric)
    return declared is not None and declared[0].timed
