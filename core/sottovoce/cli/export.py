"""Command ``sottovoce export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.names import FormatName
from sottovoce.cli.output import Output, verb
from sottovoce.cli.signals import end_if_requested


class ExportCommand(Command):
    """Command whose help lists the formats that are registered here."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the formats and their labels under the options."""
        from sottovoce.formats.format import labels
        from sottovoce.plugins.host import default_host

        default_host()  # Plugins register their formats when they are imported.
        with formatter.section("Formats"):
            formatter.write_dl([(name, label.en) for name, label in labels().items()])
        super().format_epilog(ctx, formatter)


@click.command(
    cls=ExportCommand,
    section="Use and publish",
    examples=("sottovoce export MODEL --format onnx --output ONNX",),
)
@click.argument("model")
@options.option("--format", "-f", "format_name", type=FormatName(), required=True, help="What to write, such as onnx.")
@options.output
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.overwrite
@verb
def export(out: Output, model: str, format_name: str, output: Path, overwrite: bool, **where: Any) -> None:
    """Write MODEL in a format that another engine runs."""
    from rich.table import Table

    from sottovoce.checkpoint.directory import reserved
    from sottovoce.entrypoints import load, save
    from sottovoce.report.number_format import size

    with reserved(output, overwrite):
        loaded = load.load(model, **where)
        end_if_requested()
        path = save.export(loaded, format_name, output, overwrite=overwrite)
    written = sorted(file for file in path.rglob("*") if file.is_file())
    files = {file.relative_to(path).as_posix(): file.stat().st_size for file in written}

    def table() -> Table:
        table = Table("file", "size", title=str(path), title_justify="left")
        for name, count in files.items():
            table.add_row(name, size(count))
        return table

    out.result({"output": str(path), "format": format_name, "files": files}, table)
