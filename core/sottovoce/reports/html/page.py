"""The page of a comparison: one HTML file with everything in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sottovoce.report import ComparedModel, Comparison, Metric, number_format, to_json
from sottovoce.reports.html import charts
from sottovoce.reports.html.rows import layer_groups, metric_rows, model_rows, shown_costs
from sottovoce.reports.html.svg import marker
from sottovoce.reports.html.utterances import utterance_rows

TIMED = 20
"""Samples over which the models take turns at most."""
_HERE = Path(__file__).parent
_QUARTILES = "The line is the span of the quartiles of the rounds."
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(comparison: Comparison, audio: Mapping[str, bytes] | None = None, audio_note: str = "") -> str:
    """Return the page: valid HTML without any reference to another file or host.

    Args:
        comparison: The comparison; a single model gives the page of an evaluation.
        audio: By key of an utterance, its audio as an Ogg file with Opus.
        audio_note: Sentence on audio that is left out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["counted"] = number_format.counted
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    metric = comparison.reference.metrics.get(comparison.metric or "")
    metric = metric or comparison.models[-1].metrics.get(comparison.metric or "")
    encoded = {key: base64.b64encode(content).decode("ascii") for key, content in (audio or {}).items()}
    return environment.get_template("page.html.j2").render(
        c=comparison,
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        data=Markup(inside_script(to_json(comparison.to_dict()))),
        marks={model.name: Markup(marker(0, 0, number, 6)) for number, model in enumerate(comparison.models)},
        command=_command(comparison),
        metric=metric,
        arrow=_arrow(metric),
        has_tests=any(comparison.metric in model.tests for model in comparison.models),
        costs=shown_costs(comparison),
        rows=model_rows(comparison),
        charts=list(_charts(comparison, Markup)),
        metrics=metric_rows(comparison),
        layers=layer_groups(comparison),
        utterances=utterance_rows(comparison, metric, encoded),
        audio_note=audio_note,
        is_normalized=metric is not None and metric.name in ("cer", "wer"),
        commands=[model for model in comparison.models if model.command or model.steps],
        timed=TIMED,
    )


def inside_script(text: str) -> str:
    """Return JSON that may stand inside a ``script`` element: nothing in it can end the element."""
    for character, escaped in _UNSAFE.items():
        text = text.replace(character, escaped)
    return text


def _policy(style: str, script: str) -> str:
    """Return the policy by which a browser runs this page's own script alone, and fetches nothing."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")

    return (
        f"default-src 'none'; style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(script)}'; "
        "media-src data:; base-uri 'none'; form-action 'none'"
    )


def _arrow(metric: Metric | None) -> str:
    return {"higher": "↑", "lower": "↓"}.get((metric.better if metric else None) or "", "")


def _command(comparison: Comparison) -> str | None:
    return comparison.model(comparison.winner).command if comparison.winner else None


def _charts(comparison: Comparison, markup: Any) -> Iterator[dict[str, Any]]:
    """Yield the pictures that there is something to draw for."""
    drawn = [
        ("Size against error", charts.size_against_error(comparison), "Bars are 95 % intervals."),
        *(
            (cost["label"], picture, _QUARTILES if cost["timed"] else "")
            for cost in shown_costs(comparison)
            if (picture := charts.bars(comparison, cost["name"]))
        ),
        ("Size by part", charts.sizes_by_part(comparison), ""),
        ("Error of the layers' outputs", charts.output_errors(comparison), _layer_note(comparison.models)),
        ("Error of the layers' weights", charts.weight_errors(comparison), _layer_note(comparison.models)),
    ]
    for title, picture, note in drawn:
        if picture:
            yield {"title": title, "picture": markup(picture), "note": note.strip()}


def _layer_note(models: tuple[ComparedModel, ...]) -> str:
    left_out = sum(model.layers_left_out for model in models)
    rest = (
        f" {number_format.counted(left_out, 'layer')} with smaller errors {'is' if left_out == 1 else 'are'} left out."
        if left_out
        else ""
    )
    return f"As compression measured it; on a logarithmic axis.{rest}"
