"""Place of a mixture's experts in a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ExpertLayout:
    """Place of the experts in one part of a model, and the number in its configuration that counts them."""

    part: str
    """Name of the part in recipes and reports, such as ``decoder``."""
    experts: str
    """Pattern of the modules that hold the experts of a layer."""
    count: str
    """Path of the number of experts in the model's configuration, such as ``text_config.num_experts``."""
    router: str = "gate"
    """Name of the router, a sibling of the experts: its ``weight`` has a row per expert, of which ``top_k`` run."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""
    protect: Mapping[str, float] = field(default_factory=dict)
    """By kind of token (see ``Runner.modalities``), the share of a layer's experts that pruning keeps for it, unless a
    recipe has another. Samples must have such tokens."""
