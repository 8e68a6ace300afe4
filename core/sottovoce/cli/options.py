"""Options that several commands share."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from sottovoce.cli.command import MODEL, OUTPUT, Option

option = functools.partial(click.option, cls=Option)
"""Like :func:`click.option`, with ``section=`` of the help."""

device = option("--device", default="cpu", help="Where the model runs, such as cuda.", section=MODEL)
hub = option(
    "--hub", type=click.Choice(["hf", "modelscope"]), help="The hub of an id; by default the library's.", section=MODEL
)
revision = option("--revision", help="Branch, tag or commit to fetch.", section=MODEL)
weights = option("--weights", help="Name of the weights file in MODEL to read, such as model.pt.best.", section=MODEL)
allow_unexpected = option(
    "--allow-unexpected",
    multiple=True,
    metavar="PATTERN",
    help="Tensors in the file to leave out if the model lacks them: a name, or re:EXPRESSION; may be repeated.",
    section=MODEL,
)
output = option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Directory to write.", section=OUTPUT
)
overwrite = option("--overwrite", is_flag=True, help="Replace the output directory when it exists.", section=OUTPUT)
