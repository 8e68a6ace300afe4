"""Command ``sottovoce export``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.names import FormatName
from sottovoce.cli.output import Output, verb
from sottovoce.cli.signals import end_if_requested

if TYPE_CHECKING:
    from rich.console import Group


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
    examples=(
        "sottovoce export MODEL --format onnx --output ONNX",
        "sottovoce export MODEL --format onnx --output ONNX --data test.jsonl",
    ),
)
@click.argument("model")
@options.option("--format", "-f", "format_name", type=FormatName(), required=True, help="What to write, such as onnx.")
@options.output
@options.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Samples to run in PyTorch and in the format's engines: a manifest.",
    section="Data",
)
@options.option("--samples", "count", default=16, type=click.IntRange(min=1), help="Most samples.", section="Data")
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.overwrite
@verb
def export(
    out: Output,
    model: str,
    format_name: str,
    output: Path,
    data: Path | None,
    count: int,
    overwrite: bool,
    **where: Any,
) -> None:
    """Write MODEL in a format that another engine runs.

    It ends with a line for each engine that is installed and runs the format: how many of the answers to --data are
    those of PyTorch, the time of a sample, and the memory.
    """
    from sottovoce.checkpoint.directory import reserved
    from sottovoce.checkpoint.report_file import read_report
    from sottovoce.entrypoints import export as entrypoint
    from sottovoce.entrypoints import load
    from sottovoce.samples import read_samples

    with reserved(output, overwrite), out.progress() as progress:
        samples = read_samples(data) if data is not None else None
        loaded = load.load(model, **where)
        end_if_requested()
        path = entrypoint.export(
            loaded, format_name, output, samples=samples, count=count, overwrite=overwrite, progress=progress
        )
    report = read_report(path).export
    assert report is not None
    written = sorted(file for file in path.rglob("*") if file.is_file())
    files = {file.relative_to(path).as_posix(): file.stat().st_size for file in written}
    lines = report.lines()
    form = {"output": str(path), "format": format_name, "files": files, "export": report.to_dict(), "lines": lines}
    out.result(form, lambda: _table(str(path), files, lines))


def _table(title: str, files: Mapping[str, int], lines: Sequence[str]) -> Group:
    from rich.console import Group
    from rich.table import Table

    from sottovoce.report.number_format import size

    table = Table("file", "size", title=title, title_justify="left")
    for name, count in files.items():
        table.add_row(name, size(count))
    return Group(table, *lines)
