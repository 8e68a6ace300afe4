"""Files that ``sottovoce transcribe`` reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.cli.output import Output
from sottovoce.errors import SamplesError, UsageError
from sottovoce.report.number_format import counted
from sottovoce.system.audio_files import SUFFIXES
from sottovoce.system.output_file import refuse_unwritable, write
from sottovoce.transcription.files import FORMATS, TRANSCRIPT, to_text
from sottovoce.transcription.transcript import Transcript


@dataclass(frozen=True)
class Job:
    """One file to transcribe, and where its transcript goes."""

    audio: Path
    form: str
    output: Path | None
    """File to write; ``None`` for standard output."""
    overwrite: bool

    def write(self, transcript: Transcript) -> None:
        """Write the file, if there is one.

        Raises:
            OutputError: It could not be written.
        """
        if self.output is not None:
            write(self.output, to_text(transcript, self.form), self.overwrite)

    def result(self, transcript: Transcript) -> dict[str, Any]:
        """Return the transcript as ``--json`` prints it."""
        written = {} if self.output is None else {"output": str(self.output)}
        return {"file": str(self.audio), **transcript.to_dict(), **written}

    def show(self, out: Output, transcript: Transcript, alone: bool) -> None:
        """Print the transcript, or the name of the file that holds it."""
        if self.output is not None:
            segments = counted(len(transcript.segments), "segment")
            out.note(f"{self.output}: {segments}, {transcript.duration:.1f} s of audio")
        elif alone:
            out.text(to_text(transcript, self.form))
        else:
            out.text(f"{self.audio}: {transcript.text}")


def plan(audio: Sequence[Path], output: str | None, form: str | None, overwrite: bool, *, as_json: bool) -> list[Job]:
    """Return what is to be done, and refuse what cannot be.

    Args:
        audio: Files, and directories of them.
        output: A file for a single file of audio, or a directory.
        form: Name of a format; by default that of the output's name.
        overwrite: If true, transcripts of earlier runs may be replaced.
        as_json: If true, standard output takes any number of transcripts.

    Raises:
        SamplesError: A directory holds no audio.
        UsageError: The outputs exist, have one name, or cannot all go to standard output.
        OutputError: An output cannot be written.
    """
    files = [entry for path in audio for entry in _files(path)]
    if output is None:
        form = form or "txt"
        if len(files) > 1 and form != "txt" and not as_json:
            raise UsageError(f"--format {form} of {len(files)} files: give --output and a directory")
        return [Job(path, form, None, overwrite) for path, _ in files]
    target = Path(output)
    if len(files) == 1 and not audio[0].is_dir() and not target.is_dir() and not output.endswith(("/", os.sep)):
        jobs = [Job(files[0][0], form or _format_of(target), target, overwrite)]
    else:
        _refuse_name_of_a_file(output)
        form = form or "txt"
        # What is given twice, as by a directory and by name, is transcribed once.
        jobs = [Job(path, form, target / name, overwrite) for path, name in _named(dict.fromkeys(files), form)]
    _check_outputs(jobs)
    return jobs


def _named(files: Iterable[tuple[Path, Path]], form: str) -> Iterator[tuple[Path, Path]]:
    """Yield files with the names of their transcripts; those that would share one keep the endings of their own."""
    names = [(path, name, name.with_suffix(f".{form}")) for path, name in files]
    owners: dict[Path, set[Path]] = {}
    for path, _, short in names:
        owners.setdefault(short, set()).add(path)
    for path, name, short in names:
        yield path, short if len(owners[short]) == 1 else name.with_name(f"{name.name}.{form}")


def _files(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield files with the name below which each one's transcript goes; those in a directory keep their folders.

    What is missing or cannot be read has its turn too, which says so.
    """
    try:
        is_directory = path.is_dir()
    except OSError:  # a name that no file can have
        is_directory = False
    if not is_directory:
        yield path, Path(path.name)
        return
    files = sorted(_audio_below(path))
    if not files:
        raise SamplesError(f"{path}: no audio files in this directory ({', '.join(sorted(SUFFIXES))})")
    yield from ((file, file.relative_to(path)) for file in files)


def _audio_below(path: Path) -> Iterator[Path]:
    """Yield the audio files below a directory, with links to nothing, and directories that may not be read.

    What is hidden is left out.
    """
    closed: list[str] = []
    for folder, folders, names in os.walk(path, onerror=lambda error: closed.append(str(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(folder, name)
            if not name.startswith(".") and file.suffix.lower() in SUFFIXES and (file.is_file() or file.is_symlink()):
                yield file
    yield from map(Path, closed)


def _refuse_name_of_a_file(output: str) -> None:
    """Refuse an output for many files that is named as one."""
    form = Path(output).suffix.lower().removeprefix(".")
    if form in FORMATS and not Path(output).is_dir() and not output.endswith(("/", os.sep)):
        raise UsageError(f"{output}: many files do not go into one; give --output and a directory, and --format {form}")


def _format_of(output: Path) -> str:
    form = output.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(
            f"{output}: its name says no format; give --format {', '.join(FORMATS)}, or a directory that exists"
        )
    return form


def _check_outputs(jobs: Sequence[Job]) -> None:
    owners: dict[Path, Path] = {}
    for job in jobs:
        if job.output is None:
            continue
        if (other := owners.setdefault(job.output, job.audio)) != job.audio:
            raise UsageError(
                f"{other} and {job.audio}: both would be {job.output}; "
                "give a directory that holds both, which keeps their folders, or rename one"
            )
        TRANSCRIPT.refuse_existing(job.output, job.overwrite, (job.audio,))
        refuse_unwritable(job.output)
