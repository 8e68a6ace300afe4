"""int8 copies of packed weights: those that are counted are those that the fast stacks hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import sottovoce
from plugins.paraformer.tiny import KINDS, make_model
from sottovoce import Quantize, Recipe
from sottovoce.runtime.backends import onednn
from sottovoce.runtime.backends.int8_engine import engine
from sottovoce.runtime.layers import least_memory_bytes
from sottovoce_paraformer.sanm import Stack, int8_copies, optimize_for_inference

FIRST = "re:encoder.encoders0.0.feed_forward.w_1"
RECIPES = {
    "int4": Recipe(steps=[Quantize(bits=4, activations="none", group_size=16)]),
    "int8-weight": "int8-weight",
    "partly": Recipe(steps=[Quantize(bits=4, activations="none", group_size=16, ignore=(FIRST,))]),
    "int8": "int8",
}


def held_bytes(module: nn.Module) -> int:
    """Return the bytes of the int8 weights that the plans of the stacks hold."""
    plans: list[Any] = [child.plan() for child in module.modules() if isinstance(child, Stack)]
    owners = [vars(owner) for plan in plans for owner in (plan, *plan.layers) if not isinstance(owner, nn.Module)]
    weights = [held for owner in owners for held in owner.values() if isinstance(held, onednn.PackedWeight)]
    return sum(weight.blocks.numel() for weight in weights)


@pytest.mark.skipif(engine() != "onednn", reason="oneDNN does not run here")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["int4", "int8-weight", "partly"])
def test_counted_copies_are_those_that_are_held(recipe: str, kind: str, tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path / "model", kind))
    sottovoce.compress(model, RECIPES[recipe])
    copies = list(int8_copies(model.module))
    assert copies
    assert sum(layer.in_features * layer.out_features for layer in copies) == held_bytes(model.module)
    partly = any("encoders0" in name for name, child in model.module.named_modules() if child in copies)
    assert partly == (recipe != "partly")


@pytest.mark.parametrize("recipe", RECIPES)
def test_inspection_counts_the_memory_of_the_loaded_model(recipe: str, tmp_path: Path) -> None:
    source = make_model(tmp_path / "model")
    model = sottovoce.load(source)
    report = sottovoce.compress(model, RECIPES[recipe])
    saved = sottovoce.save(model, tmp_path / "small")
    loaded = sottovoce.load(saved).module
    optimize_for_inference(loaded)
    expected = least_memory_bytes(loaded, int8_copies)
    assert report.least_memory_bytes == expected
    assert sottovoce.inspect(source, RECIPES[recipe])["estimate"]["least_memory_bytes"] == expected
    assert sottovoce.inspect(saved)["least_memory_bytes"] == expected


def test_other_engines_make_no_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "float")
    model = sottovoce.load(make_model(tmp_path / "model"))
    sottovoce.compress(model, "int8-weight")
    assert list(int8_copies(model.module)) == []
