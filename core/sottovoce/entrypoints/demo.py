"""The demonstration on a small bundled model: compress, evaluate, save, run with its own library."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sottovoce.checkpoint.directory import reserved
from sottovoce.checkpoint.ownership import EVALUATION_PAGE
from sottovoce.entrypoints import compress, demo_speed, load, save
from sottovoce.entrypoints.comparison.evaluation import evaluation_files
from sottovoce.entrypoints.demo_speed import Speed
from sottovoce.entrypoints.evaluate import Evaluated, evaluate_with_runs
from sottovoce.errors import OutputError, UsageError
from sottovoce.metrics.alignment import align
from sottovoce.metrics.cost import PEAK_MEMORY
from sottovoce.metrics.kinds import recorded
from sottovoce.report import CompressionReport, EvaluationReport, number_format
from sottovoce.reports import tables
from sottovoce.samples import Sample, read_samples
from sottovoce.system.interpreter import python_command, python_environment
from sottovoce.system.isolation import run_isolated
from sottovoce.system.machine import resident_memory
from sottovoce.system.progress import Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sottovoce.architecture import Architecture

EXAMPLES_VARIABLE = "SOTTOVOCE_EXAMPLES"


@dataclass(frozen=True)
class Demonstration:
    """Result of the demonstration."""

    output: Path
    """Directory of the compressed model."""
    compression: CompressionReport
    evaluation: EvaluationReport
    usage: str
    """Python code that ran the compressed model with its own library."""
    reference: str
    """Text of the sample."""
    transcript: str
    """Output of that code."""
    changed: tuple[tuple[str, str, str, str], ...] = ()
    """Utterances that the two models hear differently: key, what was said, what the original and the compressed heard,
    with the differences in brackets."""
    library_bytes: int | None = None
    """Resident memory of Python and the model's library, without the model's weights."""
    speed: Speed | str = ""
    """Speed at a real model's shapes, or the reason that it was left out."""
    page: Path | None = None
    """HTML page of the evaluation."""
    next_commands: tuple[str, ...] = ()
    """Commands to go on with."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without times of a busy machine."""
        metrics = recorded(self.evaluation.metrics, self.evaluation.machine)
        return {
            "output": str(self.output),
            "compression": self.compression.to_dict(),
            "evaluation": dataclasses.replace(self.evaluation, metrics=metrics).to_dict(),
            "usage": self.usage,
            "reference": self.reference,
            "transcript": self.transcript,
            "changed": [dict(zip(("key", "said", "before", "after"), row, strict=True)) for row in self.changed],
            "library_bytes": self.library_bytes,
            "speed": self.speed if isinstance(self.speed, str) else dataclasses.asdict(self.speed),
            "page": str(self.page) if self.page else None,
            "next": list(self.next_commands),
        }

    def table(self) -> RenderableType:
        """Return the metrics before and after, what was heard differently, speed, and what to do next."""
        from rich.console import Group

        lines = [
            f"compressed  {self.compression.coverage['ratio']:.1%} of the parameters, in {self.output}",
            *self._memory_lines(),
            self._times_line(),
            *self._changed_lines(),
            *([self.speed] if isinstance(self.speed, str) else self.speed.lines()),
            f"run with    {'; '.join(self.usage.strip().splitlines())}",
            f"was said    {self.reference}",
            f"was heard   {self.transcript}",
            *([f"page        {self.page}"] if self.page else []),
            "next:",
            *(f"  {command}" for command in self.next_commands),
        ]
        return Group(tables.of_report(self.evaluation), *filter(None, lines))

    def _times_line(self) -> str:
        if busy := self.evaluation.machine.busy:
            return f"the times above say nothing: {busy}"
        return "the times above are of a model of a few megabytes and say nothing of a large one"

    def _memory_lines(self) -> list[str]:
        peak = self.evaluation.metrics.get(PEAK_MEMORY.name)
        if self.library_bytes is None or peak is None or peak.value is None or peak.baseline is None:
            return []
        before, after = (max(0.0, value - self.library_bytes) for value in (peak.baseline, peak.value))
        libraries = number_format.size(self.library_bytes)
        added = f"{number_format.size(before)} -> {number_format.size(after)}"
        return [f"memory      {libraries} are Python and its libraries; what the models add: {added}"]

    def _changed_lines(self) -> list[str]:
        count = self.evaluation.samples.count
        if not self.changed:
            return [f"no utterance of {count} is heard differently"]
        rows = [f"  {said}: {before} -> {after}" for _, said, before, after in self.changed[:5]]
        of_all = f"{len(self.changed)} of {number_format.counted(count, 'utterance')}"
        return [f"{of_all} heard differently (said: before -> after):", *rows]


