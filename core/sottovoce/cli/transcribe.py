"""Command ``sottovoce transcribe``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import OUTPUT, Command
from sottovoce.cli.output import Output, verb
from sottovoce.errors import CancelledError, SottovoceError, UsageError
from sottovoce.report.number_format import counted
from sottovoce.transcription.files import FORMATS

if TYPE_CHECKING:
    from sottovoce.cli.transcription_files import Job
    from sottovoce.transcription.transcriber import Transcriber


@click.command(
    cls=Command,
    section="Use and publish",
    examples=(
        "sottovoce transcribe MODEL talk.m4a",
        "sottovoce transcribe MODEL talk.m4a --vad fsmn-vad --punc ct-punc --output talk.srt",
        "sottovoce transcribe MODEL meeting.m4a --vad fsmn-vad --punc ct-punc --spk cam++",
        "sottovoce transcribe MODEL recordings/ --format json --output transcripts/",
    ),
)
@click.argument("model")
@click.argument("audio", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False))
@options.option("--vad", help="Model that finds where somebody speaks; it cuts long audio.")
@options.option("--punc", help="Model that punctuates the text.")
@options.option("--aligner", help="Model that finds the times of words, where MODEL has none.")
@options.option("--spk", help="Model that tells speakers apart; it needs --vad.")
@options.option("--speakers", type=click.IntRange(1, 100), metavar="N", help="Number of speakers, if it is known.")
@options.option(
    "--hotword", multiple=True, metavar="WORD", help="A word that is likely, for models that take them; repeatable."
)
@options.option("--language", help="A name or an ISO code of what is spoken, such as English or en.")
@options.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(tuple(FORMATS)),
    help="Format; by default that of FILE's name, or txt.",
    section=OUTPUT,
)
@options.option(
    "--output", "-o", help="FILE to write, or a directory for many; by default standard output.", section=OUTPUT
)
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.option("--overwrite", is_flag=True, help="Replace output files that exist.", section=OUTPUT)
@verb
def transcribe(
    out: Output,
    model: str,
    audio: tuple[Path, ...],
    vad: str | None,
    punc: str | None,
    aligner: str | None,
    spk: str | None,
    speakers: int | None,
    hotword: tuple[str, ...],
    language: str | None,
    form: str | None,
    output: str | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Write down what is said in AUDIO: files of any format, or directories of them.

    Files that cannot be read are reported, and the others are transcribed; the exit code is 1 then. Audio of more than
    a minute is cut into pieces, with --vad between stretches of speech. MODEL and the other models are directories,
    aliases of their library, or ids on a hub.
    """
    from sottovoce.cli.transcription_files import plan
    from sottovoce.entrypoints.transcribe import load_transcriber

    # All that can be wrong is looked at before a model is read.
    jobs = plan(audio, output, form, overwrite, as_json=out.as_json)
    transcriber = load_transcriber(model, vad=vad, punctuation=punc, aligner=aligner, diarizer=spk, **where)
    settings = {"hotwords": hotword, "language": language, "speakers": speakers}
    results, errors = _transcribed(out, transcriber, jobs, settings)
    if out.as_json:
        out.json({"transcripts": results, "errors": errors})
    if errors:
        raise SottovoceError(
            f"{len(errors)} of {counted(len(jobs), 'file')} could not be transcribed; see the lines above"
        )


def _transcribed(
    out: Output, transcriber: Transcriber, jobs: list[Job], settings: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Transcribe the files one after another, and return their transcripts and errors as JSON has them."""
    results: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    with out.progress() as progress:
        for job in jobs:

            def update(task: str, done: int, total: int, name: str = job.audio.name) -> None:
                progress(name if task == "transcribe" else f"{name}: {task}", done, total)

            try:
                transcript = transcriber.transcribe(job.audio, progress=update, **settings)
                job.write(transcript)
            except (UsageError, CancelledError):
                raise
            except SottovoceError as error:
                if len(jobs) == 1:
                    raise
                click.echo(f"error: {error}", err=True)
                errors.append({"file": str(job.audio), "error": str(error)})
                continue
            results.append(job.result(transcript))
            if not out.as_json:
                job.show(out, transcript, alone=len(jobs) == 1)
    return results, errors
