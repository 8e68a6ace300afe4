"""Code and commands of a card: loading the model, running its exports, making it again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from sottovoce.plugins import published
from sottovoce.report import CompressionReport
from sottovoce.text.translations import Text
from sottovoce_hub.card.markdown import Markdown, fence, plain
from sottovoce_hub.card.translations import Translations
from sottovoce_hub.card.urls import DEFAULT_BRANCH
from sottovoce_hub.card.variant import Variant

_PLACE = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_DIRECTORY, _EXPORTED, _AUDIO = "model", "exported", "audio.wav"


class Place:
    """Place where a model is published, as code names it."""

    def __init__(self, repository: str, hub: str, branch: str | None) -> None:
        """Take ``owner/name``, the hub, and the branch unless it is the main one."""
        self.repository, self.hub = repository, hub
        self.branch = None if branch in (None, DEFAULT_BRANCH.get(hub)) else branch

    @property
    def name(self) -> str:
        """Name of the repository without its owner."""
        return self.repository.rpartition("/")[2]

    def holds(self, variant: Variant) -> bool:
        """Return true if a variant is published here."""
        other = Place(variant.repository, self.hub, variant.branch)
        return (other.repository, other.branch) == (self.repository, self.branch)

    @property
    def options(self) -> list[str]:
        """Options of the command line that name it."""
        return ["--hub", self.hub, *(["--revision", self.branch] if self.branch else [])]


class Usage:
    """Code and commands of one card."""

    def __init__(self, report: CompressionReport, place: Place, words: Translations) -> None:
        self._report, self._place, self._words = report, place, words
        self.preset = preset_of(report)
        """Name of core's preset that the recipe is; ``None`` for any other."""

    @property
    def one_line(self) -> Markdown:
        """Code that loads the model with Sottovoce, and prints its output where the family says how."""
        place = self._place
        revision = f", revision={_quoted(place.branch)}" if place.branch else ""
        example = self._report.family.example
        load = "load" if example.strip() else "from_pretrained"
        call = f"sottovoce.{load}({_quoted(place.repository)}, hub={_quoted(place.hub)}{revision})"
        code = f"import sottovoce\n\nmodel = {call}\n{self._fill(example, {})}"
        return fence(code.rstrip("\n"), "python")

    @property
    def stock(self) -> Markdown | None:
        """Code by which the model's own library loads it by its id; ``None`` where it cannot."""
        place, code = self._place, self._report.family.hub_usage.get(self._place.hub, "")
        values = {"repository": place.repository, "revision": place.branch or DEFAULT_BRANCH.get(place.hub, "main")}
        return fence(self._fill(code, values), "python") if code.strip() else None

    @property
    def stock_directory(self) -> Markdown | None:
        """Code by which the model's own library loads it from a directory; ``None`` where the family states none."""
        code = self._report.family.usage
        return fence(self._fill(code, {"directory": _DIRECTORY}), "python") if code.strip() else None

    @property
    def pull(self) -> Markdown:
        """Command that fetches the model."""
        return _command("sottovoce", "pull", self._place.repository, *self._place.options, "--output", _DIRECTORY)

    @property
    def packages(self) -> Markdown | None:
        """Command that installs what the model's own library needs; ``None`` where the family states nothing."""
        if not self._report.family.packages:
            return None
        packages = published.installable(self._report.family.packages)
        command = " ".join(shlex.quote(plain(word)) for word in ("pip", "install", *packages))
        where = f"# {self._words('in_a_clone')}\n" if published.is_in_clone(packages) else ""
        return fence(f"{where}{command}", "sh")

    @property
    def needs_plugin(self) -> bool:
        """True if the model's own library needs a plugin of the project to load it."""
        return published.is_in_clone(published.installable(self._report.family.packages))

    @property
    def exports(self) -> list[dict[str, Markdown]]:
        """For every format, the command that exports the model to it, and code that runs the result."""
        place, formats, labels = self._place, self._report.family.serving, self._report.family.formats
        options = {name: ["--format", name, "--output", _EXPORTED] for name in formats}
        return [
            {
                "format": self._words.sentence(name),
                "label": self._words.label(labels.get(name, Text(en=""))),
                "command": _command("sottovoce", "export", place.repository, *place.options, *options[name]),
                "code": fence(self._fill(code, {"directory": _EXPORTED}), "python"),
            }
            for name, code in sorted(formats.items())
            if code.strip()
        ]

    @property
    def exported(self) -> Markdown | None:
        """Code that runs the files of an export; ``None`` where the family states none."""
        report = self._report
        code = "" if report.export is None else report.family.serving.get(report.export.format, "")
        return fence(self._fill(code, {"directory": _DIRECTORY}), "python") if code.strip() else None

    @property
    def compress(self) -> Markdown | None:
        """Command that makes the model again; ``None`` where no single command does."""
        report = self._report
        if not report.steps or not report.is_by_one_recipe:
            return None
        source, samples, gate = report.source, report.samples, report.gate
        options = ["--recipe", self.preset or "recipe.yaml"]
        if source.repository:
            options += ["--hub", str(source.hub), *(["--revision", source.revision] if source.revision else [])]
        if samples:
            options += ["--data", samples.name or "DATA"]
        if gate and gate.samples and (samples is None or gate.samples.sha256 != samples.sha256):
            options += ["--gate-data", gate.samples.name or "GATE_DATA"]
        return _command("sottovoce", "compress", source.name, *options, "--output", self._place.name)

    def _fill(self, code: str, values: Mapping[str, str]) -> str:
        """Put values in the places of a snippet, between quotation marks; doubled braces are single ones."""
        known = {"audio": _AUDIO, "text": self._words("usage_text"), **values}

        def put(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            return _quoted(known[match[1]])[1:-1] if match[1] in known else match[0]

        return _PLACE.sub(put, code)


def preset_of(report: CompressionReport) -> str | None:
    """Return the name of core's preset that the recipe is; ``None`` for any other."""
    from sottovoce.recipe.presets import CONDITIONS

    known = {name: recipe for _, recipes in CONDITIONS for name, recipe in recipes.items()}
    return next((name for name, recipe in known.items() if _applied(recipe.to_dict()) == _applied(report.recipe)), None)


def _applied(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without what it says of itself, which changes nothing."""
    return {key: value for key, value in recipe.items() if key != "description"}


def _command(*words: str) -> Markdown:
    return fence(" ".join(shlex.quote(plain(word)) for word in words), "sh")


def _quoted(value: str) -> str:
    return json.dumps(plain(value), ensure_ascii=False)
