"""The text of a card, in one language."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sottovoce.checkpoint.safe_config import contained_path
from sottovoce.errors import SourceError
from sottovoce_hub.card import figures, layers, loading, measured, pictures
from sottovoce_hub.card.facts import Evaluation
from sottovoce_hub.card.markdown import Markdown, code, fence, folded, link, table, text
from sottovoce_hub.card.metadata import languages, license_link
from sottovoce_hub.card.report import Report, Step
from sottovoce_hub.card.scores import is_quality, main_score
from sottovoce_hub.card.steps import describe
from sottovoce_hub.card.variant import Variant
from sottovoce_hub.card.web import NAMES, page
from sottovoce_hub.card.wording import Wording

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_NOTES = 20
"""Notes of the steps that a card repeats."""
SALIENCY = "saliency.png"
_DIGITS = 16


@dataclass(frozen=True)
class Subject:
    """What a card is about."""

    directory: Path
    report: Report
    place: loading.Place
    variants: Sequence[Variant]
    pictures: frozenset[str]
    """Names of the pictures that go with the card."""
    variant_name: str
    """What tells it from its variants."""

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.place.name


def render(subject: Subject, language: str, other: str) -> str:
    """The card's Markdown.

    Args:
        subject: What it is about.
        language: ``en`` or ``zh``.
        other: The name of the file in the other language.
    """
    wording = Wording(language, subject.report.card.translations.get(language))
    values = {
        "other": Markdown(other),
        "name": subject.name,
        **_identity(subject),
        **_usage(subject, wording),
        **_figures(subject, wording),
        **_changes(subject, wording),
        **_making(subject, wording),
    }
    return _environment().get_template(f"{language}.md.jinja").render(values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("sottovoce_hub.card", "templates"),
        # It is Markdown that is made, not HTML: what is no Markdown yet is escaped for it.
        autoescape=False,
        finalize=text,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _identity(subject: Subject) -> dict[str, Any]:
    report, source = subject.report, subject.report.source
    base = code(source.name)
    if source.repository and source.hub:
        base = link(source.repository, page(source.repository, source.hub, source.revision))
    stated, where = source.license, license_link(report)
    named = " ".join(part for part in (stated.id, stated.name) if part) if stated else None
    return {
        "base": base,
        "base_hub": NAMES[source.hub] if source.repository and source.hub else None,
        "foreign_base": bool(source.repository) and source.hub != subject.place.hub,
        "revision": code(source.revision) if source.revision else None,
        "architecture": code(report.architecture),
        "library": code(report.card.library_name) if report.card.library_name else None,
        "task": code(report.card.pipeline_tag) if report.card.pipeline_tag else None,
        "languages": Markdown(", ".join(code(each) for each in languages(report))),
        "license": code(named) if named else None,
        "license_link": (link(where, where) if "://" in where else code(where)) if named and where else None,
    }


def _usage(subject: Subject, wording: Wording) -> dict[str, Any]:
    report, place = subject.report, subject.place
    return {
        "one_line": loading.one_line(place),
        "branch": code(place.branch) if place.branch else None,
        "packages": loading.packages(report, wording),
        "stock": loading.stock(report, place, wording),
        "stock_directory": loading.stock_directory(report, wording),
        "pull": loading.pull(place),
        "serving": loading.serving(report, place, wording),
    }


def _figures(subject: Subject, wording: Wording) -> dict[str, Any]:
    report = subject.report
    known = {name for each in report.evaluations for name, found in each.metrics.items() if found.value is not None}
    score, made = main_score(report), None
    if subject.variants:
        made = measured.variants(report, subject.variant_name, subject.variants, subject.place.hub, wording)
    base, bits = report.base_bytes, report.parameter_bits
    return {
        "bits_before": figures.widths(bits.before) if bits and base else None,
        "bits_after": figures.widths(bits.after) if bits else None,
        "least_memory": figures.size(report.least_memory_bytes) if report.least_memory_bytes else None,
        "before": figures.size(base) if base else None,
        "after": figures.size(report.size_bytes.after),
        "factor": Markdown(figures.factor(report.size_bytes.after, base)) if base else None,
        "headline": measured.headline(report, wording),
        "variants": made,
        "variants_data": measured.data(score.evaluation.samples, wording) if score else None,
        "evaluations": [_evaluation(report, each, wording) for each in report.evaluations],
        "sizes": measured.sizes(report, wording),
        "sizes_picture": _picture(
            pictures.SIZES, wording("alt_sizes", metric=wording.metric(score.metric if score else "")), subject
        ),
        "has_quality": any(map(is_quality, known)),
        "has_baseline": any(each.baseline for each in report.evaluations),
    }


def _evaluation(report: Report, evaluation: Evaluation, wording: Wording) -> Mapping[str, Any]:
    samples, dataset = evaluation.samples, evaluation.dataset
    named = dataset.id if dataset else samples.name
    facts = (dataset.id, dataset.task, dataset.split, dataset.revision) if dataset else ()
    return {
        "title": code(named) if named else wording("unnamed_samples"),
        "table": measured.comparison(report, evaluation, wording),
        "data": measured.data(samples, wording),
        "dataset": Markdown(" ".join(code(fact) for fact in facts if fact)),
        "machine": measured.hardware(evaluation.machine, wording),
        "date": evaluation.date,
    }


def _changes(subject: Subject, wording: Wording) -> dict[str, Any]:
    report = subject.report
    targets = pictures.measured_layers(report)
    held = report.gate
    return {
        "done": [line for step in report.steps for line in describe(step, wording)],
        "changes": [_change(step, wording) for step in report.steps],
        "saliency_picture": _picture(SALIENCY, wording("alt_saliency"), subject),
        "layers_picture": _picture(pictures.LAYERS, wording("alt_layers"), subject),
        "worst": layers.worst(targets, wording),
        "worst_by_output": any(target.output_error is not None for target in targets),
        "skips": "skip_experts" in report.step_names,
        "gate": held
        and {
            "table": layers.gate(held, wording),
            "raised": layers.raised(held, wording),
            "count": len(held.raised),
            "rounds": held.rounds,
            "data": measured.data(held.samples, wording) if held.samples else None,
        },
    }


def _change(step: Step, wording: Wording) -> Mapping[str, Any]:
    return {
        "title": code(step.name),
        "coverage": layers.coverage(step, wording),
        "widths": layers.widths(step, wording),
        "kept": layers.kept(step.kept, wording),
        "experts": layers.experts(step, wording),
        "saved": layers.saved(step, wording),
    }


def _making(subject: Subject, wording: Wording) -> dict[str, Any]:
    report = subject.report
    preset = loading.preset_of(report)
    notes = list(dict.fromkeys(note for step in report.steps for note in step.notes))
    return {
        "one_recipe": report.is_by_one_recipe,
        "preset": code(preset) if preset else None,
        "recipe": fence(yaml.safe_dump(report.whole_recipe, sort_keys=False, allow_unicode=True), "yaml"),
        "calibration": measured.data(report.samples, wording) if report.samples else None,
        "notes": [wording.sentence(note) for note in notes[:MOST_NOTES]],
        "more_notes": len(notes[MOST_NOTES:]),
        "command": loading.compress(report, subject.place, preset),
        "seconds": figures.number(report.seconds) if report.seconds else None,
        "memory": figures.size(report.peak_memory_bytes) if report.peak_memory_bytes else None,
        "sottovoce": report.versions.get("sottovoce"),
        "versions": Markdown(wording("separator").join(measured.versions(report.versions))),
        "files": _files(subject, wording),
    }


def _files(subject: Subject, wording: Wording) -> Markdown:
    sizes: dict[str, int | None] = {}
    for name in sorted(subject.report.files):
        sizes[name] = None
        with contextlib.suppress(SourceError):  # a name that leaves the directory
            path = contained_path(subject.directory, name)
            sizes[name] = path.stat().st_size if path.is_file() else None
    known = [size for size in sizes.values() if size is not None]
    rows: list[list[object]] = [
        [code(name), "" if size is None else figures.size(size), code(subject.report.files[name][:_DIGITS])]
        for name, size in sizes.items()
    ]
    rows.append([wording("total"), figures.size(sum(known)), ""])
    made = table([wording("file"), wording("size"), wording("file_digest")], rows, align="lrl")
    return folded(wording("files_title", count=len(sizes), size=figures.size(sum(known))), made)


def _picture(name: str, label: str, subject: Subject) -> Markdown | None:
    return Markdown(f"![{label}]({name})") if name in subject.pictures else None
