"""Checks of a run of several processes, as ``torchrun`` starts them, before it does any work."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from sottovoce.checkpoint.model_card import fingerprint
from sottovoce.errors import MemoryLimitError, RecipeError, UsageError
from sottovoce.metrics.kinds import is_timed
from sottovoce.report import GateReport
from sottovoce.system import distributed
from sottovoce.system.machine import versions

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.recipe.recipe import Recipe
    from sottovoce.samples import Samples


def check_processes(model: Model, recipe: Recipe, samples: dict[str, Samples | None], max_memory: int | None) -> None:
    """Check that several processes can compress the model together, and were given the same; one always can.

    Args:
        model: The model.
        recipe: The recipe.
        samples: All sets of samples, by what they are for.
        max_memory: Limit of the memory, if there is one.

    Raises:
        SottovoceError: A process was given another model, recipe or samples.
        MemoryLimitError: The model's blocks are to be read from disk one by one.
        RecipeError: The gate limits a time, which processes that share a machine cannot measure.
    """
    if distributed.world_size() == 1:
        return
    distributed.require_same(
        {
            "versions": _digest(versions()),
            "model": _digest([model.architecture.name, fingerprint(model.source.directory)]),
            "recipe": _digest(recipe.to_dict()),
            **{what: given.identity if given is not None else "" for what, given in samples.items()},
        }
    )
    if max_memory is not None or model.stream is not None:
        raise MemoryLimitError(
            "several processes share calibration only with the whole model in the memory of each: leave out "
            "--max-memory, or start one process"
        )
    if timed := [limit for limit in recipe.gate or {} if is_timed(GateReport.metric_of(limit))]:
        raise RecipeError(
            f"the gate {timed[0]!r} limits a time, which several processes on one machine cannot measure; start one "
            "process, or leave the limit out"
        )


def check_evaluation(subjects: dict[str, object], samples: Samples) -> None:
    """Check that all processes were given the same models and samples to evaluate.

    Args:
        subjects: Models or their names, by what they are.
        samples: The samples.

    Raises:
        SottovoceError: A process was given others.
    """
    if distributed.world_size() > 1:
        names = {what: str(subject) for what, subject in subjects.items() if not hasattr(subject, "module")}
        distributed.require_same({"versions": _digest(versions()), **names, "samples": samples.identity})


def require_one_process(what: str) -> None:
    """Refuse work that several processes cannot share.

    Raises:
        UsageError: There are several processes.
    """
    if (count := distributed.world_size()) > 1:
        raise UsageError(f"{what} runs in one process, and {count} were started; start it without torchrun")


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