def run(
    output: Path, note: Callable[[str], None], progress: Progress, *, quick: bool = False, html: bool = False
) -> Demonstration:
    """Compress the bundled model into ``output`` and prove it; an earlier demonstration's output is replaced.

    Args:
        output: Directory for the compressed model.
        note: Called with what is done next.
        progress: Called after every sample.
        quick: If true, the speed at a real model's shapes is left out.
        html: If true, the page of the evaluation is written beside ``output``.

    Raises:
        UsageError: There is no ``examples`` folder of the repository, or ``output`` is another directory.
        OutputError: The model's own library does not run the saved model.
    """
    with reserved(output, overwrite=True):
        return _run(output, note, progress, quick, html)


def _run(output: Path, note: Callable[[str], None], progress: Progress, quick: bool, html: bool) -> Demonstration:
    examples = _examples()
    settings = yaml.safe_load((examples / "demo.yaml").read_text(encoding="utf-8"))
    source, manifest = examples / settings["model"], examples / settings["samples"]
    samples = read_samples(manifest)
    note(f"load {source.name}")
    model = load.load(source)
    note(f"compress by the recipe {settings['recipe']}")
    report = compress.compress(model, settings["recipe"], progress=progress)
    note("save, load again, compare")
    save.save(model, output, overwrite=True)
    note(f"evaluate both on {number_format.counted(len(samples), 'utterance')}")
    evaluated = evaluate_with_runs(os.fspath(output), samples, os.fspath(source), progress=progress)
    sample = samples[0]
    recording = Path(os.path.relpath(str(sample.audio)))
    usage = _usage(model.architecture, output, recording, sample.text or "")
    note("run it in a new process, with its own library alone")
    transcript = _run_usage(usage)
    return Demonstration(
        output,
        report,
        evaluated.report,
        usage,
        sample.text or "",
        transcript,
        changed=tuple(_changed(evaluated)),
        library_bytes=run_isolated(library_memory, os.fspath(source), progress=progress),
        speed=_speed(settings, examples, sample, note, quick),
        page=_write_page(evaluated, output, source) if html else None,
        next_commands=_next_commands(output, source, recording),
    )


def _speed(
    settings: Mapping[str, Any], examples: Path, sample: Sample, note: Callable[[str], None], quick: bool
) -> Speed | str:
    if quick or "large" not in settings:
        return ""
    return demo_speed.measure(settings["large"], examples, sample, settings["recipe"], note)


def _changed(evaluated: Evaluated) -> Iterator[tuple[str, str, str, str]]:
    """Yield the utterances that are heard differently, those with the most changes first."""
    before, after = (measurement.run.predictions for measurement in evaluated.measurements)
    for sample, first, second in zip(evaluated.samples, before, after, strict=True):
        if first.text != second.text:
            said = sample.text or ""
            yield sample.key, said, _marked(said, first.text or ""), _marked(said, second.text or "")


def _marked(said: str, heard: str) -> str:
    """Return what was heard, with what differs from what was said in brackets."""
    edits = align(said.replace(" ", ""), heard.replace(" ", ""))
    return "".join(after if name == "=" else f"[{after or '-'}]" for name, _, after in edits)


def library_memory(directory: str, progress: Progress) -> int | None:
    """Load a model, and return the resident memory of this process in bytes less that of the weights.

    Called in a new process, where nothing else was loaded.
    """
    model = load.load(directory)
    resident = resident_memory()
    return None if resident is None else max(0, resident - model.size_bytes)


def _write_page(evaluated: Evaluated, output: Path, source: Path) -> Path:
    page = output.with_name(f"{output.name}.html")
    files = evaluation_files(evaluated, os.fspath(output), os.fspath(source), {})
    page.write_text(files[EVALUATION_PAGE], encoding="utf-8")
    return page


def _next_commands(output: Path, source: Path, audio: Path) -> tuple[str, ...]:
    model = Path(os.path.relpath(source)).as_posix()
    return (
        f"sottovoce transcribe {output.as_posix()} {audio.as_posix()}",
        f"sottovoce serve {output.as_posix()} --compare {model}",
        f"sottovoce push {output.as_posix()} owner/name --dry-run",
    )


def _examples() -> Path:
    places = [Path(__file__).resolve().parents[3] / "examples", Path("examples")]
    if EXAMPLES_VARIABLE in os.environ:
        places.insert(0, Path(os.environ[EXAMPLES_VARIABLE]))
    for place in places:
        if (place / "demo.yaml").is_file():
            return place
    raise UsageError("the demo's model is in the repository's examples folder: run it in a clone of the repository")


def _usage(architecture: Architecture, directory: Path, audio: Path, text: str) -> str:
    return architecture.card.usage.format(directory=directory.as_posix(), audio=audio.as_posix(), text=text)


def _run_usage(usage: str) -> str:
    command, environment = python_command("-c", usage), python_environment(PYTHONWARNINGS="ignore")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise OutputError(f"the saved model does not run with its own library: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1]
