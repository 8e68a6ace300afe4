"""One case on one model: what happened, and whether it may."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attack import child, message, surroundings
from attack.case import Case, Expect
from attack.model import MANIFEST, HonestModel, digests, sign
from attack.operation import OPERATIONS
from attack.scratch import Scratch
from attack.watch import SECRET, Watch, told

BEYOND = 500_000_000
"""Bytes over the limit that the system refuses: some room, so that a peak is seen."""


FINE = ("refused", "same", "described")
"""Outcomes that are no faults."""


@dataclass
class Trial:
    """What happened in the child."""

    status: str = "gave"
    """``gave``, ``refused``, ``raw`` for an error that is not Sottovoce's, or ``broken`` where the change failed."""
    kind: str = ""
    """The error's class."""
    message: str = ""
    digest: str = ""
    shown: str = ""
    finite: bool = True
    changes: list[str] = field(default_factory=list)
    """What is not as it was in the process."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a case."""

    path: str
    kind: str
    model: str
    operation: str
    outcome: str
    """One word or two, such as ``refused``, ``same`` or ``raw error``."""
    fault: bool
    detail: str
    seconds: float
    """Of processor time."""
    share: float
    """The peak of memory as a share of what is allowed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the form of JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Honest:
    """What an operation gives on a model that nothing is wrong with."""

    digest: str
    status: str
    peak: int
    message: str = ""


def measure(model: HonestModel, operation: str, folder: Path) -> Honest:
    """Run an operation on an honest model.

    Raises:
        RuntimeError: It fails, or does what is forbidden: nothing can be said by it.
    """
    case = Case(kind="honest", name=operation, model=model.name, change=lambda directory: None)
    with Scratch(folder, case.folder) as scratch:
        ending = child.run(lambda: _run(case, model, operation, False, scratch), scratch.base, 8 * BEYOND)
        seen = [*told(scratch.record), *scratch.faults(ending.value)]
    trial = ending.value
    if trial is None or trial.status == "raw" or trial.changes or seen:
        raise RuntimeError(f"{model.name}: {operation} of the honest model: {ending} {seen}")
    return Honest(trial.digest, trial.status, ending.peak, trial.message)


def attack(case: Case, model: HonestModel, seed: int, honest: Honest, folder: Path) -> Outcome:
    """Run a case and judge it.

    Args:
        case: What is done to the model.
        model: The honest one.
        seed: Decides what the case leaves open.
        honest: What the same operation gives without the change.
        folder: Where a directory can be made for it.
    """
    operation, signed = case.operation(seed), model.compressed and case.is_signed(seed)
    with Scratch(folder, case.folder) as scratch:
        memory = max(2 * honest.peak, BEYOND)
        ending = child.run(lambda: _run(case, model, operation, signed, scratch), scratch.base, memory)
        unlisted = model.compressed and _breaks_digests(scratch.model, model)
        faults, printed = [*told(scratch.record), *scratch.faults(ending.value)], scratch.printed()
    outcome, detail = _judge(case, operation, ending, honest, unlisted, printed.strip().rpartition("\n")[2])
    if outcome in FINE and (hidden := message.unseen(printed, "\n\r\t")):
        outcome, detail = "message", f"what was printed holds {hidden}"
    if SECRET in printed or SECRET in getattr(ending.value, "message", ""):
        outcome, detail = "leak", "what lies outside was shown"
    if faults:
        outcome, detail = faults[0]
    return Outcome(
        path=case.path,
        kind=case.kind,
        model=case.model,
        operation=operation,
        outcome=outcome,
        fault=outcome not in FINE,
        detail=detail[:400],
        seconds=round(ending.seconds, 2),
        share=round(ending.peak / (2 * honest.peak), 3),
    )


def _run(case: Case, model: HonestModel, operation: str, signed: bool, scratch: Scratch) -> Trial:
    """Change, sign and use a model: in the child."""
    shutil.copytree(model.directory, scratch.model)
    try:
        case.change(scratch.model)
    except Exception as error:
        return Trial(status="broken", kind=type(error).__name__, message=str(error)[:1000])
    if signed and (scratch.model / MANIFEST).is_file():
        with contextlib.suppress(Exception):  # It may be anything by now.
            sign(scratch.model)
    scratch.remember()
    os.chdir(scratch.model if case.inside else scratch.base)
    directory = "." if case.inside else os.path.relpath(scratch.model)
    watch = Watch(scratch.model, scratch.outside, scratch.record)
    child.forget_peak()
    watch.install()
    return _use(operation, directory, scratch.out)


def _use(operation: str, directory: str, out: Path) -> Trial:
    from sottovoce.errors import SottovoceError

    warnings.simplefilter("ignore")
    trial, before = Trial(), surroundings.state()
    try:
        result = OPERATIONS[operation](directory, out)
        trial.digest, trial.shown, trial.finite = result.digest, result.shown, result.finite
    except SottovoceError as error:
        trial.status, trial.kind, trial.message = "refused", type(error).__name__, str(error)
    except BaseException as error:
        trial.status, trial.kind, trial.message = "raw", type(error).__name__, str(error)[:1000]
    trial.changes = surroundings.changes(before, surroundings.state())
    return trial


def _breaks_digests(directory: Path, model: HonestModel) -> bool:
    """Whether a file is not what an untouched ``compression.json`` says."""
    now, honest = digests(directory), model.digests
    return now.get(MANIFEST) == honest[MANIFEST] and any(now.get(name) != digest for name, digest in honest.items())


def _judge(
    case: Case, operation: str, ending: child.Ending, honest: Honest, unlisted: bool, last: str
) -> tuple[str, str]:
    """The outcome, and what is to be said of it; ``last`` is the last line that was printed."""
    trial: Trial | None = ending.value
    if ending.hung:
        return "hang", f"{ending.seconds:.0f} s of processor time"
    if trial is None:
        return "death", f"{ending.death} {last}"
    if trial.status == "broken":
        return "broken case", f"{trial.kind}: {trial.message}"
    if trial.kind == "MemoryError" or message.asks_for_memory(trial.message):
        return "peak", f"{trial.kind}: {trial.message}"
    if ending.peak > 2 * honest.peak:
        return "peak", f"{ending.peak / 1e6:.0f} MB, the honest model {honest.peak / 1e6:.0f} MB"
    if trial.changes:
        return "changed process", f"not as before: {', '.join(trial.changes)}"
    if trial.status == "raw":
        return "raw error", f"{trial.kind}: {' '.join(trial.message.split())}"
    if trial.status == "refused":
        return _judge_refusal(case, trial, honest)
    if not trial.finite and case.expect is not Expect.UNKNOWABLE:
        return "not finite", trial.shown
    return _judge_outputs(case, operation, trial, honest, unlisted)


def _judge_refusal(case: Case, trial: Trial, honest: Honest) -> tuple[str, str]:
    if faults := message.faults_of(trial.message):
        return "message", f"{'; '.join(faults)}: {ascii(trial.message)}"
    if case.expect is Expect.HARMLESS and honest.status == "gave":
        return "refused in vain", trial.message
    return "refused", trial.message


def _judge_outputs(case: Case, operation: str, trial: Trial, honest: Honest, unlisted: bool) -> tuple[str, str]:
    if unlisted:
        return "accepted", "a file is not what its digest says"
    # Inspection does not look at the numbers.
    if case.expect is Expect.REFUSED and operation != "inspect":
        return "accepted", trial.shown
    if trial.digest == honest.digest:
        return "same", ""
    if case.expect is Expect.UNKNOWABLE:
        return "described", trial.shown
    return "differs", trial.shown
