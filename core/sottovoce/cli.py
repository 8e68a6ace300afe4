"""The command line: every verb, as a table for people or as one JSON object for scripts."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import sottovoce
from sottovoce.errors import SottovoceError

if TYPE_CHECKING:
    from rich.console import RenderableType

INTERRUPTED = 130


class Output:
    """Where results, progress and messages go: results to standard output, all else to standard error."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._stdout = sys.stdout

    def result(self, form: Any, table: Callable[[], RenderableType]) -> None:
        """Print the JSON form, or the table that ``table`` makes."""
        from rich.console import Console

        if self.as_json:
            print(json.dumps(form, ensure_ascii=False), file=self._stdout, flush=True)
        else:
            # A pipe has no width; a table must not be cut for it.
            width = None if self._stdout.isatty() else 140
            Console(file=self._stdout, width=width, markup=False).print(table())

    def note(self, message: str) -> None:
        """A message for people, on standard error."""
        if not self.quiet:
            click.echo(message, err=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """A progress bar on standard error, when that is a terminal."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        tasks: dict[str, Any] = {}
        with Progress(*columns, console=console, disable=self.quiet or not console.is_terminal) as bar:

            def update(what: str, done: int, total: int) -> None:
                _end_if_asked()
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done)

            yield update


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--json``, ``--quiet`` and ``--debug``, and keep standard output for the result."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
    @click.option("--quiet", "-q", is_flag=True, help="No progress and no messages.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error and the libraries' own messages.")
    @functools.wraps(function)
    def run(as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
        out = Output(as_json, quiet)
        try:
            with contextlib.redirect_stdout(sys.stderr), _library_noise(out, debug):
                function(out, **options)
        except KeyboardInterrupt:
            # click would print an empty line first.
            raise Ended("interrupted", INTERRUPTED) from None

    return run


@contextlib.contextmanager
def _library_noise(out: Output, debug: bool) -> Iterator[None]:
    from sottovoce.host import PluginWarning

    if debug:
        yield
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("MODELSCOPE_LOG_LEVEL", str(logging.ERROR))
    if out.quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PluginWarning)
        warnings.showwarning = lambda message, *_: out.note(f"warning: {message}")
        yield


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(sottovoce.__version__, message="sottovoce %(version)s")
def cli() -> None:
    """Make speech and multimodal models small, with proof of what it cost.

    \b
    Examples:
      sottovoce demo
      sottovoce inspect MODEL --recipe int8
      sottovoce compress MODEL --recipe int8 --output SMALL
      sottovoce evaluate SMALL --data test.jsonl --baseline MODEL
      sottovoce export MODEL --format onnx --output ONNX

    MODEL is a directory, an alias of the model's library, or an id on a hub.
    """  # noqa: D301  (\b is click's: it keeps the lines as they are)


_device = click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
_hub = click.option(
    "--hub", type=click.Choice(["hf", "modelscope"]), help="The hub of an id; by default the library's."
)
_revision = click.option("--revision", help="Branch, tag or commit to fetch.")
_output = click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Directory to write.")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace the output directory when it exists.")


@cli.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("outputs/demo"), show_default=True)
@verb
def demo(out: Output, output: Path) -> None:
    """Compress a small bundled model, evaluate both, save, reload and run it. Offline, under a minute."""
    from sottovoce import demonstration

    with out.progress() as progress:
        result = demonstration.run(output, out.note, progress)
    out.result(result.to_dict(), result.table)


@cli.command()
@verb
def plugins(out: Output) -> None:
    """List the installed plugins and the model families they know."""
    from rich.table import Table

    from sottovoce.host import default_host

    host = default_host()
    rows = [{"name": each.name, "distribution": each.distribution, "version": each.version, "error": each.error}
            for each in host.plugins]  # fmt: skip
    families = {name: list(each.matches) for name, each in host.architectures.items()}

    def table() -> Table:
        table = Table("plugin", "distribution", "version", "state")
        for row in rows:
            table.add_row(row["name"], row["distribution"], row["version"], row["error"] or "loaded")
        table.caption = "\n".join(f"{name}: {', '.join(classes)}" for name, classes in families.items())
        return table

    out.result({"plugins": rows, "architectures": families}, table)


@cli.command()
@verb
def recipes(out: Output) -> None:
    """List the recipes that have a name."""
    from rich.table import Table

    from sottovoce.host import default_host

    presets = default_host().presets

    def table() -> Table:
        table = Table("recipe", "steps")
        for name, recipe in presets.items():
            table.add_row(name, recipe.to_yaml().strip())
        return table

    out.result({name: recipe.to_dict() for name, recipe in presets.items()}, table)


@cli.command()
@verb
def env(out: Output) -> None:
    """Say what a bug report needs: machine, versions, engines, plugins."""
    from rich.table import Table

    from sottovoce.formats.int8_linear import engine
    from sottovoce.host import default_host
    from sottovoce.machine import describe_machine

    facts = {
        "sottovoce": sottovoce.__version__,
        **describe_machine(),
        "int8_engine": engine(),
        "plugins": {each.name: each.error or each.version for each in default_host().plugins},
    }

    def table() -> Table:
        table = Table(show_header=False)
        for key, entry in facts.items():
            text = (
                ", ".join(f"{name} {value}" for name, value in entry.items()) if isinstance(entry, dict) else str(entry)
            )
            table.add_row(key, text)
        return table

    out.result(facts, table)


@cli.command()
@click.argument("model")
@click.option("--recipe", "-r", help="A recipe's name or file: shows what it would do, and the size it would give.")
@_hub
@_revision
@verb
def inspect(out: Output, model: str, recipe: str | None, **options: Any) -> None:
    """Show what would be compressed, what would not and why. Runs nothing."""
    from sottovoce import tables
    from sottovoce.pipeline import inspect as inspect_model

    facts = inspect_model(model, recipe, **options)
    out.result(facts, lambda: tables.inspection(facts))


@cli.command()
@click.argument("model")
@click.option("--recipe", "-r", required=True, help="A recipe's name (see `sottovoce recipes`) or a YAML or JSON file.")
@_output
@click.option("--data", type=click.Path(path_type=Path), help="Calibration samples, for recipes that need them.")
@_device
@_hub
@_revision
@_overwrite
@verb
def compress(
    out: Output, model: str, recipe: str, output: Path, data: Path | None, overwrite: bool, **options: Any
) -> None:
    """Compress MODEL by a recipe and write it to a directory."""
    from sottovoce import loading, pipeline, tables
    from sottovoce.checkpoint.directory import refuse_existing
    from sottovoce.host import default_host
    from sottovoce.samples import read_samples

    # All that can be wrong is looked at before the model is read.
    refuse_existing(output, overwrite)
    chosen = default_host().recipe(recipe)
    samples = read_samples(data) if data else None
    loaded = loading.load(model, **options)
    with out.progress() as progress:
        report = pipeline.compress(loaded, chosen, samples, progress=progress)
        pipeline.save(loaded, output, overwrite=overwrite)
    form = report.to_dict()
    out.result(form, lambda: tables.compression(form))


@cli.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A .jsonl manifest, or a Kaldi directory.")
@click.option("--baseline", help="A model to compare with, usually the uncompressed one.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Directory for evaluation.json.")
@_device
@_hub
@_revision
@_overwrite
@verb
def evaluate(
    out: Output, model: str, data: Path, baseline: str | None, output: Path | None, overwrite: bool, **options: Any
) -> None:
    """Measure MODEL on DATA: error rates, speed, size, memory; beside a baseline when one is given."""
    from sottovoce import evaluation, tables
    from sottovoce.checkpoint.directory import new_directory, refuse_existing

    if output is not None:
        refuse_existing(output, overwrite)
    with out.progress() as progress:
        report = evaluation.evaluate(model, data, baseline, progress=progress, **options)
    form = report.to_dict()
    if output is not None:
        with new_directory(output, overwrite) as temporary:
            text = json.dumps(form, indent=1, ensure_ascii=False) + "\n"
            (temporary / "evaluation.json").write_text(text, encoding="utf-8")
    out.result(form, lambda: tables.evaluation(report))


@cli.command()
@click.argument("model")
@click.option("--format", "-f", "format_name", required=True, help="What to write, such as onnx.")
@_output
@_hub
@_revision
@_overwrite
@verb
def export(out: Output, model: str, format_name: str, output: Path, overwrite: bool, **options: Any) -> None:
    """Write MODEL in a format that another engine runs."""
    from rich.table import Table

    from sottovoce import loading, pipeline, tables
    from sottovoce.checkpoint.directory import refuse_existing

    refuse_existing(output, overwrite)
    loaded = loading.load(model, **options)
    _end_if_asked()
    path = pipeline.export(loaded, format_name, output, overwrite=overwrite)
    files = {
        each.relative_to(path).as_posix(): each.stat().st_size for each in sorted(path.rglob("*")) if each.is_file()
    }

    def table() -> Table:
        table = Table("file", "size", title=str(path), title_justify="left")
        for name, count in files.items():
            table.add_row(name, tables.size(count))
        return table

    out.result({"output": str(path), "format": format_name, "files": files}, table)


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    # A terminated process cleans up as an interrupted one does.
    for number, ordinary in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == ordinary:
            signal.signal(number, _end)
    sys.exit(_run())


class Ended(BaseException):
    """The process was asked to end."""

    def __init__(self, how: str, exit_code: int) -> None:
        super().__init__(how)
        self.how, self.exit_code = how, exit_code


_asked: list[Ended] = []
"""What the process was asked to end by: while FunASR is imported, an exception from a signal is lost there."""


def _end(number: int, _: object) -> None:
    interrupted = number == signal.SIGINT
    _asked.append(Ended("interrupted", INTERRUPTED) if interrupted else Ended("terminated", 128 + number))
    raise KeyboardInterrupt if interrupted else _asked[-1]


def _end_if_asked() -> None:
    if _asked:
        raise _asked[-1]


def _run() -> int:
    debug = "--debug" in sys.argv
    try:
        cli(standalone_mode=False)
    except SottovoceError as error:
        return _fail(str(error), error.exit_code, debug)
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except click.ClickException as error:
        return _fail(f"{error.format_message()}; see sottovoce --help", error.exit_code, debug)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED, debug)
    except Ended as end:
        return _fail(f"{end.how}; nothing was left half-written", end.exit_code, debug)
    except MemoryError:
        return _fail("the machine's memory is not enough for this model", 1, debug)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        return _fail(f"{type(error).__name__}: {reason}; this is a bug: report it with the output of --debug", 1, debug)
    return 0


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    # One line, whatever a file's name or a library's error has in it.
    click.echo(f"error: {' '.join(message.splitlines())}", err=True)
    return code
