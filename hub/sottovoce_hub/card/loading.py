"""Code and commands of a card: how to load the model, run its exports, and make it again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

from sottovoce.plugins import published
from sottovoce_hub.card.markdown import Markdown, fence, plain
from sottovoce_hub.card.report import Report
from sottovoce_hub.card.variant import Variant
from sottovoce_hub.card.web import DEFAULT_BRANCH
from sottovoce_hub.card.wording import Wording

_PLACE = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_DIRECTORY, _EXPORTED, _AUDIO = "model", "exported", "audio.wav"


class Place:
    """Where a model is published, as code names it."""

    def __init__(self, repository: str, hub: str, branch: str | None) -> None:
        """Take ``owner/name``, the hub, and the branch unless it is the main one."""
        self.repository, self.hub = repository, hub
        self.branch = None if branch in (None, DEFAULT_BRANCH.get(hub)) else branch

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repository.rpartition("/")[2]

    def is_that_of(self, variant: Variant) -> bool:
        """Whether a variant is published here."""
        other = Place(variant.repository, self.hub, variant.branch)
        return (other.repository, other.branch) == (self.repository, self.branch)

    @property
    def options(self) -> list[str]:
        """Options of the command line that find it."""
        return ["--hub", self.hub, *(["--revision", self.branch] if self.branch else [])]


def one_line(place: Place) -> Markdown:
    """How Sottovoce loads the model."""
    revision = f", revision={_quoted(place.branch)}" if place.branch else ""
    call = f"sottovoce.from_pretrained({_quoted(place.repository)}, hub={_quoted(place.hub)}{revision})"
    return fence(f"import sottovoce\n\nmodel = {call}", "python")


def stock(report: Report, place: Place, wording: Wording) -> Markdown | None:
    """How the model's own library loads it by its id; ``None`` where it cannot."""
    usage = report.card.hub_usage.get(place.hub, "")
    values = {"repository": place.repository, "revision": place.branch or DEFAULT_BRANCH.get(place.hub, "main")}
    return fence(_filled(usage, values, wording), "python") if usage.strip() else None


def stock_directory(report: Report, wording: Wording) -> Markdown | None:
    """How the model's own library loads it from a directory; ``None`` where the family does not say."""
    usage = report.card.usage
    return fence(_filled(usage, {"directory": _DIRECTORY}, wording), "python") if usage.strip() else None


def pull(place: Place) -> Markdown:
    """The command that fetches the model."""
    return _command("sottovoce", "pull", place.repository, *place.options, "--output", _DIRECTORY)


def packages(report: Report, wording: Wording) -> Markdown | None:
    """The command that installs what the model's own library needs; ``None`` where the family does not say."""
    if not report.card.packages:
        return None
    words = published.installable(report.card.packages)
    command = " ".join(shlex.quote(plain(word)) for word in ("pip", "install", *words))
    where = f"# {wording('in_a_clone')}\n" if published.is_in_clone(words) else ""
    return fence(f"{where}{command}", "sh")


def serving(report: Report, place: Place, wording: Wording) -> list[dict[str, Markdown]]:
    """For every format that the model is exported to, the command and the code that runs what it writes."""
    return [
        {
            "format": Markdown(f"**{wording.sentence(name)}**"),
            "command": _command(
                "sottovoce", "export", place.repository, *place.options, "--format", name, "--output", _EXPORTED
            ),
            "code": fence(_filled(usage, {"directory": _EXPORTED}, wording), "python"),
        }
        for name, usage in sorted(report.card.serving.items())
        if usage.strip()
    ]


def compress(report: Report, place: Place, preset: str | None) -> Markdown | None:
    """The command that makes the model again; ``None`` where one command does not."""
    if not report.steps or not report.is_by_one_recipe:
        return None
    source, samples, gate = report.source, report.samples, report.gate
    options = ["--recipe", preset or "recipe.yaml"]
    if source.repository:
        options += ["--hub", str(source.hub), *(["--revision", source.revision] if source.revision else [])]
    if samples:
        options += ["--data", samples.name or "DATA"]
    if gate and gate.samples and (samples is None or gate.samples.sha256 != samples.sha256):
        options += ["--gate-data", gate.samples.name or "GATE_DATA"]
    return _command("sottovoce", "compress", source.name, *options, "--output", place.name)


def preset_of(report: Report) -> str | None:
    """The name of core's preset that the recipe is; ``None`` for any other."""
    from sottovoce.recipe.presets import EXPERT_PRESETS, PRESETS

    known = {**PRESETS, **EXPERT_PRESETS}
    return next((name for name, recipe in known.items() if recipe.to_dict() == dict(report.recipe)), None)


def _command(*words: str) -> Markdown:
    return fence(" ".join(shlex.quote(plain(word)) for word in words), "sh")


def _filled(usage: str, values: Mapping[str, str], wording: Wording) -> str:
    """Put values in the places of a snippet, where they stand between quotation marks; doubled braces are one."""
    known = {"audio": _AUDIO, "text": wording("usage_text"), **values}

    def put(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        return _quoted(known[found[1]])[1:-1] if found[1] in known else found[0]

    return _PLACE.sub(put, usage)


def _quoted(value: str) -> str:
    return json.dumps(plain(value), ensure_ascii=False)
