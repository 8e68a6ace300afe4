"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# The first example of a test may import torch; time says nothing about what is tested here.
settings.register_profile("sottovoce", deadline=None)
settings.load_profile("sottovoce")
