"""Records that describe a model family: data, and a few functions."""

from __future__ import annotations

from sottovoce.architecture.card import CardFacts
from sottovoce.architecture.experts import ExpertLayout
from sottovoce.architecture.family import Architecture
from sottovoce.architecture.fields import lazy
from sottovoce.architecture.layers import Layers, ScalePair
from sottovoce.architecture.runner import Runner
from sottovoce.architecture.shape import Depth, Heads, Shape, Width
from sottovoce.architecture.training import LOGITS, UNLABELED, Match, Training, TrainingOutputs

__all__ = (
    "LOGITS",
    "UNLABELED",
    "Architecture",
    "CardFacts",
    "Depth",
    "ExpertLayout",
    "Heads",
    "Layers",
    "Match",
    "Runner",
    "ScalePair",
    "Shape",
    "Training",
    "TrainingOutputs",
    "Width",
    "lazy",
)
