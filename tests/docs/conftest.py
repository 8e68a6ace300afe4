"""The workspace in which the documentation's blocks run, and their results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from docs.pages import ROOT, Block, all_pages

SESSION = Path(__file__).with_name("session.py")
ROWS = {"calibration.jsonl": 16}
"""Rows of manifests that the everyday run takes; of others it takes ``FEW``."""
FEW = 4
WHOLE = ("dev",)
"""Folders of audio that a block takes as a whole, so that the everyday run has those of the short manifest only."""


def takes_long(block: Block, command: Sequence[str] = ()) -> bool:
    """Return whether the everyday run leaves out a command or a block of Python, for the processes that it starts."""
    if block.language == "python":
        # The search on the command line is run.
        return any(f"sottovoce.{name}(" in block.code for name in ("evaluate", "compare", "search"))
    return command[0] in ("demo", "compare") or (command[0] == "evaluate" and "--baseline" in command)


def make_workspace(folder: Path, *, everything: bool) -> None:
    """Write the ``examples`` folder of the repository, with short manifests or all rows of them."""
    for path in sorted((ROOT / "examples").iterdir()):
        if path.name != "data" or everything:
            (folder / "examples").mkdir(exist_ok=True)
            (folder / "examples" / path.name).symlink_to(path)
    if everything:
        return
    for data in (ROOT / "examples" / "data").iterdir():
        short = folder / "examples" / "data" / data.name
        short.mkdir(parents=True)
        for path in sorted(data.iterdir(), key=lambda path: path.is_dir()):
            if path.suffix == ".jsonl":
                lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
                rows = ROWS.get(path.name, FEW)
                every = max(1, (len(lines) // rows - 1) | 1)
                (short / path.name).write_text("".join(lines[::every][:rows]), encoding="utf-8")
            elif path.name in WHOLE:
                (short / path.name).mkdir()
                listed = short.joinpath(f"{path.name}.jsonl").read_text(encoding="utf-8")
                for audio in (audio for audio in path.iterdir() if audio.name in listed):
                    (short / path.name / audio.name).symlink_to(audio)
            else:
                (short / path.name).symlink_to(path)


def runnable_blocks() -> list[Block]:
    """Return the blocks that run, in the order of the pages."""
    return [
        block
        for page in all_pages()
        for block in page.blocks
        if block.language in ("sh", "console", "python") and not block.reason
    ]


def run_blocks(blocks: list[Block], workspace: Path, *, everything: bool) -> dict[str, list[dict[str, object]]]:
    """Run blocks in one process, and return the results of each by its name, one for each command."""
    requests: list[dict[str, object]] = []
    owners = []
    for block in blocks:
        if block.language == "python":
            if takes_long(block) and not everything:
                continue
            requests.append({"page": block.page, "code": block.code})
            owners.append(block.name)
            continue
        for program, *arguments in block.commands:
            assert program == "sottovoce", f"{block.name}: {program} does not run here: say why above the block"
            if everything or not takes_long(block, arguments):
                requests.append({"command": arguments})
                owners.append(block.name)
    path = workspace / "results.json"
    subprocess.run(
        # Each process of its own would import the libraries again.
        [sys.executable, str(SESSION), str(path), *([] if everything else ["--together"])],
        input=json.dumps(requests),
        cwd=workspace,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        text=True,
        check=True,
    )
    results: dict[str, list[dict[str, object]]] = {block.name: [] for block in blocks}
    for owner, result in zip(owners, json.loads(path.read_text(encoding="utf-8")), strict=True):
        results[owner].append(result)
    return results


def prepare(folder: Path, *, everything: bool) -> Path:
    """Make a workspace with the recipes that the pages show under a file's name, and return it."""
    make_workspace(folder, everything=everything)
    for page in all_pages():
        for block in page.blocks:
            first = block.code.partition("\n")[0]
            if block.language in ("yaml", "json") and first.startswith("# ") and first.endswith((".yaml", ".json")):
                (folder / first[2:]).write_text(block.code, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """Results of all blocks on shortened data."""
    blocks = runnable_blocks()
    return run_blocks(blocks, prepare(tmp_path_factory.mktemp("docs"), everything=False), everything=False)


@pytest.fixture(scope="session")
def full_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """Results of all blocks on the data as they are, those that take long included."""
    blocks = runnable_blocks()
    return run_blocks(blocks, prepare(tmp_path_factory.mktemp("docs-full"), everything=True), everything=True)
