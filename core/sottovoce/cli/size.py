"""Sizes of memory with units, as a type of click."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


class Size(click.ParamType[int]):
    """Size such as ``8GB``, ``512MiB`` or a plain number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert to bytes."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", str(value).strip().upper())
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is not a size; give one such as 8GB, 512MiB or a number of bytes", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


SIZE = Size()
