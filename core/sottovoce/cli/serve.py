"""Command ``sottovoce serve``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb
from sottovoce.cli.size import SIZE
from sottovoce.errors import UsageError

if TYPE_CHECKING:
    from sottovoce.serving.settings import Settings


_SERVICE, _LIMITS = "Service", "Limits"


@click.command(
    cls=Command,
    section="Use and publish",
    examples=(
        "sottovoce serve SMALL --compare MODEL",
        "sottovoce serve SMALL --vad fsmn-vad --punc ct-punc --spk cam++ --aligner ALIGNER",
    ),
)
@click.argument("model")
@options.option("--compare", metavar="BASE", help="A model to show beside MODEL, usually the original.")
@options.option("--vad", help="Model that finds where somebody speaks; it cuts long audio.")
@options.option("--punc", help="Model that punctuates the text.")
@options.option("--aligner", help="Model that finds the times of words.")
@options.option("--spk", help="Model that tells speakers apart; it needs --vad.")
@options.option("--host", default="127.0.0.1", help="Address; 0.0.0.0 for all networks.", section=_SERVICE)
@options.option("--port", default=8000, type=click.IntRange(0, 65535), help="Port; 0 for a free one.", section=_SERVICE)
@options.option("--no-page", is_flag=True, help="Serve the API alone.", section=_SERVICE)
@options.option("--mcp", is_flag=True, help="Serve tools to MCP clients too.", section=_SERVICE)
@options.option("--max-upload", default="512MB", type=SIZE, help="Largest request.", section=_LIMITS)
@options.option(
    "--max-duration", default=7200, type=click.IntRange(1), help="Longest audio in seconds.", section=_LIMITS
)
@options.option("--queue", default=16, type=click.IntRange(0, 10000), help="Requests that may wait.", section=_LIMITS)
@options.device
@options.hub
@options.revision
@verb
def serve(
    out: Output,
    model: str,
    compare: str | None,
    vad: str | None,
    punc: str | None,
    aligner: str | None,
    spk: str | None,
    **settings: Any,
) -> None:
    """Serve MODEL on this machine: an OpenAI-compatible API, and a page to hear it and to compare it with BASE.

    Keys come from the environment variable SOTTOVOCE_API_KEYS, separated by commas.
    """
    from sottovoce.serving import run

    where = {name: settings.pop(name) for name in ("device", "hub", "revision")}
    chosen = _settings(**settings)
    if chosen.mcp and not chosen.page:
        raise UsageError("--mcp is served with the page; leave --no-page out")
    run.require_packages(chosen.page, chosen.mcp)
    with run.listening(chosen) as listener:
        from sottovoce.serving.app import build_app
        from sottovoce.serving.loading import load_models

        models = load_models(model, compare, vad=vad, punctuation=punc, aligner=aligner, diarizer=spk, **where)
        url = run.address_of(listener)
        names = [served.name for served in models]
        if not chosen.is_local and not chosen.keys:
            out.note("warning: whoever reaches this machine may use the service; set SOTTOVOCE_API_KEYS")

        def ready() -> None:
            if out.as_json:
                out.json({"url": url, "models": names, "page": chosen.page, "mcp": chosen.mcp})
            else:
                out.note(f"{', '.join(names)} at {url}; Ctrl+C stops it")
                if chosen.mcp:
                    out.note(f"MCP at {url}/gradio_api/mcp/")

        with _access_log(out):
            run.serve(build_app(models, chosen), listener, ready)


def _settings(
    host: str, port: int, max_upload: int, max_duration: int, queue: int, no_page: bool, mcp: bool
) -> Settings:
    from sottovoce.serving.keys import Keys
    from sottovoce.serving.settings import Limits, Settings

    limits = Limits(upload_bytes=max_upload, audio_seconds=max_duration, waiting=queue)
    return Settings(host=host, port=port, limits=limits, keys=Keys.from_environment(), page=not no_page, mcp=mcp)


@contextmanager
def _access_log(out: Output) -> Iterator[None]:
    """Print a line for every request, unless ``--quiet`` is given."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            out.note(record.getMessage())

    logger = logging.getLogger("sottovoce.serving")
    handler, level = Lines(logging.INFO), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = True
