"""Command ``sottovoce demo``."""

from __future__ import annotations

from pathlib import Path

import click

from sottovoce.cli.output import Output, verb


@click.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("outputs/demo"), show_default=True)
@verb
def demo(out: Output, output: Path) -> None:
    """Compress a small bundled model, evaluate both, save, reload and run it. Offline, in one to two minutes."""
    from sottovoce.entrypoints import demo

    with out.progress() as progress:
        result = demo.run(output, out.note, progress)
    out.result(result.to_dict(), result.table)
