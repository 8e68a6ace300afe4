"""Cards of exported models: how to run them, and what engines gave beside PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

from hub.card.reports import DIGEST, QUANTIZED, saved, tables
from sottovoce_hub.card import write_card

pytestmark = pytest.mark.usefixtures("undrawn")
EXPORT: dict[str, Any] = {
    "format": "onnx",
    "files": {"model.onnx": 12345},
    "samples": {"name": "test.jsonl", "count": 16, "audio_seconds": 43.5, "sha256": DIGEST},
    "engines": [
        {
            "engine": "onnxruntime",
            "version": "1.31.1",
            "agreement": {
                "token_agreement": {
                    "value": 99.5,
                    "unit": "%",
                    "details": {"identical": 15, "utterances": 16},
                    "label": {"en": "token agreement", "zh": "token 一致率"},
                }
            },
            "latency_p50_ms": 12.25,
            "latency_spread": 0.08,
            "peak_memory_bytes": 180_000_000,
        },
        {"engine": "absent", "problem": "not installed (pip install absent)"},
    ],
    "machine": {"processor": "Some CPU", "versions": {"torch": "2.13.0"}},
    "date": "2026-11-28",
}


def cards(tmp_path, **changes):
    form = {**QUANTIZED, "export": {**EXPORT, **changes}}
    return {
        name: content.decode()
        for name, content in write_card(saved(tmp_path, form), repository="me/small", hub="hf").items()
        if name.endswith(".md")
    }


def test_engines_stand_in_a_table_in_both_languages(tmp_path):
    texts = cards(tmp_path)
    english = texts["README.md"]
    chinese = next(text for name, text in texts.items() if name != "README.md")
    row = ["onnxruntime 1.31.1", "token agreement: 99.50 % (15 of 16)", "12.25 ms, ± 4%", "180.0 MB"]
    assert next(table for table in tables(english) if table[0][0] == "engine")[1:] == [row]
    assert next(table for table in tables(chinese) if table[0][0] == "推理引擎")[1][0] == "onnxruntime 1.31.1"
    assert "absent" not in english
    assert "- Machine: Some CPU, torch 2.13.0" in english
    assert "- Date: 2026-11-28" in english


def test_a_time_without_its_spread_is_left_out(tmp_path):
    (engine, _) = EXPORT["engines"]
    without = {key: value for key, value in engine.items() if key != "latency_spread"}
    english = cards(tmp_path, engines=[without])["README.md"]
    assert "12.25 ms" not in english
    assert "180.0 MB" in english


def test_usage_fetches_and_runs_the_files_and_loads_no_model(tmp_path):
    english = cards(tmp_path)["README.md"]
    assert "export in the format `onnx`" in english
    assert 'run("model", "audio.wav")' in english
    assert "sottovoce pull me/small" in english
    assert "sottovoce.from_pretrained" not in english
    assert "sottovoce export" not in english


def test_export_in_the_models_own_format_is_loaded_as_ever(tmp_path):
    english = cards(tmp_path, format="native")["README.md"]
    assert "sottovoce.from_pretrained" in english
    assert "export in the format" not in english
    assert "## In other engines" in english


def test_export_without_samples_has_no_table(tmp_path):
    english = cards(tmp_path, samples=None, engines=[])["README.md"]
    assert "In other engines" not in english


def test_card_of_a_model_that_was_not_exported_is_as_before(tmp_path):
    text = write_card(saved(tmp_path, QUANTIZED), repository="me/small", hub="hf")["README.md"].decode()
    assert "In other engines" not in text
    assert "Export to other engines" in text
