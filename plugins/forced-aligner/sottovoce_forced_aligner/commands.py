"""``sottovoce align``."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import OUTPUT, Command
from sottovoce.cli.output import Output, verb
from sottovoce.errors import SamplesError, UsageError
from sottovoce.report.number_format import counted
from sottovoce.system.output_file import write
from sottovoce_forced_aligner.output_file import ALIGNMENT, FORMATS

if TYPE_CHECKING:
    from rich.table import Table

    from sottovoce import Architecture
    from sottovoce_forced_aligner.alignment import Alignment


@click.command(
    cls=Command,
    section="Use and publish",
    examples=('sottovoce align MODEL talk.wav --text "what was said" --output talk.srt',),
)
@click.argument("model")
@click.argument("audio", type=click.Path(path_type=Path))
@options.option("--text", help="What is said in AUDIO, all of it.")
@options.option("--text-file", type=click.Path(path_type=Path), help="A UTF-8 file that holds it.")
@options.option("--language", help="A name or an ISO code, such as English or en; by default the model's own.")
@options.option(
    "--format", "-f", "form", type=click.Choice(FORMATS), help="By default that of FILE's name.", section=OUTPUT
)
@options.option(
    "--output", "-o", type=click.Path(path_type=Path), help="FILE to write; by default standard output.", section=OUTPUT
)
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.option("--overwrite", is_flag=True, help="Replace the output file when it exists.", section=OUTPUT)
@verb
def align(
    out: Output,
    model: str,
    audio: Path,
    text: str | None,
    text_file: Path | None,
    language: str | None,
    form: str | None,
    output: Path | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Find when each word of a text is said in AUDIO, with a MODEL that aligns."""
    from sottovoce.entrypoints import load

    # All that can be wrong is looked at before the model is read.
    transcript = _transcript(text, text_file)
    _refuse_missing(audio)
    if output is not None:
        form = form or _format_of(output)
        ALIGNMENT.refuse_existing(output, overwrite, (audio, text_file))
    loaded = load.load(model, **where)
    _refuse_other_families(model, loaded.architecture)
    # The libraries that align are imported when the model is known to be one of theirs.
    from sottovoce_forced_aligner import aligner

    language = aligner.DEFAULT_LANGUAGE if language is None else language
    with out.progress() as progress:
        alignment = aligner.align(loaded, audio, transcript, language, progress=lambda *step: progress("align", *step))
    if output is not None:
        write(output, _written(alignment, form), overwrite)
    _show(out, alignment, form, output)


def _written(alignment: Alignment, form: str | None) -> str:
    """Return the alignment in a format, by default JSON."""
    writers = {"srt": alignment.to_srt, "textgrid": alignment.to_textgrid}
    return writers.get(form or "", alignment.to_json)()


def _show(out: Output, alignment: Alignment, form: str | None, output: Path | None) -> None:
    result: dict[str, Any] = json.loads(alignment.to_json())
    if output is not None:
        result["output"] = str(output)
    if out.as_json or form is None:
        out.result(result, lambda: _table(alignment))
    elif output is None and form == "json":
        out.json(result)
    elif output is None:
        out.text(_written(alignment, form))
    else:
        out.note(f"{output}: {counted(len(alignment.words), 'word')}")


def _table(alignment: Alignment) -> Table:
    """Return a table with a row for each word, in seconds."""
    from rich.table import Table

    table = Table(title=f"{counted(len(alignment.words), 'word')} in {alignment.duration:.2f} s", title_justify="left")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    table.add_column("word")
    for word in alignment.words:
        table.add_row(f"{word.start:.2f}", f"{word.end:.2f}", word.text)
    return table


def _transcript(text: str | None, text_file: Path | None) -> str:
    if (text is None) == (text_file is None):
        raise UsageError("align takes either --text or --text-file")
    if text_file is None:
        return text or ""
    try:
        return text_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SamplesError(f"{text_file}: cannot be read as UTF-8 text ({error})") from None


def _format_of(output: Path) -> str:
    form = output.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(f"{output}: its name says no format; give --format {', '.join(FORMATS)}")
    return form


def _refuse_missing(audio: Path) -> None:
    with contextlib.suppress(OSError):  # a name that no file can have
        if audio.is_file():
            return
    raise SamplesError(f"{audio}: no such audio file")


def _refuse_other_families(model: str, architecture: Architecture) -> None:
    from sottovoce_forced_aligner.architectures import ARCHITECTURES

    names = [aligner.name for aligner in ARCHITECTURES]
    if architecture.name not in names:
        raise UsageError(
            f"{model}: a model of {architecture.name} does not align; families that do: {', '.join(names)}"
        )
