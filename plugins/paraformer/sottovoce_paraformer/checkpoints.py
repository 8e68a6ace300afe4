"""Choice of the file of weights in a FunASR directory, where a trainer left several."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sottovoce.checkpoint import contained_path
from sottovoce.checkpoint.choice import requested_weights, weight_names
from sottovoce.errors import SourceError
from sottovoce_paraformer.configuration_keys import KEPT_HEADS
from sottovoce_paraformer.sections import stays_inside

WEIGHTS = "model.safetensors"
"""Name of the file that is written."""

NAMES = ("model.pt", WEIGHTS, "model.pb")
"""Names of weights where no configuration names them, FunASR's own first."""

_log = logging.getLogger("sottovoce.paraformer")
# FunASR sets the root logger to errors only.
_log.setLevel(logging.WARNING)


def choose_weights(directory: Path, config: dict[str, Any], described: str | None, requested: str | None) -> Path:
    """Choose as FunASR does: what ``configuration.json`` names, else ``model.pt``; and say it where there are others.

    Args:
        directory: The model's.
        config: The content of ``config.yaml``. An ``init_param`` elsewhere is the start of a training, not its result.
        described: ``init_param`` of ``configuration.json``, where there is one.
        requested: Name of the file that the caller chose.

    Returns:
        The file; if there is none, a path that does not exist, so that loading names it.

    Raises:
        UsageError: The requested file does not exist.
        SourceError: A name leaves the directory, or several files could be meant.
    """
    if requested is not None:
        return requested_weights(directory, requested)
    present = weight_names(directory)
    written = config.get("init_param")
    named = [] if described is None else [described]
    if isinstance(written, str) and stays_inside(written):
        named.append(written)
    usual = (WEIGHTS, *NAMES) if any(map(config.get, ("quantization_config", KEPT_HEADS))) else NAMES
    places = [contained_path(directory, name, "init_param") for name in (*named, *usual)]
    chosen = next((path for path in places if path.is_file()), None)
    if chosen is None and len(present) > 1:
        raise SourceError(
            f"{directory}: there is no {NAMES[0]}, but {', '.join(present)}; choose one (--weights, or weights=)"
        )
    if chosen is None:
        return directory / present[0] if present else places[0]
    others = [name for name in present if name != chosen.name]
    if others:
        message = "%s: of its weights %s is taken; --weights (weights=) takes another of %s"
        _log.warning(message, directory, chosen.name, ", ".join(others))
    return chosen
