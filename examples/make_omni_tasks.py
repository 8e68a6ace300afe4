"""Writes tasks for the tiny omni model to train on: ``python examples/make_omni_tasks.py FOLDER``; needs espeak-ng.

They are of the kinds that the model was trained on, with the voices and strings of its training. Facts, which a model
only knows if it was told, are the same ones that the calibration and test data ask for.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from omni_data import make_tasks, write_split

COUNTS = {"text": 1000, "audio": 700, "image": 700, "video": 400}


def main() -> int:
    """Write ``train.jsonl`` and its media into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        parser.error("espeak-ng, which speaks the digits, is not installed")
    given.folder.mkdir(parents=True, exist_ok=True)
    write_split(make_tasks("train", COUNTS, given.seed), given.folder / "train.jsonl")
    print(f"{given.folder / 'train.jsonl'}: {sum(COUNTS.values())} tasks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
