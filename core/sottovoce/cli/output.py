"""Output of every command: ``--json``, ``--quiet``, ``--debug``, a clean standard output, progress."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli.command import OUTPUT, Option
from sottovoce.cli.signals import INTERRUPTED, Terminated, end_if_requested
from sottovoce.cli.streams import printing
from sottovoce.errors import UsageError
from sottovoce.system import distributed
from sottovoce.text.plain_text import plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


_SHARED = ("compress", "evaluate")
"""Commands that several processes, as ``torchrun`` starts them, share the work of."""


class Output:
    """Writer of results to standard output, and of progress and messages to standard error; in the main process."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._stdout = sys.stdout
        self.warned: set[str] = set()
        """Warnings that were logged, and so were shown."""

    def result(self, form: Any, table: Callable[[], RenderableType]) -> None:
        """Print the JSON form, or the table that ``table`` returns."""
        from rich.console import Console

        if self.as_json:
            self.json(form)
        else:
            # A pipe has no width, for which a table must not be cut.
            width = None if self._stdout.isatty() else 140
            console = Console(file=self._stdout, width=width, markup=False)
            with console.capture() as captured:
                console.print(_Plain(table()))
            self._print(captured.get())

    def json(self, form: Any) -> None:
        """Print one JSON object, in ASCII if the terminal's encoding lacks its characters."""
        from sottovoce.report import to_json

        text = to_json(form)
        try:
            text.encode(self._stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            text = to_json(form, ascii=True)
        self._print(f"{text}\n")

    def text(self, text: str) -> None:
        """Print a result that is text of another format."""
        self._print(text if text.endswith("\n") else f"{text}\n")

    def _print(self, text: str) -> None:
        if not distributed.is_main():
            return
        with printing():
            self._stdout.write(text)
            self._stdout.flush()

    def note(self, message: str) -> None:
        """Print a message to standard error, unless ``--quiet`` is given."""
        if not self.quiet:
            click.echo("\n".join(map(plain, message.split("\n"))), err=True)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Show progress on standard error: a live line in a terminal, elsewhere a line every 30 seconds."""
        from sottovoce.system.progress import shown

        with shown(not self.quiet) as report:

            def update(task: str, done: int, total: int) -> None:
                end_if_requested()
                report(plain(task), done, total)

            yield update


class _Plain:
    """Renderable without characters that would control a terminal: names in it may be of a hostile file."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the content's segments, cleaned."""
        from rich.segment import Segment

        for segment in console.render(self._content, options):
            text = "\n".join(map(plain, segment.text.split("\n")))
            yield segment if segment.control else Segment(text, segment.style)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--json``, ``--quiet`` and ``--debug``, and keep standard output for the result."""

    @click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on standard output.", cls=Option, section=OUTPUT
    )
    @click.option("--quiet", "-q", is_flag=True, help="No progress and no messages.", cls=Option, section=OUTPUT)
    @click.option(
        "--debug",
        is_flag=True,
        help="Show the traceback of an error and the libraries' own messages.",
        cls=Option,
        section=OUTPUT,
    )
    @functools.wraps(function)
    def run(as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
        if distributed.world_size() > 1 and function.__name__ not in _SHARED:
            raise UsageError(f"sottovoce {function.__name__} runs in one process; start it without torchrun")
        out = Output(as_json, quiet or not distributed.is_main())
        _require_working_directory()
        try:
            with contextlib.redirect_stdout(sys.stderr), _library_noise(out, debug):
                function(out, **options)
        except KeyboardInterrupt:
            # click would print an empty line first.
            raise Terminated("interrupted", INTERRUPTED) from None

    return run


def _require_working_directory() -> None:
    """Refuse a missing working directory, without which libraries end the process silently.

    Raises:
        UsageError: It is missing.
    """
    try:
        Path.cwd()
    except OSError:
        raise UsageError("the working directory does not exist any more: change to another one") from None


@contextlib.contextmanager
def _library_noise(out: Output, debug: bool) -> Iterator[None]:
    from sottovoce.plugins.host import PluginWarning
    from sottovoce.system.isolation import NOISY_LOGGERS

    if debug:
        yield
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("MODELSCOPE_LOG_LEVEL", str(logging.ERROR))
    if out.quiet or not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TQDM_DISABLE", "1")
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), _log_to(out):
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PluginWarning)
        warnings.showwarning = lambda message, *_: out.note(f"warning: {message}")
        yield


class _Notes(logging.Handler):
    """Log handler that passes records to the output."""

    def __init__(self, out: Output) -> None:
        super().__init__(logging.WARNING)
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        message = record.getMessage()
        self._out.warned.add(message)
        self._out.note(f"{record.levelname.lower()}: {message}")


@contextlib.contextmanager
def _log_to(out: Output) -> Iterator[None]:
    """Print the records of the logger ``sottovoce`` as messages, which ``--quiet`` suppresses."""
    handler = _Notes(out)
    logger = logging.getLogger("sottovoce")
    logger.addHandler(handler)
    # A library that sets up logging would print every record twice.
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
