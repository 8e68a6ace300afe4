"""Another library's compressed model beside ours, for the demonstration: it takes its turn where it is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sottovoce.engines import Engine
from sottovoce.engines.engine import registered_engines
from sottovoce.engines.measurement import seconds_of
from sottovoce.entrypoints.paired_timing import Timed
from sottovoce.errors import UsageError
from sottovoce.plugins.host import default_host
from sottovoce.report import number_format
from sottovoce.samples import Samples
from sottovoce.system.interpreter import python_command, python_environment

NEEDED = 6_500_000_000
"""Bytes of memory that writing the peer takes."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Size and times of the peer, which took its turn with ours."""

    label: str
    size_bytes: int
    engine: str
    """Name of the engine that ran it."""
    seconds: Mapping[str, Any]
    """Median and quartiles of the seconds that it took."""
    ratio: Mapping[str, Any]
    """Those of our compressed model's seconds over the peer's, round by round."""

    def line(self) -> str:
        """Return what was measured, in a sentence."""
        low, high = self.ratio["quartiles"]
        return (
            f"{self.label} by {self.engine}, {number_format.size(self.size_bytes)}: {self.seconds['median']:.2f} s; "
            f"the compressed model takes x {self.ratio['median']:.2f} ({low:.2f}-{high:.2f}) of that"
        )


def write(settings: Mapping[str, Any], folder: Path, model: Path, directory: Path) -> Engine | str:
    """Write the peer of a model, and return the engine that runs it; or the reason in a sentence why there is none.

    Args:
        settings: ``script`` that writes the peer of a model to a directory, relative to ``folder``; ``label``;
            ``modules`` that the script imports; and ``engines`` that run the peer, the preferred one first.
        folder: Folder of the demonstration's settings.
        model: Directory of the float model.
        directory: Directory for the peer.

    Raises:
        UsageError: The settings name an engine that is not known.
    """
    left_out = f"{settings['label']} is left out"
    engine = _preferred(settings["engines"])
    unmet = [name for name in settings["modules"] if importlib.util.find_spec(name) is None]
    if lacking := list(dict.fromkeys([*engine.missing(), *unmet])):
        return f"{left_out}: pip install {' '.join(lacking)}"
    if psutil.virtual_memory().available < NEEDED:
        return f"{left_out}: writing it takes {number_format.size(NEEDED)} of memory, and less is free"
    if reason := run_script(folder / settings["script"], model, directory):
        return f"{left_out}: {reason}"
    if not engine.fits(directory):
        return f"{left_out}: {engine.name} does not run what {Path(settings['script']).name} wrote"
    return engine


def _preferred(names: list[str]) -> Engine:
    """Return the first engine that is installed, or else the last one."""
    default_host()  # Plugins register their engines when they are imported.
    known = {engine.name: engine for engine in registered_engines()}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"there is no engine {unknown[0]!r}, which demo.yaml names; known: {', '.join(sorted(known))}")
    return next((known[name] for name in names if not known[name].missing()), known[names[-1]])


def run_script(script: Path, *arguments: Path) -> str | None:
    """Run a script that writes a model in a new process, and return why it failed; ``None`` if it did not."""
    if not script.is_file():
        return f"{script.name} is not there"
    command = python_command(str(script), *map(str, arguments))
    # The script imports what lies beside it.
    paths = os.pathsep.join([str(script.parent.resolve()), os.environ.get("PYTHONPATH", "")])
    environment = python_environment(PYTHONWARNINGS="ignore", PYTHONPATH=paths)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else None


def prepare(engine: Engine, directory: Path, samples: Samples) -> Timed:
    """Load a directory in an engine, and return a function that runs the samples once and returns their seconds.

    They are run once here: an engine that cannot run them fails before the turns begin.
    """
    run = engine.load(directory)
    for sample in samples:
        run(sample)
    return lambda: [seconds_of(run, sample) for sample in samples]
