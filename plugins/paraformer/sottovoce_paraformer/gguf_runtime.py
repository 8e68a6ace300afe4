"""FunASR's runtime on ggml, a program that recognizes one file of audio, as an engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce import Engine
from sottovoce.errors import OutputError, UsageError
from sottovoce_paraformer.engines import prediction

if TYPE_CHECKING:
    from sottovoce import Prediction, Sample

PROGRAM, VARIABLE, FILE = "llama-funasr-paraformer", "SOTTOVOCE_FUNASR_GGUF", "model.gguf"
ADVICE = f"build {PROGRAM} of FunASR's runtime/llama.cpp, and put it on PATH or name it in {VARIABLE}"


class FunASRGguf(Engine):
    """FunASR's runtime on ggml; it loads the file anew for every sample."""

    name = "funasr-gguf"

    def fits(self, directory: Path) -> bool:
        """Return whether an exported file lies there."""
        return (directory / FILE).is_file()

    def missing(self) -> list[str]:
        """Return the program, where it is not on this machine."""
        return [] if find() else [PROGRAM]

    def advice(self) -> str:
        """Return how to get the program."""
        return ADVICE

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Return a function that runs the program on a sample's audio."""
        return lambda sample: prediction(recognize(directory / FILE, sample.audio))


def find() -> str | None:
    """Return the path of the program; ``None`` where it is not on this machine.

    Raises:
        UsageError: The environment variable names something else.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return shutil.which(PROGRAM)
    if shutil.which(named) is None:
        raise UsageError(f"{VARIABLE}: {named} cannot be run; name the program {PROGRAM}, or leave it unset")
    return named


def recognize(path: Path, audio: Any) -> str:
    """Return what the program hears in audio ``[time]`` of 16 kHz.

    Raises:
        OutputError: The program is not there, or does not run the file.
    """
    import soundfile

    from sottovoce.system.audio import FRAME, SAMPLE_RATE

    program = find()
    if program is None:
        raise OutputError(f"{path.name}: {PROGRAM} is not installed; {ADVICE}")
    if len(audio) < FRAME * SAMPLE_RATE:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "audio.wav"
        soundfile.write(recording, audio, SAMPLE_RATE, subtype="FLOAT")
        command = [program, "-m", str(path), "-a", str(recording)]
        try:
            result = subprocess.run(command, capture_output=True, check=False)
        except OSError as error:
            raise OutputError(f"{path.name}: {PROGRAM} cannot be started ({error.strerror})") from error
    if result.returncode:
        said = result.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise OutputError(f"{path.name}: {PROGRAM} does not run it ({said[-1]}, exit code {result.returncode})")
    return result.stdout.decode("utf-8", "replace").strip()
