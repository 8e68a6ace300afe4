"""Captions and cells of measured runs say what the results hold, and no more."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("captions")


def machine(*load: float) -> dict[str, Any]:
    facts = {"processor": "A CPU", "cores": 4, "threads": 2, "flags": ["avx2", "amx_int8"]}
    return {**facts, "versions": {"torch": "2.13", "funasr": None}, "load_average": list(load)}


def test_caption_names_script_processor_threads_and_versions(captions: ModuleType) -> None:
    text = captions.measured_by("speed.py", machine(1.0, 2.1))
    assert text == "Measured by `python benchmarks/speed.py` on A CPU (amx-int8), 2 of 4 cores, torch 2.13."


def test_load_beyond_the_own_threads_is_said(captions: ModuleType) -> None:
    assert captions.measured_by("speed.py", machine(0.4, 2.6)).endswith("was 0.4 before and 2.6 after.")


def test_ratio_has_quartiles_where_the_rounds_were_kept(captions: ModuleType) -> None:
    run = {"seconds": 0.5, "ratio": 0.6, "ratios": [0.5, 0.6, 0.8]}
    assert captions.time_and_ratio(run, "ms") == "500 ms (0.60, 0.55 to 0.70)"
    assert captions.time_and_ratio({"seconds": 0.5, "ratio": 0.6}) == "0.50 s (0.60)"
    assert "quartiles" in captions.ratios_to("peer", [run])
    assert "quartiles" not in captions.ratios_to("peer", [{"ratio": 0.6}])


@pytest.mark.usefixtures("captions")
def test_times_of_a_path_are_summarized_with_the_ratio_of_every_round() -> None:
    workers = importlib.import_module("workers")
    runs = [{"seconds": seconds, "peak_memory_bytes": 7} for seconds in (1.0, 3.0, 2.0)]
    peers = [{"seconds": 2.0, "peak_memory_bytes": 9}] * 3
    summary = workers.summarized(runs, peers)
    assert summary["ratios"] == [0.5, 1.5, 1.0]
    assert (summary["seconds"], summary["fastest_seconds"], summary["ratio"]) == (2.0, 1.0, 1.0)
    assert summary["peak_memory_bytes"] == 7
