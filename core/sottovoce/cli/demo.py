"""Command ``sottovoce demo``."""

from __future__ import annotations

from pathlib import Path

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb


@click.command(
    cls=Command,
    section="Begin",
    examples=("sottovoce demo", "sottovoce demo --quick --html"),
)
@options.option("--output", "-o", type=click.Path(path_type=Path), default=Path("outputs/demo"), section="Output")
@options.option("--quick", is_flag=True, help="Leave out the speed at a large model's shapes.")
@options.option("--html", is_flag=True, help="Write the page of the evaluation beside OUTPUT.", section="Output")
@verb
def demo(out: Output, output: Path, quick: bool, html: bool) -> None:
    """Compress a small bundled model, evaluate both, save, reload and run it. Offline, in one to two minutes.

    Then a large model's real shapes with random weights, where the machine is quiet: size and speed, with another
    library's int8 in turn where it is installed. That takes some minutes more.
    """
    from sottovoce.entrypoints import demo

    with out.progress() as progress:
        result = demo.run(output, out.note, progress, quick=quick, html=html)
    out.result(result.to_dict(), result.table)
