"""Other sizes of a model that are published with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sottovoce.report import CompressionReport
from sottovoce_hub.card.reading import check


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same model, compressed by another recipe."""

    name: str
    """Name in tables, such as ``int8``."""
    repository: str
    """``owner/name``."""
    report: Mapping[str, Any]
    """Form of its ``compression.json``."""
    branch: str | None = None
    """Branch that it is on; ``None`` for the main one."""

    @cached_property
    def checked(self) -> CompressionReport:
        """The report, checked.

        Raises:
            PublishError: It is not what Sottovoce writes.
        """
        return check(self.report)
