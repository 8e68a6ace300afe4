"""Files of a comparison: the form in JSON, the page, and every prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.ownership import COMPARISON_PAGE, PREDICTIONS_FILE
from sottovoce.entrypoints.comparison.build import Entry, Setting, utterances_of
from sottovoce.entrypoints.comparison.utterances import LISTED, Utterances
from sottovoce.errors import OutputError
from sottovoce.metrics import kinds
from sottovoce.report import COMPARISON_FILE, Comparison, to_json
from sottovoce.reports.html.page import render
from sottovoce.samples import Sample, Samples
from sottovoce.system.atomic_write import write_atomically
from sottovoce.system.opus import encode_opus, require_opus

LARGEST_PAGE = 1_000_000
"""Bytes of a page without audio."""
LISTENED = 40
"""Utterances that have a player at most."""
LONGEST_AUDIO = 60.0
"""Seconds of audio that are kept in the page at most."""


def recorded(comparison: Comparison) -> Comparison:
    """Return what files keep of a comparison: no times of a busy machine."""
    models = [replace(model, metrics=kinds.recorded(model.metrics, comparison.machine)) for model in comparison.models]
    return replace(comparison, models=tuple(models))


def fitted(build: Callable[[int], Comparison]) -> tuple[Comparison, str]:
    """Return a comparison whose page takes at most 1 MB without audio, and the page: fewer utterances, if need be.

    Args:
        build: Function that builds the comparison with at most so many utterances.
    """
    listed = LISTED
    while True:
        comparison = build(listed)
        page = render(recorded(comparison))
        if len(page.encode()) <= LARGEST_PAGE or not listed:
            return comparison, page
        listed //= 2


def with_audio(comparison: Comparison, samples: Samples) -> str:
    """Return the page with a player for each utterance that is listed, the first ones.

    Raises:
        SottovoceError: PyAV is not installed.
    """
    require_opus()
    by_key = {sample.key: sample for sample in samples}
    audio: dict[str, bytes] = {}
    for utterance in comparison.utterances[:LISTENED]:
        sample = by_key.get(utterance.key)
        if sample is not None and sample.spoken:
            audio[utterance.key] = encode_opus(sample.spoken[0], LONGEST_AUDIO, name=f"sample {sample.key!r}")
    return render(recorded(comparison), audio, _what_plays(comparison, by_key))


def _what_plays(comparison: Comparison, samples: Mapping[str, Sample]) -> str:
    """Return a sentence on what the players leave out; nothing where they leave out nothing."""
    listened = comparison.utterances[:LISTENED]
    sentence = f"Players are in the first {LISTENED} utterances. " if len(comparison.utterances) > LISTENED else ""
    recordings = [samples[utterance.key].spoken for utterance in listened if utterance.key in samples]
    if any(len(spoken) > 1 for spoken in recordings):
        sentence += "Of several recordings, the first plays. "
    if any(utterance.seconds > LONGEST_AUDIO for utterance in listened):
        sentence += f"They play {LONGEST_AUDIO:.0f} s at most."
    return sentence.strip()


def write_comparison(
    directory: Path, comparison: Comparison, page: str, entries: Sequence[Entry], setting: Setting
) -> None:
    """Write ``comparison.json``, ``comparison.html`` and ``predictions.jsonl``, the form last.

    Raises:
        OutputError: The file system refused.
    """
    lines = _predictions(entries, utterances_of(entries, comparison, setting), setting.samples)
    write_files(
        directory,
        {
            PREDICTIONS_FILE: "".join(f"{to_json(line)}\n" for line in lines),
            COMPARISON_PAGE: page,
            COMPARISON_FILE: to_json(recorded(comparison).to_dict(), indent=1) + "\n",
        },
    )


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write texts to a directory, each of them whole or not at all.

    Raises:
        OutputError: The file system refused.
    """
    for name, text in files.items():
        try:
            write_atomically(directory / name, text)
        except OSError as error:
            raise OutputError(f"{directory / name}: could not be written ({error.strerror or error})") from error


def _predictions(entries: Sequence[Entry], utterances: Utterances, samples: Samples) -> Iterator[dict[str, Any]]:
    for number, sample in enumerate(samples):
        yield {
            "key": sample.key,
            "target": sample.text,
            "models": {entry.name: _prediction(entry, number, utterances) for entry in entries},
        }


def _prediction(entry: Entry, number: int, utterances: Utterances) -> dict[str, Any]:
    run = entry.measurement.run
    prediction = run.predictions[number]
    form: dict[str, Any] = {"text": prediction.text, "edits": changes(utterances, number, entry.name)}
    form |= {"error": utterances.error(number, entry.name), "seconds": round(run.seconds[number], 6)}
    form |= {"times": [list(pair) for pair in prediction.timestamps]} if prediction.timestamps else {}
    return form | ({"cut_off": True} if prediction.cut_off else {})


def changes(utterances: Utterances, number: int, model: str) -> list[list[str]]:
    """Return the edits that make a model's text of the reference, without what is equal."""
    return [list(edit) for edit in utterances.edits(number, model) if edit[0] != "="]


def evaluation_predictions(
    entries: Sequence[Entry], utterances: Utterances, samples: Samples
) -> Iterator[dict[str, Any]]:
    """Yield a line for every sample of an evaluation: key, target, baseline, model, edits, seconds.

    Args:
        entries: The baseline, if there is one, and the model.
        utterances: Their predictions.
        samples: The samples.
    """
    *baseline, model = entries
    for number, sample in enumerate(samples):
        form: dict[str, Any] = {"key": sample.key, "target": sample.text}
        if baseline:
            before = baseline[0].measurement.run.predictions[number]
            form |= {"baseline": before.text} | ({"baseline_cut_off": True} if before.cut_off else {})
        prediction = _prediction(model, number, utterances)
        yield form | {"model": prediction.pop("text")} | prediction
