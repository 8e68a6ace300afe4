"""Patterns of module names, as recipes and families state them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

Pattern = Annotated[str, Field(min_length=1)]


def matches(name: str, class_name: str, pattern: str) -> bool:
    """Return true if ``pattern`` matches a module called ``name`` of class ``class_name``."""
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], name) is not None
    return pattern in (name, class_name)
