"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path

import click

device = click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
hub = click.option("--hub", type=click.Choice(["hf", "modelscope"]), help="The hub of an id; by default the library's.")
revision = click.option("--revision", help="Branch, tag or commit to fetch.")
output = click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Directory to write.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace the output directory when it exists.")
weights = click.option(
    "--weights", help="Which of MODEL's files of weights to take, by its name, such as model.pt.best."
)
allow_unexpected = click.option(
    "--allow-unexpected",
    multiple=True,
    metavar="PATTERN",
    help="Tensors in the file that the model may do without: a name, or re:EXPRESSION; may be given again.",
)
