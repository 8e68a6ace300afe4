"""Records of an export: the files that were written, and what the engines that are for them gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator

from sottovoce.report import number_format
from sottovoce.report.evaluation import named_metrics
from sottovoce.report.facts import Machine, SampleSet
from sottovoce.report.fields import Count, Measured, Record
from sottovoce.report.metric import Metric


@dataclass(frozen=True, kw_only=True, eq=False)
class EngineReport(Record):
    """Run of an exported model in an engine, beside the model in PyTorch."""

    engine: str
    version: str = ""
    problem: str = ""
    """Reason that there are no measurements; empty where it ran."""
    agreement: Annotated[Mapping[str, Metric], BeforeValidator(named_metrics)] = field(default_factory=dict)
    """Metric of the family by which its answers agree with those of PyTorch."""
    latency_p50_ms: Measured = None
    """Median time of a sample, in the slowest round."""
    latency_p95_ms: Measured = None
    latency_spread: Measured = None
    """Distance between the slowest and the fastest round, as a share of the median round."""
    untimed: str = ""
    """Reason that no times are given, such as a busy machine; empty where they are."""
    load_seconds: Measured = None
    peak_memory_bytes: Count | None = None
    """Peak memory of the engine's process."""

    @property
    def same(self) -> tuple[int, int] | None:
        """Number of answers, or parts of these, that are those of PyTorch, and their number; ``None`` if not known."""
        details = next((dict(metric.details) for metric in self.agreement.values()), {})
        identical = details.pop("identical", None)
        total = next((value for value in details.values() if isinstance(value, int)), None)
        return (identical, total) if isinstance(identical, int) and total is not None else None

    def __str__(self) -> str:
        """Return one sentence."""
        name = f"{self.engine} {self.version}".strip()
        if self.problem:
            return f"{name}: {self.problem}"
        facts = [*self._agreement()]
        if self.latency_p50_ms is not None:
            width = "" if self.latency_spread is None else f", rounds within {self.latency_spread:.0%}"
            facts.append(f"{self.latency_p50_ms:.0f} ms a sample (p50{width})")
        if self.peak_memory_bytes is not None:
            facts.append(number_format.size(self.peak_memory_bytes))
        text = f"{name}: {facts[0]}; {', '.join(facts[1:])}" if len(facts) > 1 else f"{name}: {''.join(facts)}"
        return f"{text}; no times, as {self.untimed}" if self.untimed else text

    def _agreement(self) -> Iterator[str]:
        for name, metric in self.agreement.items():
            count = self.same
            if name == "token_agreement" and count:
                yield f"texts equal to PyTorch's on {count[0]} of {count[1]}"
            elif metric.value is not None:
                share = f" ({count[0]} of {count[1]})" if count else ""
                yield f"{metric.label or name}: {metric.value:.2f} %{share}"


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportReport(Record):
    """Export of a model in a format."""

    format: str
    files: Mapping[str, Count] = field(default_factory=dict)
    """Bytes of each file."""
    samples: SampleSet | None = None
    """Samples that the engines ran on; without them the files ran on made-up inputs alone."""
    unchecked: str = ""
    """Reason why the files were only read, not run in their engine; empty where they ran."""
    engines: tuple[EngineReport, ...] = ()
    machine: Machine | None = None
    date: str = ""
    """Day of the export, ISO 8601."""

    def lines(self) -> list[str]:
        """Return a sentence for each engine; without samples, one that says so."""
        if self.samples is None and self.unchecked:
            return [self.unchecked]
        if self.samples is None:
            return ["it runs on a made-up input; give --data MANIFEST to compare its answers with PyTorch's"]
        return [str(engine) for engine in self.engines] or ["no engine that is known here runs this format on samples"]
