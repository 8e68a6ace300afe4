"""Saliency curves as pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core.mixtures import make_mixture, route
from sottovoce.errors import OutputError, SottovoceError
from sottovoce.experts.plots import saliency_curves
from sottovoce.experts.saliency import Saliency, measure
from sottovoce.experts.selection import choose_experts


def layers(count: int = 3) -> dict[str, Saliency]:
    mixture = make_mixture()
    return {f"layers.{number}": measure(mixture.experts, route(mixture, seed=number)) for number in range(count)}


@pytest.mark.parametrize("metric", ["reap", "mean-norm", "ean", "frequency"])
def test_saliency_curves_are_drawn(metric: Any, tmp_path: Path) -> None:
    from PIL import Image

    is_loaded = "matplotlib.pyplot" in sys.modules  # by another test
    measured = layers()
    kept = {name: choose_experts(one, 4, protect={"audio": 0.3}).kept for name, one in measured.items()}
    path = tmp_path / "saliency.png"
    assert saliency_curves(measured, kept, path, metric) is None  # type: ignore[func-returns-value]
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        # A panel for all tokens, and one for each of the two kinds.
        assert picture.width > 2 * picture.height
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50
    assert ("matplotlib.pyplot" in sys.modules) is is_loaded


def test_layers_without_tokens_without_cut_and_with_other_kinds_are_drawn(tmp_path: Path) -> None:
    nothing = torch.zeros(1, 5, dtype=torch.float64)
    empty = Saliency(("image",), nothing, nothing, nothing, nothing, largest=nothing[0])
    saliency_curves({**layers(1), "empty": empty}, {}, tmp_path / "some.png")
    saliency_curves({"empty": empty}, {"empty": (0, 1)}, tmp_path / "one.png")
    saliency_curves({}, {}, tmp_path / "none.png")
    assert len(list(tmp_path.iterdir())) == 3


def test_plot_without_matplotlib_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SottovoceError, match=r"pip install matplotlib"):
        saliency_curves({}, {}, tmp_path / "saliency.png")


def test_plot_into_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        saliency_curves({}, {}, tmp_path / "none" / "saliency.png")
