"""Environments of their own, for libraries that must run without Sottovoce or want other versions.

Each is made in the repository's root when it is missing. One with other versions takes half a minute to two.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from filelock import FileLock
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def stock_transformers() -> Path:
    """The interpreter of an environment with transformers and without Sottovoce.

    Its packages are those of this environment, linked: a second PyTorch would take a minute to install.
    """
    packages = _with_requirements("torch", "transformers", "compressed-tensors")
    wanted = "\n".join(f"{package.name} {package.version} {package.locate_file('')}" for package in packages)
    return _made_once("stock-transformers", wanted, lambda folder: _link(folder, packages))


def interpreter(name: str, *packages: str, unpinned: str = "") -> Path:
    """The Python of an environment with these packages, at the versions of ``constraints.txt``.

    Args:
        name: It lies in ``.venv-<name>``.
        *packages: As ``pip install`` takes them.
        unpinned: A package whose pin does not count.
    """
    return _made_once(name, "\n".join(packages), lambda folder: _install(folder, packages, unpinned))


def _made_once(name: str, wanted: str, make: Callable[[Path], None]) -> Path:
    folder = ROOT / f".venv-{name}"
    stamp = folder / "packages.txt"
    # Two processes may want it at once.
    with FileLock(Path(tempfile.gettempdir()) / f"sottovoce-{os.getuid()}-{name}.lock"):
        if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
            stamp.write_text(wanted, encoding="utf-8")
    return folder / "bin" / "python"


def _with_requirements(*names: str) -> list[Distribution]:
    """The installed packages of these names, and what they need in turn."""
    found: dict[str, Distribution] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # what this platform can do without
        needed = [Requirement(line) for line in found[name].requires or ()]
        left += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return list(found.values())


def _link(folder: Path, packages: list[Distribution]) -> None:
    venv.create(folder, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    for package in packages:
        for top in {path.parts[0] for path in package.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())


def _install(folder: Path, packages: tuple[str, ...], unpinned: str) -> None:
    venv.create(folder, symlinks=True, with_pip=True)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pin for pin in pins if not unpinned or unpinned not in pin), encoding="utf-8")
    done = subprocess.run(
        # Most of the modules are never imported, so compiling all of them is for nothing.
        [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-compile", *packages],
        env=os.environ | {"PIP_CONSTRAINT": str(constraints)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{packages[0]} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
