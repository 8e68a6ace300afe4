"""The conformance of another form of a family whose first form every preset is tried on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.plugins.host import Host
from sottovoce.recipe.presets import PRESETS
from sottovoce.testing import Conformance

EVERY_DAY = ("int8", "int4")
"""One with weights alone and one that calibrates; the others differ in how layers are rounded, whatever the class."""


class FewPresets(Conformance):
    @pytest.mark.parametrize(
        "preset", [pytest.param(name, marks=() if name in EVERY_DAY else pytest.mark.slow) for name in sorted(PRESETS)]
    )
    def test_every_preset_reloads_exactly(self, host: Host, source: Path, preset: str, tmp_path: Path) -> None:
        super().test_every_preset_reloads_exactly(host, source, preset, tmp_path)
