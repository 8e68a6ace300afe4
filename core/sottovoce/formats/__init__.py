"""Formats on disk, one file each, and the registry of those that ``sottovoce export`` writes."""

from sottovoce.formats.format import Format

__all__ = ["Format"]
