"""Environments of their own, for libraries that must run without Sottovoce or want other versions.

Each is made in the repository's root when it is missing, which takes half a minute to two.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]


def stock_transformers() -> Path:
    """The interpreter of an environment with transformers and without Sottovoce."""
    names = ("torch", "transformers", "compressed-tensors")
    return interpreter("stock-transformers", *(f"{name}=={version(name).partition('+')[0]}" for name in names))


def interpreter(name: str, *packages: str, unpinned: str = "") -> Path:
    """The Python of an environment with these packages, at the versions of ``constraints.txt``.

    Args:
        name: It lies in ``.venv-<name>``.
        *packages: As ``pip install`` takes them.
        unpinned: A package whose pin does not count.
    """
    folder = ROOT / f".venv-{name}"
    wanted, stamp = "\n".join(packages), folder / "packages.txt"
    # Two processes may want it at once.
    with FileLock(Path(tempfile.gettempdir()) / f"sottovoce-{os.getuid()}-{name}.lock"):
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
            _make(folder, packages, unpinned)
            stamp.write_text(wanted, encoding="utf-8")
    return folder / "bin" / "python"


def _make(folder: Path, packages: tuple[str, ...], unpinned: str) -> None:
    venv.create(folder, clear=True, symlinks=True, with_pip=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pin for pin in pins if not unpinned or unpinned not in pin), encoding="utf-8")
    done = subprocess.run(
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages],
        env=os.environ | {"PIP_CONSTRAINT": str(constraints)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{packages[0]} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
