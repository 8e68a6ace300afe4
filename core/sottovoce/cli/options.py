"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

device = click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
hub = click.option("--hub", type=click.Choice(["hf", "modelscope"]), help="The hub of an id; by default the library's.")
revision = click.option("--revision", help="Branch, tag or commit to fetch.")
output = click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Directory to write.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace the output directory when it exists.")
weights = click.option("--weights", help="Name of the weights file in MODEL to read, such as model.pt.best.")
allow_unexpected = click.option(
    "--allow-unexpected",
    multiple=True,
    metavar="PATTERN",
    help="Tensors in the file to leave out if the model lacks them: a name, or re:EXPRESSION; may be repeated.",
)
