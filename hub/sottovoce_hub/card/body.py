"""Text of a card, in one language."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sottovoce.checkpoint.safe_config import contained_path
from sottovoce.errors import SourceError
from sottovoce.report import CompressionReport, number_format
from sottovoce_hub.card import exported, headline, layers, markdown, metric_tables, plots, usage
from sottovoce_hub.card.markdown import Markdown, code, fence, folded, link, table
from sottovoce_hub.card.metadata import languages, license_link
from sottovoce_hub.card.translations import Translations
from sottovoce_hub.card.urls import NAMES, page
from sottovoce_hub.card.variant import Variant

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_NOTES = 20
"""Notes of the steps that a card repeats."""
_DIGITS = 16


@dataclass(frozen=True)
class Subject:
    """Subject of a card."""

    directory: Path
    report: CompressionReport
    place: usage.Place
    variants: Sequence[Variant]
    plots: frozenset[str]
    """Names of the pictures that were drawn for the card."""
    variant_name: str
    """Name that distinguishes it from its variants."""

    @property
    def notes(self) -> list[str]:
        """Notes of all steps, each of them once."""
        return list(self.report.notes)


def render(subject: Subject, language: str, other: str) -> str:
    """Return the card's Markdown.

    Args:
        subject: What it is about.
        language: ``en`` or ``zh``.
        other: The name of the file in the other language.
    """
    report, words = subject.report, Translations(language, subject.report.family.translations.get(language))
    values = {
        "words": words,
        "other": Markdown(other),
        "subject": subject,
        "report": report,
        "place": subject.place,
        "usage": usage.Usage(report, subject.place, words),
        "headline": headline.headline(report),
        "languages": languages(report),
        "license_link": license_link(report),
        "worst": layers.measured_layers(report.steps),
        "has_quality": any(map(headline.is_quality, _measured(report))),
        "explained": metric_tables.explained(report),
        "most_notes": MOST_NOTES,
        "hub_names": NAMES,
        "files": functools.partial(_files, subject, words),
        "variants_table": functools.partial(
            metric_tables.variants, report, subject.variant_name, subject.variants, subject.place.hub, words
        ),
        "sizes_plot": plots.SIZES,
        "layers_plot": plots.LAYERS,
    }
    return _environment().get_template(f"{language}.md.jinja").render(values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context

    environment = Environment(
        loader=PackageLoader("sottovoce_hub.card", "templates"),
        # The output is Markdown, not HTML: what is not Markdown yet is escaped for it.
        autoescape=False,
        finalize=markdown.text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def translated(filter: Callable[..., Markdown]) -> Callable[..., Markdown]:
        return pass_context(lambda context, *values: filter(*values, context["words"]))

    environment.filters |= _FILTERS | {name: translated(filter) for name, filter in _TRANSLATED.items()}
    return environment


_FILTERS: dict[str, Callable[..., str]] = {
    "bits": number_format.widths,
    "code": code,
    "codes": lambda values: Markdown(", ".join(map(code, values))),
    "counted": number_format.counted,
    "factor": number_format.factor,
    "link": link,
    "number": number_format.number,
    "page": lambda source: page(source.repository, source.hub, source.revision),
    "picture": lambda name, label: Markdown(f"![{label}]({name})"),
    "size": number_format.size,
    "yaml": lambda form: fence(yaml.safe_dump(form, sort_keys=False, allow_unicode=True), "yaml"),
}
_TRANSLATED: dict[str, Callable[..., Markdown]] = {
    "comparison": lambda evaluation, report, words: metric_tables.comparison(report, evaluation, words),
    "coverage": layers.coverage,
    "data": metric_tables.data,
    "engines": exported.engines,
    "gate": layers.gate,
    "hardware": metric_tables.hardware,
    "headline_row": metric_tables.headline_row,
    "kept": layers.kept,
    "label": lambda label, words: words.label(label),
    "metric": lambda metric, words: words.metric(metric),
    "restored": layers.restored,
    "sentence": lambda sentence, words: words.sentence(sentence),
    "sizes": metric_tables.sizes,
    "step_table": layers.step_table,
    "versions": metric_tables.versions,
    "widths": layers.widths,
    "worst": layers.worst,
}
"""Filters that take the card's language from its context."""


def _measured(report: CompressionReport) -> list[Any]:
    metrics = (metric for evaluation in report.evaluations for metric in evaluation.metrics.values())
    return [metric for metric in metrics if metric.value is not None]


def _files(subject: Subject, words: Translations) -> Markdown:
    sizes = {name: _size(subject.directory, name) for name in sorted(subject.report.files)}
    total = number_format.size(sum(size for size in sizes.values() if size is not None))
    rows: list[list[object]] = [
        [code(name), "" if size is None else number_format.size(size), code(subject.report.files[name][:_DIGITS])]
        for name, size in sizes.items()
    ]
    rows.append([words("total"), total, ""])
    content = table([words("file"), words("size"), words("file_digest")], rows, align="lrl")
    return folded(words("files_title", count=len(sizes), size=total), content)


def _size(directory: Path, name: str) -> int | None:
    with contextlib.suppress(SourceError):  # a name that leaves the directory
        path = contained_path(directory, name)
        return path.stat().st_size if path.is_file() else None
    return None
