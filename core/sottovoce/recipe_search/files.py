"""Files of a search: the recipe, ``sensitivity.json`` and two pictures beside it."""

from __future__ import annotations

import json
from pathlib import Path

from sottovoce.errors import OutputError, SottovoceError, UsageError
from sottovoce.recipe_search.result import SearchResult
from sottovoce.system.atomic_write import write_atomically

SENSITIVITY_FILE = "sensitivity.json"
_SUFFIXES = (".yaml", ".yml")


def require_free(path: Path, overwrite: bool) -> None:
    """Check that the recipe may be written, before any work is done.

    Raises:
        UsageError: It has another suffix than YAML files, or exists, or its directory does not.
    """
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"{path}: a recipe is written as YAML: give a name such as recipe.yaml")
    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"{path}: exists; give another output, or --overwrite")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such directory; make it first")


def write(result: SearchResult, path: Path) -> list[str]:
    """Write the recipe, what was measured, and pictures.

    Returns:
        A note if there are no pictures.

    Raises:
        OutputError: The file system refused.
    """
    from sottovoce.recipe_search import plots

    heading = f"# {path.name}: searched by Sottovoce for {Path(result.model).name}\n"
    try:
        write_atomically(path.with_name(SENSITIVITY_FILE), json.dumps(result.to_dict(), indent=1) + "\n")
        write_atomically(path, heading + result.recipe.to_yaml())
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error})") from error
    try:
        plots.heat_map(result, path.with_name("sensitivity.png"))
        plots.front(result, path.with_name("front.png"))
    except OutputError:
        raise
    except SottovoceError as error:
        return [f"no pictures: {error}"]
    return []
