"""Engines that run models: what Sottovoce writes is checked in each that is installed."""

from sottovoce.engines.engine import Engine

__all__ = ["Engine"]
