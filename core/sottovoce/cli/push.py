"""Command ``sottovoce push``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb

if TYPE_CHECKING:
    from sottovoce_hub import PushReport


@click.command(
    cls=Command,
    section="Use and publish",
    examples=(
        "sottovoce push SMALL owner/name --dry-run",
        "sottovoce push SMALL owner/name --hub modelscope --private",
    ),
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("repository")
@options.option("--hub", type=click.Choice(["hf", "modelscope"]), default="hf", help="Hub to publish on.")
@options.option("--branch", help="Branch to commit to; by default the repository's main branch.")
@options.option("--private/--public", default=None, help="Visibility of a new repository; by default the hub's.")
@options.option(
    "--base-model", help="Id of the model that was compressed: owner/name[@revision]; by default what was recorded."
)
@options.option("--create-pr", is_flag=True, help="Open a pull request (Hugging Face Hub).")
@options.option("--message", "-m", help="The commit's message.")
@options.option("--variants", help="Names of directories in DIRECTORY, such as int8,int4: a repository for each.")
@options.option("--branches", is_flag=True, help="With --variants: one repository, a branch for each.")
@options.option("--dry-run", is_flag=True, help="Write the card and list the files; no network.")
@options.option(
    "--card", type=click.Path(path_type=Path), help="Directory for the card of --dry-run; by default DIRECTORY.card."
)
@verb
def push(
    out: Output,
    directory: Path,
    repository: str,
    hub: str,
    variants: str | None,
    branches: bool,
    dry_run: bool,
    card: Path | None,
    branch: str | None,
    create_pr: bool,
    **settings: Any,
) -> None:
    """Publish DIRECTORY, which compress wrote, as REPOSITORY (owner/name), with a card of its measurements.

    The token is the one of `hf auth login` or HF_TOKEN, or of `modelscope login` or MODELSCOPE_API_TOKEN.
    """
    import sottovoce_hub
    from sottovoce.errors import UsageError
    from sottovoce.reports import tables

    settings |= {"hub": hub, "dry_run": dry_run}
    if branches and variants is None:
        raise UsageError("--branches: goes with --variants")
    if card is not None and not dry_run:
        raise UsageError("--card: goes with --dry-run; a push writes the card to the repository")
    card = card or Path(f"{directory}.card")
    if variants is not None:
        if branch is not None or create_pr:
            raise UsageError("--variants: goes with neither --branch nor --create-pr")
        names = [name.strip() for name in variants.split(",") if name.strip()]
        several = sottovoce_hub.push_variants(directory, repository, names, branches=branches, **settings)
        for name, report in several.variants.items() if dry_run else ():
            _write_card(report, card / name, out)
        out.result(several.to_dict(), lambda: tables.publications(several.to_dict()))
        return
    report = sottovoce_hub.push(directory, repository, branch=branch, create_pr=create_pr, **settings)
    if dry_run:
        _write_card(report, card, out)
    out.result(report.to_dict(), lambda: tables.publication(report.to_dict()))


def _write_card(report: PushReport, directory: Path, out: Output) -> None:
    """Write the card's files without those of the model; only an earlier card is replaced."""
    from sottovoce.checkpoint.directory import new_directory
    from sottovoce.errors import UsageError

    if _others(directory):
        raise UsageError(f"{directory}: holds more than a card, and is not replaced; give another place with --card")
    with new_directory(directory, overwrite=True, replaceable=lambda path: not _others(path)) as temporary:
        for file in report.files:
            if isinstance(file.content, bytes):
                path = temporary / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
    out.note(f"the card is in {directory}")


def _others(directory: Path) -> bool:
    """Return true if a directory holds anything but a card."""
    from sottovoce_hub.card import CARD_FILES

    files = (path.relative_to(directory) for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    plots = "card", ".png"
    return any(path.as_posix() not in CARD_FILES and (str(path.parent), path.suffix) != plots for path in files)
