"""The other sizes of a model that are published with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sottovoce_hub.card.report import Report


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same model, compressed by another recipe."""

    name: str
    """What to call it, such as ``int8``."""
    repository: str
    """``owner/name``."""
    report: Mapping[str, Any]
    """Its ``compression.json``."""
    branch: str | None = None
    """The branch that it is on; ``None`` for the main one."""

    @cached_property
    def facts(self) -> Report:
        """The report, checked.

        Raises:
            PublishError: It is not what Sottovoce writes.
        """
        return Report.read(self.report)
