"""Facts about a source model from its own files: licence, languages, and a fingerprint of its weights."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.plain_data import parse_yaml

CARD = "README.md"
WEIGHT_FILES = (".safetensors", ".pt", ".bin", ".pth")
NOTICES = re.compile(r"(licen[cs]e|notice|copying|copyright)([._-].*)?", re.IGNORECASE)
"""Names of files that copies of a model must include."""
LARGEST_NOTICE = 1_000_000
"""Bytes; longer files are not read."""

_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_PIECES, _PIECE = 64, 4096


def describe_origin(directory: Path) -> dict[str, Any]:
    """Return the licence and the languages in a model's card, and the fingerprint of its weights.

    Returns:
        ``license`` (``id``, ``name`` and ``link``, or ``None`` when the card states none), ``languages`` and
        ``fingerprint``, in the form of JSON.
    """
    metadata = front_matter(directory / CARD)
    return {
        "license": _license(metadata),
        "languages": _words(metadata.get("language")),
        "fingerprint": fingerprint(directory),
    }


def front_matter(path: Path) -> dict[str, Any]:
    """Read the metadata at the head of a card; empty if there is none or it cannot be parsed."""
    try:
        with path.open(encoding="utf-8") as file:
            match = _FRONT_MATTER.match(file.read(LARGEST_NOTICE))
        content = parse_yaml(match[1]) if match else None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def fingerprint(directory: Path) -> str | None:
    """Compute a digest that identifies the weights in a directory; ``None`` without weights.

    It covers the name, the size and 64 evenly spread pieces of 4 KiB of every file, the first and the last included, so
    a model of 70 GB takes no longer than a small one. It tells models apart; it does not prove that no bit has changed.
    """
    files = sorted(path for path in directory.glob("*") if path.suffix in WEIGHT_FILES and path.is_file())
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for number in range(_PIECES):
                file.seek(max(size - _PIECE, 0) * number // (_PIECES - 1))
                digest.update(file.read(_PIECE))
    return digest.hexdigest() if files else None


def copy_notices(source: Path, directory: Path) -> None:
    """Copy the licence and the notices of a model to ``directory``; existing files are kept."""
    for path in sorted(source.glob("*")):
        fits = NOTICES.fullmatch(path.name) and path.is_file() and path.stat().st_size <= LARGEST_NOTICE
        if fits and not (directory / path.name).exists():
            shutil.copyfile(path, directory / path.name)


def _license(metadata: Mapping[str, Any]) -> dict[str, str | None] | None:
    names = _words(metadata.get("license"))
    if not names:
        return None
    name, link = metadata.get("license_name"), metadata.get("license_link")
    return {
        "id": names[0],
        "name": name if isinstance(name, str) else None,
        "link": link if isinstance(link, str) else None,
    }


def _words(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [word.strip() for word in values if isinstance(word, str) and word.strip()]
