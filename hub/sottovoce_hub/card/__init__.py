"""Model cards: what a published model is, how it was made and what it measures, for people and for the hubs."""

from __future__ import annotations

from sottovoce_hub.card.check import check_metadata
from sottovoce_hub.card.results import eval_results
from sottovoce_hub.card.variant import Variant
from sottovoce_hub.card.writer import CARD_FILES, write_card

__all__ = ["CARD_FILES", "Variant", "check_metadata", "eval_results", "write_card"]
