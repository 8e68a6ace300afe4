"""Command ``sottovoce pull``."""

from __future__ import annotations

from pathlib import Path

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb


@click.command(
    cls=Command,
    section="Use and publish",
    examples=("sottovoce pull owner/name --output SMALL",),
)
@click.argument("repository")
@options.output
@options.option("--hub", type=click.Choice(["hf", "modelscope"]), default="hf", help="Hub to use.")
@options.revision
@options.overwrite
@verb
def pull(out: Output, repository: str, output: Path, hub: str, revision: str | None, overwrite: bool) -> None:
    """Fetch REPOSITORY (owner/name) to a directory, and check it against the digests it was published with."""
    import sottovoce_hub
    from sottovoce.reports import tables

    report = sottovoce_hub.pull(repository, output, hub=hub, revision=revision, overwrite=overwrite)
    if not report.verified:
        out.note(f"{repository}: was not published by Sottovoce, so there are no digests to check it against")
    out.result(report.to_dict(), lambda: tables.retrieval(report.to_dict()))
