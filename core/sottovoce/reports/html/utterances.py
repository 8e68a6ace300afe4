"""Utterances of the page: what differs, model by model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sottovoce.report import Comparison, Metric, Output, Utterance, number_format

_LANGUAGES = {"zh": "zh-Hans", "yue": "zh-Hans", "wuu": "zh-Hans"}
"""Codes by which browsers choose a font."""
_MOVED = 30
"""Words with other times that are named for one output."""


def utterance_rows(comparison: Comparison, metric: Metric | None, audio: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the utterances of a comparison.

    Args:
        comparison: The comparison.
        metric: The metric that decides.
        audio: By key, audio in base64.
    """
    reference = comparison.reference.name
    return [_row(utterance, reference, metric, audio.get(utterance.key)) for utterance in comparison.utterances]


def _row(utterance: Utterance, reference: str, metric: Metric | None, audio: str | None) -> dict[str, Any]:
    base = utterance.outputs[reference]
    facts = [f"{utterance.seconds:.1f} s"] if utterance.seconds else []
    sides = _sides(utterance, base, metric)
    return {
        "key": utterance.key,
        "facts": ", ".join([*facts, *([utterance.modality] if utterance.modality else [])]) or "text",
        "language": _LANGUAGES.get(utterance.language or "", utterance.language or ""),
        "reference": utterance.reference,
        "outputs": list(_outputs(utterance, base, metric)),
        "audio": audio,
        **{side: json.dumps(names, ensure_ascii=False) for side, names in sides.items()},
    }


def _sides(utterance: Utterance, base: Output, metric: Metric | None) -> dict[str, list[str]]:
    """Return the models whose error here is larger than the reference model's, smaller, or the same."""
    sides: dict[str, list[str]] = {"worse": [], "better": [], "other": []}
    sign = -1 if metric is not None and metric.better == "higher" else 1
    for name, output in utterance.outputs.items():
        if output is base:
            continue
        change = sign * ((output.error or 0.0) - (base.error or 0.0))
        if change:
            sides["worse" if change > 0 else "better"].append(name)
        elif (output.text, output.times) != (base.text, base.times):
            sides["other"].append(name)
    return sides


def _outputs(utterance: Utterance, base: Output, metric: Metric | None) -> Iterator[dict[str, Any]]:
    """Yield the different outputs, each with the models that give it."""
    groups: dict[Any, list[str]] = {}
    for name, output in utterance.outputs.items():
        groups.setdefault((output.text, output.times, output.error, output.cut_off), []).append(name)
    for names in groups.values():
        output = utterance.outputs[names[0]]
        error = ""
        if output.error is not None and metric is not None:
            error = number_format.value(float(output.error), metric.unit)
        yield {
            "names": ", ".join(names),
            "is_silent": not output.text,
            "is_cut_off": output.cut_off,
            # Without a reference there is nothing to align with.
            "edits": output.edits or ([("=", output.text, output.text)] if output.text else []),
            "moved": _moved(utterance, output, base),
            "error": error,
        }


def _moved(utterance: Utterance, output: Output, base: Output) -> str:
    """Return the words whose times are not those of the reference model, with the distances."""
    if output is base or len(output.times) != len(base.times):
        return ""
    words = utterance.words or tuple(str(number) for number in range(1, len(base.times) + 1))
    changes = []
    for word, times, before in zip(words, output.times, base.times, strict=False):
        pieces = [
            f"{name} {1000 * (now - then):+.0f} ms"
            for name, now, then in zip(("start", "end"), times, before, strict=True)
            if abs(now - then) > 0.0005
        ]
        if pieces:
            changes.append(f"{word} ({', '.join(pieces)})")
    more = f" and {len(changes) - _MOVED} more" if len(changes) > _MOVED else ""
    return "; ".join(changes[:_MOVED]) + more
