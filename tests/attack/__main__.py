"""Attacks Sottovoce with damaged and hostile models: ``PYTHONPATH=tests python -m attack --cases 600``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attack import selection, tally
from attack.case import Case
from attack.model import MODELS
from attack.trial import Outcome

_SEED = 20_260
_KERNELS = "ATTACK_KERNELS"
"""Environment variable: where the package ``kernels`` is, in the process that has it."""


def main() -> int:
    """Run cases, print what came of them, and return 1 where one is a fault."""
    options = _options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = Path(name)
        models = options.models or folder / "models"
        _surround(folder)
        # They read the environment when they are imported.
        from attack.ground import Ground
        from sottovoce.system.interpreter import end_quickly

        end_quickly()
        (folder / "r").mkdir()
        ground = Ground(folder / "r", models, _models(_patterns(options)))
        cases = _chosen(options, list(ground.models.values()))
        kernels = _KERNELS in os.environ
        outcomes = list(_run(ground, [case for case in cases if case.kernels == kernels], options))
        if others := [case for case in cases if case.kernels and not kernels]:
            outcomes += _elsewhere(others, options, folder, models)
    faults = sum(outcome.fault for outcome in outcomes)
    print(f"\n{tally.show(outcomes)}")
    print(f"{len(outcomes)} cases, seed {options.seed}, {faults} faults, {time.monotonic() - began:.0f} s")
    if options.output:
        _write(options.output, outcomes, options)
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--cases", type=int, default=600, help="how many cases are drawn")
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--only", action="append", help="run the cases whose path fits this pattern instead")
    parser.add_argument("--only-from", type=Path, help="a file of such patterns, one a line")
    parser.add_argument("--jobs", type=int, default=max(1, min(4, (os.cpu_count() or 2) // 2)))
    parser.add_argument("--models", type=Path, help="where the honest models are kept from run to run")
    parser.add_argument("--output", type=Path, help="a file for counts and faults, as JSON")
    parser.add_argument(
        "--all-outcomes", action="store_true", help="write what came of every case, not of faults alone"
    )
    parser.add_argument("--list", action="store_true", help="print the cases and run none")
    return parser.parse_args()


def _surround(folder: Path) -> None:
    """Let no library find, keep or ask for anything elsewhere."""
    for variable in ("HF_HOME", "MODELSCOPE_CACHE", "TORCH_HOME", "XDG_CACHE_HOME"):
        os.environ[variable] = str(folder / "home")
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _chosen(options: argparse.Namespace, models: list[Any]) -> list[Case]:
    patterns = _patterns(options)
    if not patterns:
        return selection.select(models, options.cases, options.seed)
    cases = [case for pattern in patterns for case in selection.matching(models, pattern, options.seed)]
    return list({case.path: case for case in cases}.values())


def _patterns(options: argparse.Namespace) -> list[str]:
    patterns = list(options.only or ())
    if options.only_from:
        patterns += options.only_from.read_text(encoding="utf-8").split("\n")
    return list(filter(None, patterns))


def _models(patterns: Sequence[str]) -> Sequence[str]:
    """The models that the patterns name, or all of them: what is not needed is neither made nor imported."""
    named = {(*pattern.split("/"), "")[1] for pattern in patterns}
    return [name for name in MODELS if name in named] if named and named <= set(MODELS) else MODELS


def _run(ground: Any, cases: Sequence[Case], options: argparse.Namespace) -> Sequence[Outcome]:
    if options.list:
        print("\n".join(f"{case.path} ({case.operation(options.seed)})" for case in cases))
        return []
    outcomes = []
    for outcome in ground.run(cases, options.seed, options.jobs):
        outcomes.append(outcome)
        if outcome.fault:
            print(tally.fault_line(outcome, options.seed), flush=True)
        if sys.stderr.isatty():
            print(f"\r{len(outcomes)} of {len(cases)}", end="", file=sys.stderr)
    return outcomes


def _elsewhere(cases: Sequence[Case], options: argparse.Namespace, folder: Path, models: Path) -> list[Outcome]:
    """Run the cases that need the package ``kernels``, in a process that has it."""
    from attack import kernels

    kernels.install(folder / "packages")
    paths, answer = folder / "paths", folder / "answer.json"
    paths.write_text("\n".join(case.path for case in cases), encoding="utf-8")
    python = os.pathsep.join(filter(None, (str(folder / "packages"), os.environ.get("PYTHONPATH"))))
    arguments = [
        "--only-from",
        str(paths),
        "--seed",
        str(options.seed),
        "--jobs",
        str(options.jobs),
        "--models",
        str(models),
        "--output",
        str(answer),
        "--all-outcomes",
    ]
    if options.list:
        arguments.append("--list")
    done = subprocess.run(
        [sys.executable, "-m", "attack", *arguments],
        env={**os.environ, "PYTHONPATH": python, _KERNELS: "1"},
        stdout=None if options.list else subprocess.DEVNULL,
        check=False,
    )
    if not answer.is_file():
        raise RuntimeError(f"the cases with kernels were not run (exit {done.returncode})")
    outcomes = [Outcome(**form) for form in json.loads(answer.read_text(encoding="utf-8"))["outcomes"]]
    for outcome in outcomes:
        if outcome.fault:
            print(tally.fault_line(outcome, options.seed), flush=True)
    return outcomes


def _write(path: Path, outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    from sottovoce.system.machine import describe_machine

    form = tally.form(outcomes, options.seed, describe_machine())
    if options.all_outcomes:
        form["outcomes"] = [outcome.to_dict() for outcome in outcomes]
    path.write_text(json.dumps(form, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
