"""The honest models, warm, and the processes that attack copies of them."""

from __future__ import annotations

import contextlib
import gc
import io
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from attack.case import Case
from attack.model import MODELS, HonestModel, make
from attack.trial import Honest, Outcome, attack, measure

_Task = tuple[Case, int]


class Ground:
    """Where attacks are run: everything is imported once, and every case forked from here.

    Args:
        folder: Where directories are made, on a file system of some size.
        names: The models that are needed.
        models: Where the honest ones are; those that are missing are made there.
    """

    def __init__(self, folder: Path, models: Path, names: Sequence[str] = MODELS) -> None:
        self._folder = folder
        self.models = {name: HonestModel(name, models / name) for name in names}
        _import(any(model.family == "paraformer" for model in self.models.values()))
        context = multiprocessing.get_context("fork")
        for model in self.models.values():
            if not model.directory.exists():
                # In another process: threads that a product starts here would not be there after a fork.
                maker = context.Process(target=make, args=(model.name, model.directory))
                maker.start()
                maker.join()
                if maker.exitcode:
                    raise RuntimeError(f"the honest model {model.name} could not be made")
            _inspect(model)  # What this imports, the makers of the next ones have as well.
        for model in self.models.values():
            assert model.digests  # Computed once, not in every child.
        gc.freeze()

    def run(self, cases: Sequence[Case], seed: int, jobs: int) -> Iterator[Outcome]:
        """Attack, and yield what came of it in the order of the cases."""
        needed = {(case.model, _like(case, seed)) for case in cases}
        global _STATE  # what cannot pass through a pipe is inherited
        _STATE = _State(list(cases), seed, self.models, self._folder, {})
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            _STATE.honest.update(zip(sorted(needed), pool.map(_measure, sorted(needed), chunksize=1), strict=True))
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            yield from pool.imap(_attack, range(len(cases)))


class _State:
    def __init__(
        self,
        cases: list[Case],
        seed: int,
        models: dict[str, HonestModel],
        folder: Path,
        honest: dict[tuple[str, str], Honest],
    ) -> None:
        self.cases, self.seed, self.models, self.folder, self.honest = cases, seed, models, folder, honest


_STATE: _State


def _like(case: Case, seed: int) -> str:
    """The operation that gives on the honest model what a case's should."""
    operation = case.operation(seed)
    return "predict" if operation == "together" else operation


def _measure(needed: tuple[str, str]) -> Honest:
    return measure(_STATE.models[needed[0]], needed[1], _STATE.folder)


def _attack(number: int) -> Outcome:
    case = _STATE.cases[number]
    honest = _STATE.honest[case.model, _like(case, _STATE.seed)]
    return attack(case, _STATE.models[case.model], _STATE.seed, honest, _STATE.folder)


def _import(with_funasr: bool) -> None:
    """Import what any case needs, quietly."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with contextlib.redirect_stdout(io.StringIO()):
        if with_funasr:  # First: after Sottovoce's plugin it would import a part of itself.
            import funasr  # noqa: F401
        import torch
        import transformers

        import sottovoce.entrypoints.save
        import sottovoce.plugins.host
        import sottovoce_forced_aligner.inference  # noqa: F401
        import sottovoce_omni_moe.conversation
        import sottovoce_omni_moe.talker  # noqa: F401
        import sottovoce_paraformer.auto_model
        import sottovoce_paraformer.recognition
        from sottovoce.runtime.kernels import availability

        if availability.available():
            from numba.core.registry import cpu_target

            cpu_target.target_context.refresh()  # imports what the first kernel would, in every child

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    assert sottovoce.plugins.host.default_host().architectures
    assert sottovoce_paraformer.auto_model


def _inspect(model: HonestModel) -> None:
    """Have the model's classes imported, and what a recipe needs; nothing is computed."""
    import sottovoce

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        sottovoce.inspect(str(model.directory), None if model.compressed else "int8")
