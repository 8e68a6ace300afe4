"""``sottovoce align``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli import options
from sottovoce.cli.output import Output, verb
from sottovoce.errors import OutputError, SamplesError, UsageError

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture

_START = 1000
_BEGINNING = re.compile(r'1\n\d\d:\d\d:\d\d,\d{3} --> |File type = "ooTextFile"|\{"language": ')
"""How what we write begins: subtitles, a TextGrid, JSON."""
_WRITERS = {"json": "to_json", "srt": "to_srt", "textgrid": "to_textgrid"}


@click.command()
@click.argument("model")
@click.argument("audio", type=click.Path(path_type=Path))
@click.option("--text", help="What is said in AUDIO, all of it.")
@click.option("--text-file", type=click.Path(path_type=Path), help="A UTF-8 file that holds it.")
@click.option("--language", help="A name or an ISO code, such as English or en; by default the model's own.")
@click.option("--format", "-f", "form", type=click.Choice(list(_WRITERS)), help="By default that of FILE's name.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="FILE to write; by default standard output.")
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@click.option("--overwrite", is_flag=True, help="Replace the output file when it exists.")
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
        form = form or _form_of(output)
        _refuse_existing(output, overwrite, (audio, text_file))
    loaded = load.load(model, **where)
    if loaded.architecture.align is None:
        raise UsageError(_not_an_aligner(model, loaded.architecture))
    chosen = {"language": language} if language is not None else {}
    with out.progress() as progress:
        found = loaded.architecture.align(
            loaded, audio, transcript, progress=lambda *step: progress("align", *step), **chosen
        )
    if output is not None:
        _write(output, getattr(found, _WRITERS[form or "json"])(), overwrite)
    _show(out, found, form, output)


def _show(out: Output, found: Any, form: str | None, output: Path | None) -> None:
    from sottovoce.reports import tables

    result: dict[str, Any] = json.loads(found.to_json())
    if output is not None:
        result["output"] = str(output)
    if out.as_json or form is None:
        out.result(result, lambda: tables.alignment(result))
    elif output is None and form == "json":
        out.json(result)
    elif output is None:
        out.text(getattr(found, _WRITERS[form])())
    else:
        out.note(f"{output}: {len(result['words'])} words")


def _transcript(text: str | None, text_file: Path | None) -> str:
    if (text is None) == (text_file is None):
        raise UsageError("align takes either --text or --text-file")
    if text_file is None:
        return text or ""
    try:
        return text_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SamplesError(f"{text_file}: cannot be read as UTF-8 text ({error})") from None


def _form_of(output: Path) -> str:
    form = output.suffix.lower().removeprefix(".")
    if form not in _WRITERS:
        raise UsageError(f"{output}: its name says no format; give --format {', '.join(_WRITERS)}")
    return form


def _not_an_aligner(model: str, architecture: Architecture) -> str:
    from sottovoce.plugins.host import default_host

    families = [name for name, each in default_host().architectures.items() if each.align is not None]
    known = ", ".join(families) or "none is installed; see `sottovoce plugins`"
    return f"{model}: a model of {architecture.name} does not align; families that do: {known}"


def _refuse_missing(audio: Path) -> None:
    with contextlib.suppress(OSError):  # a name that no file can have
        if audio.is_file():
            return
    raise SamplesError(f"{audio}: no such audio file")


def _refuse_existing(path: Path, overwrite: bool, read: Iterable[Path | None]) -> None:
    try:
        is_directory, is_file, exists = path.is_dir(), path.is_file(), path.exists()
        is_read = exists and any(source is not None and source.exists() and path.samefile(source) for source in read)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    if is_directory:
        raise UsageError(f"{path}: is a directory; give a file")
    if exists and not overwrite:
        raise UsageError(f"{path}: exists already; give another output, or --overwrite to replace it")
    if is_read:
        raise UsageError(f"{path}: is what is aligned, and is not replaced; give another output")
    if exists and not is_file:
        raise UsageError(f"{path}: is no file but a device or a pipe; leave --output out for standard output")
    if exists and not _is_alignment(path):
        raise UsageError(
            f"{path}: is no alignment by its name or content, and is not replaced; give another output, or remove it"
        )


def _is_alignment(path: Path) -> bool:
    """Whether a file may be replaced by an alignment: its name says that it is one, or its content begins as one."""
    if path.suffix.lower().removeprefix(".") in _WRITERS:
        return True
    try:
        with path.open(encoding="utf-8") as file:
            start = file.read(_START)
    except (OSError, UnicodeDecodeError):
        return False
    return not start or _BEGINNING.match(start) is not None


def _write(path: Path, text: str, overwrite: bool) -> None:
    """Beside its place, and renamed when it is whole; what another run wrote there meanwhile is not replaced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        _place(temporary, path, overwrite)
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _place(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        # A link, unlike a new name, is refused where there is something already.
        os.link(temporary, path)
    except FileExistsError:
        raise OutputError(
            f"{path}: was written by another run meanwhile, and is not replaced; this run's result is lost: "
            "give another output, or --overwrite"
        ) from None
    except OSError:  # a file system without links
        temporary.replace(path)
