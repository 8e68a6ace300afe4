"""Directory in which what was measured is kept, for an interrupted search and for further budgets."""

from __future__ import annotations

import json
from pathlib import Path

from sottovoce.errors import OutputError
from sottovoce.recipe_search.sensitivity import Sensitivity
from sottovoce.system.atomic_write import write_atomically

_VERSION = 3


class Cache:
    """Measurements by the digest of all that they depend on: the model, the samples and the settings."""

    def __init__(self, directory: Path | None, key: str) -> None:
        """Name the file; without a directory nothing is kept."""
        self._path = None if directory is None else directory / f"{key[:32]}.json"

    def read(self) -> Sensitivity:
        """Return what was measured; nothing if there is no file, or none that can be read."""
        if self._path is None:
            return Sensitivity()
        for rest in self._path.parent.glob(f"{self._path.name}.*.part"):
            rest.unlink(missing_ok=True)  # of a search that was killed while it wrote
        try:
            form = json.loads(self._path.read_text(encoding="utf-8"))
            return Sensitivity.from_dict(form["sensitivity"]) if form["version"] == _VERSION else Sensitivity()
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            # Measuring again is all that it costs.
            return Sensitivity()

    def keep(self, sensitivity: Sensitivity) -> None:
        """Write what is measured so far, completely or not at all.

        Raises:
            OutputError: The file system refused.
        """
        if self._path is None:
            return
        text = json.dumps({"version": _VERSION, "sensitivity": sensitivity.to_dict()})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, text)
        except OSError as error:
            raise OutputError(f"{self._path.parent}: measurements could not be kept ({error})") from error
