"""Sizes of memory as people write them."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


class Size(click.ParamType[int]):
    """``8GB``, ``512MiB`` or a plain number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """To bytes."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", str(value).strip().upper())
        if found is None or found[2] not in _UNITS:
            self.fail(f"{value!r} is no size; write one as 8GB, 512MiB or a number of bytes", param, ctx)
        return int(float(found[1]) * _UNITS[found[2]])


SIZE = Size()
