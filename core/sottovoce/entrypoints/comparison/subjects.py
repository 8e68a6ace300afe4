"""Models of a comparison before they are measured: where their files are, and what may be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sottovoce.architecture import Architecture
from sottovoce.checkpoint.model_class import class_name
from sottovoce.checkpoint.report_file import report_of
from sottovoce.entrypoints.comparison.variants import command_line, public_name
from sottovoce.entrypoints.load import locate
from sottovoce.entrypoints.load_options import read_options
from sottovoce.errors import UsageError
from sottovoce.plugins.host import Host
from sottovoce.report import CompressionReport
from sottovoce.source import Source

_OF_ITS_FILES = ("weights", "allow_unexpected", "revision")
"""Options that are of one model's files, and not of what was made of it."""


@dataclass(frozen=True)
class ModelToCompare:
    """One model of a comparison."""

    name: str
    """Name in the comparison, without folders of this machine."""
    path: str
    """Directory, alias or hub id that it is loaded from."""
    options: Mapping[str, Any]
    source: Source
    architecture: Architecture
    report: CompressionReport | None = None
    """Report of its compression, if it was compressed."""

    @property
    def command(self) -> str | None:
        """Command that makes it; ``None`` where the recipe has no name, or it was not made by one."""
        report = self.report
        if report is None or not report.recipe_name or not report.is_by_one_recipe:
            return None
        words = ["sottovoce", "compress", report.source.name, "--recipe", report.recipe_name]
        if report.samples is not None and report.samples.name:
            words += ["--data", report.samples.name]
        return command_line([*words, "--output", Path(self.name).name])


def locate_model(path: str, options: Mapping[str, Any], host: Host, name: str = "") -> ModelToCompare:
    """Find the files of a model, and read what they are, but not the weights.

    Args:
        path: Directory, alias or hub id.
        options: Options of :func:`~sottovoce.load`.
        host: The plugins.
        name: Name in the comparison; by default its own.

    Raises:
        SourceError: The directory holds no model, or could not be fetched.
        UnknownModelError: No installed plugin describes it.
    """
    source = locate(path, read_options(dict(options)), host)
    architecture = host.owner_of(class_name(source.directory))
    return ModelToCompare(name or public_name(source), path, options, source, architecture, report_of(source.directory))


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without those that are of another model's files."""
    return {name: value for name, value in options.items() if name not in _OF_ITS_FILES}


def require_comparable(models: Sequence[ModelToCompare]) -> None:
    """Check that models can be compared.

    Raises:
        UsageError: Two are the same directory, or their tasks differ.
    """
    for number, model in enumerate(models):
        if any(model.source.directory.resolve() == other.source.directory.resolve() for other in models[:number]):
            raise UsageError(f"{model.path}: is given twice; a model is not compared with itself")
        if model.architecture.task != models[0].architecture.task:
            first = models[0]
            raise UsageError(
                f"{model.path}: does {model.architecture.task or 'nothing known'}, and {first.path} does "
                f"{first.architecture.task or 'nothing known'}; compare models of one task"
            )


def distinct(models: Sequence[ModelToCompare]) -> list[ModelToCompare]:
    """Return models whose names differ: where two are alike, the parent's name is added, or a number."""
    names: list[str] = []
    for model in models:
        alike = [other for other in models if other.name == model.name]
        name = f"{model.source.directory.resolve().parent.name}/{model.name}" if len(alike) > 1 else model.name
        names.append(name if name not in names else f"{name} ({names.count(name) + 1})")
    return [replace(model, name=name) for model, name in zip(models, names, strict=True)]
