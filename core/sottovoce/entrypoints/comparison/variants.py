"""Variants of a model by several recipes: which fit, and their compression, of which a finished one is kept."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sottovoce.checkpoint.directory import refuse_existing
from sottovoce.checkpoint.model_card import fingerprint
from sottovoce.checkpoint.report_file import read_report
from sottovoce.entrypoints.compress import compress, require_samples
from sottovoce.entrypoints.inspect import inspect
from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.save import refuse_source, save, without_folders
from sottovoce.errors import UsageError
from sottovoce.plugins.host import Host
from sottovoce.recipe.recipe import Recipe, RecipeArgument
from sottovoce.recipe.step import Step
from sottovoce.recipe_search.budget import Budget
from sottovoce.report import LeftOut, SampleSet, number_format
from sottovoce.samples import Samples
from sottovoce.source import Source
from sottovoce.system.machine import versions
from sottovoce.system.progress import Progress
from sottovoce.text.plain_text import plain


@dataclass(frozen=True)
class Variant:
    """One recipe of a comparison, and the directory of what it makes."""

    name: str
    recipe: Recipe
    directory: Path
    size_bytes: int
    """Size of the weights that it will have."""


@dataclass(frozen=True)
class Plan:
    """Recipes that fit, and those that do not."""

    variants: tuple[Variant, ...]
    left_out: tuple[LeftOut, ...]
    limit: int | None
    """Bytes that the weights may take."""


@dataclass(frozen=True)
class Work:
    """The model that variants are made of, and what they are made with."""

    model: str
    source: Source
    options: Mapping[str, Any]
    samples: Samples | None
    """Calibration samples."""
    host: Host
    progress: Progress

    def plan(self, recipes: Mapping[str, Recipe], directory: Path, budget: Budget | None) -> Plan:
        """Inspect the recipes, and return those that fit and those that do not.

        Args:
            recipes: Recipes by name.
            directory: Directory of the comparison.
            budget: Bytes that the weights may take, or a share of the model's.

        Raises:
            UsageError: A recipe would be refused by ``compress``, or none fits.
            SamplesError: A recipe needs samples, and there are none.
        """
        for recipe in recipes.values():
            require_samples(recipe, self.samples)
        variants: list[Variant] = []
        left_out: list[LeftOut] = []
        limit: int | None = None
        for number, (name, recipe) in enumerate(recipes.items()):
            self.progress("inspect", number, len(recipes))
            facts = inspect(self.model, recipe, host=self.host, **self.options)
            if refused := facts.get("refused"):
                raise UsageError(f"the recipe {name} does not fit {self.model}: {refused}")
            size = int(facts["estimate"]["size_bytes"])
            limit = budget.bytes_of(int(facts["size_bytes"])) if budget else None
            if limit is not None and size > limit:
                reason = f"{number_format.size(size)} is more than {number_format.size(limit)}"
                left_out.append(LeftOut(name=name, reason=reason, size_bytes=size))
            else:
                variants.append(Variant(name, recipe, directory / name, size))
        self.progress("inspect", len(recipes), len(recipes))
        if not variants:
            least = min(left_out, key=lambda entry: entry.size_bytes or 0)
            raise UsageError(
                f"no recipe fits {number_format.size(limit or 0)}: the smallest, {least.name}, takes "
                f"{number_format.size(least.size_bytes or 0)}; allow that, or give a recipe with fewer bits"
            )
        return Plan(tuple(variants), tuple(left_out), limit)

    def check(self, variants: Iterable[Variant], overwrite: bool) -> None:
        """Check that every variant is finished already or may be written, before any of them is made.

        Raises:
            UsageError: A directory holds something else, and may not be replaced.
        """
        for variant in variants:
            if not self.is_finished(variant):
                refuse_existing(variant.directory, overwrite)

    def make(self, variant: Variant, overwrite: bool) -> bool:
        """Compress a variant and write it; return false if it was there already.

        Raises:
            SottovoceError: As :func:`~sottovoce.compress` and :func:`~sottovoce.save`.
        """
        if self.is_finished(variant):
            return False

        def progress(task: str, done: int, total: int) -> None:
            self.progress(f"{variant.name}: {task}", done, total)

        resume = variant.directory.with_name(f".{variant.name}.unfinished")
        model = load(self.model, host=self.host, **self.options)
        refuse_source(model, variant.directory)
        samples = self._samples_of(variant.recipe)
        compress(model, variant.recipe, samples, resume=resume if samples else None, host=self.host, progress=progress)
        save(model, variant.directory, overwrite=overwrite, host=self.host)
        shutil.rmtree(resume, ignore_errors=True)
        return True

    def is_finished(self, variant: Variant) -> bool:
        """Return true if the directory has what the recipe makes of this model and these samples, by its report."""
        try:
            report = read_report(variant.directory)
        except (OSError, ValueError):
            return False
        samples = self._samples_of(variant.recipe)
        calibrated = SampleSet(**samples.to_dict()) if samples is not None else None
        return (
            dict(report.recipe) == without_folders(variant.recipe.to_dict())
            and report.is_by_one_recipe
            and report.source.fingerprint == fingerprint(self.source.directory)
            and (report.samples and report.samples.sha256) == (calibrated and calibrated.sha256)
            and report.versions.get("sottovoce") == versions().get("sottovoce")
        )

    def _samples_of(self, recipe: Recipe) -> Samples | None:
        return self.samples if recipe.needs_samples or recipe.gate else None

    def command(self, recipe: Recipe, name: str) -> str:
        """Return the command that makes a variant, with bare names in place of folders."""
        words = ["sottovoce", "compress", public_name(self.source), "--recipe", Path(recipe.title or name).name]
        samples = self._samples_of(recipe)
        if samples is not None and samples.path is not None:
            words += ["--data", samples.path.name]
        return command_line([*words, "--output", name])


def command_line(words: Sequence[str]) -> str:
    """Return a command as one types it."""
    return " ".join(shlex.quote(plain(word)) for word in words)


def public_name(source: Source) -> str:
    """Return a model's name without the folders of this machine: its id on a hub, or the name of its directory."""
    return source.repository.id if source.repository else Path(source.name).resolve().name


def several(recipes: RecipeArgument | Sequence[RecipeArgument]) -> Sequence[RecipeArgument]:
    """Return recipes as a sequence, also if a single one is given."""
    if isinstance(recipes, str | os.PathLike | Mapping | Recipe | Step):
        return [recipes]
    try:
        return cast("Sequence[RecipeArgument]", tuple(recipes))
    except TypeError:
        raise UsageError(f"recipes: give a list of recipes, not {type(recipes).__name__}") from None


def recipes_by_name(recipes: Sequence[RecipeArgument], host: Host) -> dict[str, Recipe]:
    """Return recipes by the names that their variants get: the preset's, or the file's without its ending.

    Raises:
        RecipeError: There is no such recipe, or it does not validate.
        UsageError: Two have one name.
    """
    named: dict[str, Recipe] = {}
    for given in recipes:
        recipe = host.recipe(given)
        name = Path(recipe.title or "recipe").name
        name = name.removesuffix(Path(name).suffix) if name.endswith((".yaml", ".yml", ".json")) else name
        if name in named:
            raise UsageError(f"two recipes have the name {name!r}, which names a directory too; rename one (title=)")
        named[name] = recipe
    return named
