"""Command ``sottovoce check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.limits import limit
from sottovoce.cli.names import EngineName
from sottovoce.cli.output import Output, verb
from sottovoce.errors import CheckError

if TYPE_CHECKING:
    from rich.console import Group

    from sottovoce.entrypoints.check import Check


@click.command(
    cls=Command,
    section="Measure",
    examples=(
        "sottovoce check SMALL --data test.jsonl",
        "sottovoce check ONNX --data test.jsonl --reference SMALL --limit max_latency_p95_ms=200",
    ),
)
@click.argument("directory", type=click.Path(path_type=Path))
@options.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Samples to run: a manifest.", section="Data"
)
@options.option("--samples", "count", default=20, type=click.IntRange(min=1), help="Most samples.", section="Data")
@options.option("--reference", help="A model's directory to compare the answers with; by default DIRECTORY's own.")
@options.option(
    "--engine",
    "engines",
    type=EngineName(),
    metavar="ENGINE",
    multiple=True,
    help="Engine to use, by default all; may be repeated.",
)
@options.option(
    "--limit", "limits", multiple=True, metavar="LIMIT=BOUND", help="Bound to hold, as max_latency_p95_ms=200."
)
@options.option("--rounds", default=5, type=click.IntRange(min=1), help="Timed rounds, of which the worst counts.")
@options.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="File of JSON Lines to add to.",
    section="Output",
)
@verb
def check(
    out: Output,
    directory: Path,
    data: Path,
    count: int,
    reference: str | None,
    engines: tuple[str, ...],
    limits: tuple[str, ...],
    rounds: int,
    output: Path | None,
) -> None:
    """Run DIRECTORY in every engine that is installed, each in a process of its own: same answers, speed, memory.

    DIRECTORY is a model's, or one that `sottovoce export` wrote; a file in it stands for it. The exit code is 1 if an
    engine fails, an answer differs from the reference's, or a limit is not held; `--limit max_differing=N` allows N
    answers to differ. The bounds on error rates of the recipe's gate hold for every engine, over Sottovoce's own run.
    """
    from sottovoce.entrypoints import check as entrypoint
    from sottovoce.system.output_file import refuse_unwritable

    bounds = dict(map(limit, limits))
    if output is not None:
        refuse_unwritable(output)
    with out.progress() as progress:
        result = entrypoint.check(
            directory,
            data,
            reference=reference,
            engines=engines,
            limits=bounds,
            count=count,
            rounds=rounds,
            progress=progress,
        )
    # Printed first: a file that cannot be written must not lose what was measured.
    out.result(result.to_dict(), lambda: _tables(result))
    if output is not None:
        with output.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in result.lines())
    if not result.passed:
        raise CheckError(_verdict(result))


def _verdict(result: Check) -> str:
    problems = [f"{engine.engine}: {engine.reason}" for engine in result.engines if engine.state == "failed"]
    problems += [f"{engine.engine}: {', '.join(engine.missed)}" for engine in result.engines if engine.missed]
    return f"{result.directory} did not pass: {'; '.join(problems) or 'no engine that runs it is installed'}"


def _tables(result: Check) -> Group:
    from rich.console import Group
    from rich.table import Table

    from sottovoce.report.number_format import counted, size

    samples = counted(result.samples, "sample")
    title = f"{result.directory} on {samples}; answers compared with {result.reference or 'nothing'}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    times = ("p50", "p95", "real-time factor", "per token", "load", "first answer")
    for column in ("engine", "same answers", *times, "memory"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    notes: list[str] = []
    for engine in result.engines:
        name = f"{engine.engine} {engine.version}".strip()
        if engine.state != "ok":
            notes.append(f"{name}: {engine.state} ({engine.reason})")
            continue
        values = dict(engine.measures)
        memory = values.get("peak_memory_bytes")
        table.add_row(
            name,
            f"{result.samples - len(engine.differing)} of {result.samples}",
            *(_number(values.get(key), form) for key, form in _FORMS.items()),
            size(int(memory)) if memory is not None else "",
        )
        notes += [f"{name}: {sentence}" for sentence in engine.diagnoses]
        if engine.differing:
            notes.append(f"{name}: differs on {', '.join(engine.differing[:5])}")
    return Group(table, *notes, f"verdict: {'passed' if result.passed else 'did not pass'}")


_FORMS = {
    "latency_p50_ms": "{:.0f} ms",
    "latency_p95_ms": "{:.0f} ms",
    "rtf": "{:.3f}",
    "ms_per_token": "{:.1f} ms",
    "load_s": "{:.1f} s",
    "first_answer_s": "{:.1f} s",
}


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
