"""A sample of the attacks: no damaged or hostile directory does more than be refused, or be the model that it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies

from attack import message
from attack.case import Case
from attack.selection import MANY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a process is watched through /proc")

CASES = 144
SEED = 7
TESTS = Path(__file__).parents[1]
KINDS = (
    "chance",
    "code",
    "configuration",
    "file system",
    "foreign keys",
    "funasr",
    "generation",
    "harmless",
    "indexes",
    "manifests",
    "notices",
    "pickles",
    "processors",
    "quantization",
    "scales",
    "templates",
    "threads",
    "tokenizers",
    "unfinished",
    "weights",
    "yaml",
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the sample in a process that has run nothing else, since every case is forked from it."""
    answer = tmp_path_factory.mktemp("attack") / "answer.json"
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    command = [
        sys.executable,
        "-m",
        "attack",
        "--cases",
        str(CASES),
        "--seed",
        str(SEED),
        "--jobs",
        "1",
        "--output",
        str(answer),
        "--all-outcomes",
    ]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=1800
    )
    assert answer.is_file(), done.stderr
    print(done.stdout)
    form: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return form


def test_the_sample_is_large_and_of_every_kind(sample: dict[str, Any]) -> None:
    assert sample["cases"] >= 140
    assert len({outcome["path"] for outcome in sample["outcomes"]}) == sample["cases"]
    assert set(sample["counts"]) == set(KINDS)
    assert all(sample["operations"][name] for name in ("predict", "inspect", "compress", "save"))


@pytest.mark.parametrize("kind", KINDS)
def test_no_attack_does_more_than_be_refused(kind: str, sample: dict[str, Any]) -> None:
    faults = [outcome for outcome in sample["faults"] if outcome["kind"] == kind]
    assert not faults, "\n".join(f"{fault['outcome']}: {fault['path']}: {fault['detail']}" for fault in faults)


def test_most_attacks_reach_the_loader(sample: dict[str, Any]) -> None:
    refused = sum(outcome["outcome"] == "refused" for outcome in sample["outcomes"])
    assert 0.3 < refused / sample["cases"] < 0.95


def _is_seen(text: str) -> bool:
    # Python counts no space but the plain one as printable.
    return "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in text).isprintable()


@given(strategies.text(max_size=400))
def test_a_message_is_clean_only_without_what_is_unseen(text: str) -> None:
    clean = not message.faults_of(text)
    assert not (clean and (len(text) > message.LONGEST or not _is_seen(text)))
    assert _is_seen(message.printable(text))


@given(strategies.integers(), strategies.text(min_size=1))
def test_what_a_case_leaves_open_depends_on_its_seed_alone(seed: int, name: str) -> None:
    one, other = (Case(kind="k", name=name, model="aligner-int8", change=lambda directory: None) for _ in range(2))
    assert one.operation(seed) == other.operation(seed)
    assert one.is_signed(seed) == other.is_signed(seed)


def test_the_sample_is_a_part_of_the_long_run() -> None:
    assert CASES < MANY
