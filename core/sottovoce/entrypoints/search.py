"""Search for the recipe that loses least within a budget."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sottovoce.entrypoints.load import load
from sottovoce.entrypoints.processes import require_one_process
from sottovoce.model import Model, in_evaluation_mode, require_model
from sottovoce.plugins.host import Host, default_host
from sottovoce.recipe_search.budget import parse_budget
from sottovoce.recipe_search.result import SearchResult
from sottovoce.recipe_search.solver import require_solver
from sottovoce.samples import SamplesArgument, as_samples, as_samples_or_none
from sottovoce.system.number_argument import as_limits
from sottovoce.system.path_argument import as_path_or_none
from sottovoce.system.process_state import kept_random_state
from sottovoce.system.progress import Progress, shown


@kept_random_state()
def search(
    model: Model | str | os.PathLike[str],
    samples: SamplesArgument,
    budget: str | int | Sequence[str | int],
    *,
    limits: Mapping[str, float] | None = None,
    steps: Sequence[str] | str = ("quantize", "cast"),
    held_out: SamplesArgument | None = None,
    cache: str | os.PathLike[str] | None = None,
    host: Host | None = None,
    progress: Progress | bool = False,
) -> SearchResult:
    """Search for the recipe that loses least within a budget, by measurement; the model is left as it is.

    What the model loses by each choice alone is the divergence of its outputs from those of the float model. An integer
    program then picks the mix, and the mix is really compressed and measured, on samples that it was not calibrated on.

    Args:
        model: A float model, or its directory, alias or hub id.
        samples: Calibration samples or their manifest.
        budget: Size of the weights on disk (``2.4MB``, a number of bytes, or ``x0.3`` of the model's), time
            (``latency=x0.5`` of the model's), or several of them, which must all hold.
        limits: Bounds on metrics that the result must hold as well, such as ``{"max_cer_increase": 0.1}``.
        steps: Steps that the recipe may have: ``quantize``, ``prune_layers``, ``prune_experts``, ``prune_heads``,
            ``prune_width``, ``cast``. A step prunes the parts of its default, or those that are named:
            ``prune_layers=decoder``. ``quantize`` uses 4 and 8 bits, and also 2 and 3 where the budget is below what
            the recipe ``int4`` takes; or the bits that are named: ``quantize=2,3,4,8``. ``cast`` stores in 16 bits
            what stays in 32.
        held_out: Samples on which the mix is measured, or their manifest; they need no texts. By default one half
            of the calibration samples, by what was calibrated on the other; where parts are pruned, each half.
        cache: Directory in which measurements are kept, for an interrupted search and for further budgets.
        host: The plugins; by default the process's own.
        progress: True for a display on standard error; or a function, called after every measurement.

    Raises:
        UsageError: The budget is not one, or above the model, or below all that the steps can reach; or a step, a part
            or a metric is unknown; or the model is compressed already.
        SamplesError: The samples cannot be calibrated on.
        GateError: The best recipe within the budget does not hold a limit.
        SottovoceError: SciPy is not installed.
    """
    from sottovoce.entrypoints.recipe_search import RecipeSearch
    from sottovoce.recipe_search.structures import parse_steps

    require_one_process("a search")
    budgets, host = parse_budget(budget), host or default_host()
    require_solver()
    parts, bounds = parse_steps(steps), as_limits(limits)
    samples, others = as_samples(samples), as_samples_or_none(held_out, "held_out")
    if not isinstance(model, str | os.PathLike):
        require_model(model, "sottovoce.search")
    loaded = model if isinstance(model, Model) else load(model, host=host)
    directory = as_path_or_none(cache, "cache")
    with shown(progress) as progress, in_evaluation_mode(loaded):
        work = RecipeSearch(loaded, samples, budgets, parts, host, progress, others)
        return work.run(bounds, directory)
