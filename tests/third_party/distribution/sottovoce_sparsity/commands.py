"""``sottovoce sparsity``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli import options
from sottovoce.cli.output import Output, verb

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.argument("model")
@options.device
@options.hub
@options.revision
@verb
def sparsity(out: Output, model: str, **where: Any) -> None:
    """Show the share of zeros in each tensor of MODEL."""
    from rich.table import Table

    import sottovoce

    tensors = sottovoce.load(model, **where).module.state_dict()
    shares = {name: 1 - tensor.count_nonzero().item() / tensor.numel() for name, tensor in tensors.items()}

    def table() -> Table:
        table = Table("tensor", "zeros")
        for name, share in shares.items():
            table.add_row(name, f"{share:.1%}")
        return table

    out.result({"zeros": shares}, table)
