"""Command line, with results as tables for people or as one JSON object for scripts."""

from __future__ import annotations

import os
import sys
import traceback

import click

import sottovoce
from sottovoce.cli import (
    check,
    compare,
    compress,
    demo,
    diff,
    env,
    evaluate,
    export,
    inspect,
    plugins,
    pull,
    push,
    recipes,
    search,
    serve,
    streams,
    transcribe,
)
from sottovoce.cli.failure import explain
from sottovoce.cli.group import Commands
from sottovoce.cli.signals import INTERRUPTED, Terminated, handle_signals, ignore_signals
from sottovoce.errors import SottovoceError
from sottovoce.network.attended import is_anything_left
from sottovoce.system import distributed, telemetry
from sottovoce.system.interpreter import end_quickly

SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(sottovoce.__version__, message="sottovoce %(version)s")
def cli() -> None:
    """Make speech and multimodal models small, with proof of what it cost.

    \b
    Examples:
      sottovoce demo
      sottovoce inspect MODEL --recipe int8
      sottovoce compress MODEL --recipe int8 --output SMALL
      sottovoce search MODEL --data calibration.jsonl --budget x0.2 --output recipe.yaml
      sottovoce evaluate SMALL --data test.jsonl --baseline MODEL
      sottovoce transcribe SMALL talk.mp3 --vad fsmn-vad --punc ct-punc
      sottovoce compare MODEL --recipes int8,int4 --data calibration.jsonl --test test.jsonl --output DIR
      sottovoce serve SMALL --compare MODEL
      sottovoce export MODEL --format onnx --output ONNX
      sottovoce push SMALL owner/name --dry-run

    MODEL is a directory, an alias of the model's library, or an id on a hub.
    """  # noqa: D301  (\b is click's: it keeps the lines as they are)


for _command in (
    demo.demo,
    inspect.inspect,
    search.search,
    compress.compress,
    evaluate.evaluate,
    compare.compare,
    diff.diff,
    check.check,
    transcribe.transcribe,
    serve.serve,
    export.export,
    push.push,
    pull.pull,
    plugins.plugins,
    recipes.recipes,
    env.env,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; exit 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    telemetry.forbid()
    streams.open_closed()
    handle_signals()
    streams.show_any_character()
    end_quickly()
    try:
        code = _run()
    except (KeyboardInterrupt, Terminated):
        # A second request, while the first was being reported.
        code = INTERRUPTED
    ignore_signals()
    streams.leave()
    if is_anything_left():
        # The hubs' clients sleep for minutes in threads that Python would wait for.
        os._exit(code)
    sys.exit(code)


def _call() -> None:
    """Run the command; it is not an error if the reader of standard output stops reading."""
    try:
        cli(standalone_mode=False)
    except (streams.ReaderGoneError, BrokenPipeError):
        return
    except SystemExit:
        # click exits by itself if nobody reads its help to the end; it has wrapped the stream then.
        if not type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            raise


def _run() -> int:
    debug = "--debug" in sys.argv
    try:
        _call()
    except SottovoceError as error:
        return _fail(str(error), error.exit_code, debug)
    except click.exceptions.Exit as exit_request:
        return exit_request.exit_code
    except click.ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later
            click.echo(error.format_message())
            return 0
        advice = _of_a_dash(error) or f"see {_command_line(getattr(error, 'ctx', None))} --help"
        return _fail(f"{error.format_message().rstrip('.?')}; {advice}", error.exit_code, debug)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED, debug)
    except Terminated as termination:
        return _fail(f"{termination.reason}; {termination.left}", termination.exit_code, debug)
    except Exception as error:
        return _fail(explain(error), 1, debug)
    return 0


def _of_a_dash(error: click.ClickException) -> str:
    """Return what to write for a file whose name begins with a dash, if that is what was taken for an option."""
    if not isinstance(error, click.NoSuchOption):
        return ""
    names = [argument for argument in sys.argv[2:] if argument.startswith("-") and os.path.lexists(argument)]
    return f"for the file of this name write ./{names[0]}" if names else ""


def _command_line(context: click.Context | None) -> str:
    """Return the command of a context as a user types it, however this process was started."""
    names: list[str] = []
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    return " ".join(["sottovoce", *names])


def _fail(message: str, code: int, debug: bool) -> int:
    if not distributed.is_first_to_fail():
        return code
    if debug:
        traceback.print_exc()
    # One line, whatever a file's name or a library's error contains.
    click.echo(f"error: {' '.join(message.splitlines())}", err=True)
    return code
