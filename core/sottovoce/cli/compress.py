"""Command ``sottovoce compress``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.names import RecipeName
from sottovoce.cli.output import Output, verb
from sottovoce.cli.signals import INTERRUPTED, Terminated
from sottovoce.cli.size import SIZE
from sottovoce.entrypoints.device_recipe import devices, recipe_for
from sottovoce.errors import UsageError
from sottovoce.system import distributed


@click.command(
    cls=Command,
    section="Compress",
    examples=(
        "sottovoce compress MODEL --recipe int8 --output SMALL",
        "sottovoce compress MODEL --recipe int4 --data calibration.jsonl --max-memory 8GB --output SMALL",
        "sottovoce compress MODEL --for edge --data calibration.jsonl --train-data train.jsonl --output SMALL",
    ),
)
@click.argument("model")
@options.option(
    "--recipe", "-r", type=RecipeName(), help="A recipe's name (see `sottovoce recipes`) or a YAML or JSON file."
)
@options.option(
    "--for", "kind", type=click.Choice(devices()), help="In place of a recipe, the kind of machine it is to run on."
)
@options.output
@options.option(
    "--data", type=click.Path(path_type=Path), help="Calibration samples, for recipes that need them.", section="Data"
)
@options.option(
    "--train-data",
    type=click.Path(path_type=Path),
    help="Samples for recipes that train; by default DATA.",
    section="Data",
)
@options.option(
    "--train-log",
    type=click.Path(path_type=Path),
    help="Directory for TensorBoard's log of training.",
    section="Training",
)
@options.option(
    "--samples",
    "count",
    type=click.IntRange(min=1),
    help="Number of samples of DATA to calibrate on; by default all.",
    section="Data",
)
@options.option("--seed", default=0, help="Seed of the choice, with --samples.", section="Data")
@options.option(
    "--gate-data", type=click.Path(path_type=Path), help="Samples for a recipe's gate; by default DATA.", section="Data"
)
@options.option("--max-memory", type=SIZE, help="Memory limit while calibrating, such as 8GB; the rest goes to disk.")
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.overwrite
@verb
def compress(
    out: Output,
    model: str,
    recipe: str | None,
    kind: str | None,
    output: Path,
    data: Path | None,
    train_data: Path | None,
    train_log: Path | None,
    count: int | None,
    seed: int,
    gate_data: Path | None,
    max_memory: int | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Compress MODEL by a recipe and write it to a directory.

    An interrupted recipe with calibration resumes after the last finished block when the same command is run again, and
    training after the last time that its held-out samples were scored.

    Several processes divide the samples: torchrun --nproc_per_node 2 -m sottovoce compress MODEL ...
    """
    from sottovoce.checkpoint.directory import reserved
    from sottovoce.entrypoints import compress, load, save
    from sottovoce.plugins.host import default_host
    from sottovoce.report.compression import first_notes
    from sottovoce.reports import tables
    from sottovoce.samples import read_samples

    # Errors in the arguments are reported before the model is read, and those of recipe and model before the work.
    with reserved(output, overwrite) if distributed.is_main() else contextlib.nullcontext():
        if (recipe is None) == (kind is None):
            raise UsageError("give either --recipe, or --for and a kind of machine; see sottovoce compress --help")
        chosen = default_host().recipe(recipe) if recipe is not None else None
        if count and not data:
            raise UsageError("--samples is a number of samples of --data: give --data too")
        samples = read_samples(data) if data else None
        if samples and count:
            samples = samples.choose(count, seed)
        gate_samples = read_samples(gate_data) if gate_data else None
        training_samples = read_samples(train_data) if train_data else None
        if chosen is not None:
            compress.require_samples(chosen, samples, training_samples)
        loaded = load.load(model, max_memory=max_memory, **where)
        if chosen is None:
            fitting = recipe_for(kind or "", loaded.architecture)
            out.note(f"recipe {fitting.recipe}: {fitting.reason}")
            chosen = default_host().recipe(fitting.recipe)
            compress.require_samples(chosen, samples, training_samples)
        save.refuse_source(loaded, output)
        resume = output.with_name(f".{output.name}.unfinished")
        with _kept(resume), out.progress() as progress:
            report = compress.compress(
                loaded,
                chosen,
                samples,
                training_samples=training_samples,
                gate_samples=gate_samples,
                log=train_log,
                max_memory=max_memory,
                resume=resume if samples or training_samples or loaded.stream else None,
                progress=progress,
            )
            save.save(loaded, output, overwrite=overwrite)
        if distributed.is_main():
            shutil.rmtree(resume, ignore_errors=True)
            for note in first_notes([note for note in report.notes if note not in out.warned]):
                out.note(f"note: {note}")
    out.result(report.to_dict(), lambda: tables.of_report(report))


@contextlib.contextmanager
def _kept(resume: Path) -> Iterator[None]:
    """Let the message of a process that is asked to end name the directory of finished blocks: it is hidden."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as request:
        termination = request if isinstance(request, Terminated) else Terminated("interrupted", INTERRUPTED)
        if resume.is_dir():
            termination.left = f"{resume} keeps what is done, and the same command resumes from it; otherwise remove it"
        raise termination from None
