"""Sizes of memory with units, as a type of click."""

from __future__ import annotations

import re
from typing import Any

import click

_SIZE = re.compile(r"\d*\.?\d+\s*[A-Za-z]*")


class Size(click.ParamType[int]):
    """Size such as ``8GB``, ``512MiB`` or a plain number of bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert to bytes."""
        from pydantic import ByteSize, TypeAdapter, ValidationError

        try:
            # ByteSize reads the beginning of a text, and leaves out what follows it.
            if isinstance(value, str) and not _SIZE.fullmatch(value.strip()):
                raise OverflowError
            size = TypeAdapter(ByteSize).validate_python(value)
        except (ValidationError, OverflowError):
            self.fail(f"{value!r} is not a size; give one such as 8GB, 512MiB or a number of bytes", param, ctx)
        if size <= 0:
            self.fail(f"{value!r} is not a size; give one above 0, such as 8GB", param, ctx)
        return int(size)


SIZE = Size()
