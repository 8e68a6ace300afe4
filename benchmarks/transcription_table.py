"""The table of ``transcribe.py``'s results."""

from __future__ import annotations

from typing import Any

from captions import measured_by
from markdown_tables import format_table


def table(figures: dict[str, Any]) -> str:
    """Return the table of the long audio and of the first word, and under it what it was measured on."""
    audio, long, first = figures["audio"], figures["long"], figures["first_word"]
    minutes = f"{audio['minutes']:g} min of audio"
    rows = [
        [f"{minutes}, wall time", *(_seconds(run) for run in long.values())],
        ["its ratio to Sottovoce", *(f"{run['ratio']:.2f}" for run in long.values())],
        ["CPU time", *(f"{run['cpu_seconds']:.1f} s" for run in long.values())],
        ["its ratio to Sottovoce", *(f"{run['cpu_ratio']:.2f}" for run in long.values())],
        ["characters of text", *(str(run["characters"]) for run in long.values())],
        ["start to first word, 1 s of audio", *(_seconds(first[path]) if path in first else "" for path in long)],
        ["its ratio to Sottovoce", *(f"{first[path]['ratio']:.2f}" if path in first else "" for path in long)],
    ]
    rounds = len(next(iter(long.values()))["all_seconds"])
    caption = (
        f"Medians of {rounds} rounds, with the least and the greatest. The audio has {audio['segments']} segments with "
        f"{audio['speech_seconds']:.0f} s of speech. {measured_by('transcribe.py', figures['machine'])}"
    )
    return f"{format_table(['', *long], rows)}\n\n{caption}"


def _seconds(run: dict[str, Any]) -> str:
    return f"{run['seconds']:.1f} s ({min(run['all_seconds']):.1f} to {max(run['all_seconds']):.1f})"
