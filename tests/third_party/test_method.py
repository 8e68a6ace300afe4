"""A quantization method of a third party looks like core's: in recipes, errors, lists, reports and cards."""

from __future__ import annotations

from pathlib import Path

import pytest

import sottovoce
from core.commands import Runner
from core.toy import make_model
from sottovoce.plugins.host import Host
from third_party.cards import cards

TOWARD_ZERO = "steps: [{step: quantize, method: biased_rounding, biased_rounding: {threshold: 1}}]"


def write(folder: Path, text: str) -> Path:
    path = folder / "biased.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_method_chooses_the_stored_values(host: Host, run: Runner, tmp_path: Path) -> None:
    source = make_model(tmp_path / "toy")
    run("compress", source, "--recipe", write(tmp_path, TOWARD_ZERO), "--output", tmp_path / "small")
    weights = sottovoce.load(source, host=host).module.state_dict()
    small = sottovoce.load(tmp_path / "small", host=host).module
    for number, block in enumerate(small.blocks):  # type: ignore[arg-type]
        exact = weights[f"blocks.{number}.weight"]
        values = block.dequantize().weight
        assert bool((values.abs() <= exact.abs() * 1.0001 + 1e-7).all())
        assert float((values - exact).abs().max()) > 0


def test_options_are_kept_in_the_report_under_its_name(host: Host, run: Runner, tmp_path: Path) -> None:
    plain = write(tmp_path, "steps: [{step: quantize, method: biased_rounding}]")
    report = run("compress", make_model(tmp_path / "toy"), "-r", plain, "-o", tmp_path / "small", "--json").json
    assert report["recipe"]["steps"][0]["biased_rounding"] == {"threshold": 0.75}
    again = sottovoce.Recipe.from_dict(report["recipe"])
    assert again.to_dict() == report["recipe"]


def test_wrong_option_is_named(run: Runner, tmp_path: Path) -> None:
    wrong = write(tmp_path, TOWARD_ZERO.replace("1}", "2}"))
    done = run("compress", make_model(tmp_path / "toy"), "--recipe", wrong, "--output", tmp_path / "small")
    done.fails(2, "biased_rounding.threshold: input should be less than or equal to 1, not 2")


def test_unknown_method_error_lists_it(run: Runner, tmp_path: Path) -> None:
    wrong = write(tmp_path, "steps: [{step: quantize, method: biased}]")
    done = run("compress", make_model(tmp_path / "toy"), "--recipe", wrong, "--output", tmp_path / "small")
    done.fails(2, "no 'biased'", "awq, biased_rounding, gptaq, gptq")


def test_method_is_listed_with_core_s(run: Runner) -> None:
    listed = run("plugins", "--json").json["methods"]
    assert listed["biased_rounding"] == "Weights are rounded up from a threshold on; needs no samples."
    assert "gptq" in listed


def test_cards_name_it_in_both_languages(run: Runner, tmp_path: Path) -> None:
    recipe = write(tmp_path, TOWARD_ZERO)
    run("compress", make_model(tmp_path / "toy"), "--recipe", recipe, "--output", tmp_path / "small")
    english, chinese = cards(tmp_path / "small")
    assert "with biased rounding" in english
    assert "以偏置舍入将" in chinese


def test_inspect_does_not_call_it_on_weights_without_data(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sottovoce_sparsity.biased_rounding as module

    monkeypatch.setattr(module.BiasedRounding, "quantize", None)
    shown = run("inspect", make_model(tmp_path / "toy"), "--recipe", write(tmp_path, TOWARD_ZERO), "--json").json
    assert shown["estimate"]["size_bytes"] < shown["size_bytes"]
