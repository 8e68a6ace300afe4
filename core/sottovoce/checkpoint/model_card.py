"""What a model's own files say of it: its licence and languages, and a fingerprint to know it again by."""

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
"""Names of the files that must go with copies of a model."""
LARGEST_NOTICE = 1_000_000
"""Bytes; what is longer is not read."""

_FRONT_MATTER = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_PIECES, _PIECE = 64, 4096


def describe_origin(directory: Path) -> dict[str, Any]:
    """The licence and the languages that a model's card states, and the fingerprint of its weights.

    Returns:
        ``license`` (``id``, ``name`` and ``link``, or ``None`` when the card states none), ``languages`` and
        ``fingerprint``, in the form of JSON.
    """
    stated = front_matter(directory / CARD)
    return {
        "license": _license(stated),
        "languages": _words(stated.get("language")),
        "fingerprint": fingerprint(directory),
    }


def front_matter(path: Path) -> dict[str, Any]:
    """The metadata at the head of a card; empty when there is none or it is not to be understood."""
    try:
        with path.open(encoding="utf-8") as file:
            found = _FRONT_MATTER.match(file.read(LARGEST_NOTICE))
        content = parse_yaml(found[1]) if found else None
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def fingerprint(directory: Path) -> str | None:
    """A digest by which the same weights are known again; ``None`` where there are none.

    Of every file it takes the name, the size and 64 pieces of 4 KiB spread evenly, the first and the last among them: a
    model of 70 GB takes no longer than a small one. It tells models apart; it does not prove that no bit has changed.
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
    """Copy the licence and the notices that lie beside a model, where ``directory`` has none of that name."""
    for path in sorted(source.glob("*")):
        fits = NOTICES.fullmatch(path.name) and path.is_file() and path.stat().st_size <= LARGEST_NOTICE
        if fits and not (directory / path.name).exists():
            shutil.copyfile(path, directory / path.name)


def _license(stated: Mapping[str, Any]) -> dict[str, str | None] | None:
    names = _words(stated.get("license"))
    if not names:
        return None
    name, link = stated.get("license_name"), stated.get("license_link")
    return {
        "id": names[0],
        "name": name if isinstance(name, str) else None,
        "link": link if isinstance(link, str) else None,
    }


def _words(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each.strip() for each in values if isinstance(each, str) and each.strip()]
