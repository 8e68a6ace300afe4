"""The demonstration on a small bundled model: compress, evaluate, save, run with its own library."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sottovoce.checkpoint.directory import reserved
from sottovoce.entrypoints import compress, load, save
from sottovoce.entrypoints.evaluate import evaluate
from sottovoce.errors import OutputError, UsageError
from sottovoce.report import CompressionReport, EvaluationReport
from sottovoce.reports import tables
from sottovoce.samples import read_samples
from sottovoce.system.interpreter import python_command, python_environment
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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "output": str(self.output),
            "compression": self.compression.to_dict(),
            "evaluation": self.evaluation.to_dict(),
            "usage": self.usage,
            "reference": self.reference,
            "transcript": self.transcript,
        }

    def table(self) -> RenderableType:
        """Return a table of the metrics before and after, with the output directory and the transcript."""
        from rich.console import Group

        return Group(
            tables.of_report(self.evaluation),
            f"compressed  {self.compression.coverage['ratio']:.1%} of the parameters, in {self.output}",
            f"run with    {'; '.join(self.usage.strip().splitlines())}",
            f"was said    {self.reference}",
            f"was heard   {self.transcript}",
        )


def run(output: Path, note: Callable[[str], None], progress: Progress) -> Demonstration:
    """Compress the bundled model into ``output`` and prove it; an earlier demonstration's output is replaced.

    Raises:
        UsageError: There is no ``examples`` folder of the repository, or ``output`` is another directory.
        OutputError: The model's own library does not run the saved model.
    """
    with reserved(output, overwrite=True):
        return _run(output, note, progress)


def _run(output: Path, note: Callable[[str], None], progress: Progress) -> Demonstration:
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
    note(f"evaluate both on {len(samples)} utterances")
    evaluation = evaluate(output, samples, source, progress=progress)
    sample = samples[0]
    usage = _usage(model.architecture, output, Path(os.path.relpath(sample.audio)), sample.text or "")
    note("run it in a new process, with its own library alone")
    transcript = _run_usage(usage)
    return Demonstration(output, report, evaluation, usage, sample.text or "", transcript)


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
