"""What tests of cards share."""

from __future__ import annotations

import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Draw no pictures, where they are not what is tested: each takes a third of a second."""
    monkeypatch.setattr("sottovoce_hub.card.plots.draw", lambda *arguments: {})
