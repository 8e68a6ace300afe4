"""Files that run, or could: by their names, and by what they hold, whatever they are called."""

from __future__ import annotations

import io
import pickletools
import re

PROGRAMS = re.compile(
    r"\.(py[codwxz]?|ipynb|whl|egg|so(\.\d+)*|dll|dylib|exe|com|msi|scr|bat|cmd|psm?1|vbs|[mc]?js|jar|class|wasm"
    r"|(ba|z|fi|c|k)?sh|pl|php|rb|lua|app|apk|deb|rpm|dmg)$"
)
ARCHIVES = re.compile(r"\.(tar|tgz|gz|bz2|xz|zst|lz4|zip|7z|rar|mar|nemo|keras)$")
PICKLES = re.compile(r"\.(pkl|pickle|joblib|dill|cloudpickle|np[yz]|ckpt|h5|hdf5)$")
WEIGHTS = re.compile(r"\.(pt|pth|bin)$")
"""Pickles that loading reads as weights and nothing else (``weights_only=True``)."""

_START = 4096
_PICKLE, _ARCHIVE, _PROGRAM = "a pickle", "an archive", "a program"
_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\x80[\x02-\x05]"), _PICKLE),
    (re.compile(rb"\x93NUMPY|\x89HDF\r\n"), _PICKLE),
    (re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"), _ARCHIVE),
    (re.compile(rb"\x1f\x8b|BZh[1-9]1AY&SY|\xfd7zXZ\0|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|7z\xbc\xaf|Rar!"), _ARCHIVE),
    (re.compile(rb".{257}ustar", re.DOTALL), _ARCHIVE),
    (re.compile(rb"\x7fELF|\xca\xfe\xba\xbe|\0asm|BC\xc0\xde|\x1bLua"), _PROGRAM),
    (re.compile(rb"\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe"), _PROGRAM),
    (re.compile(rb"MZ.{58}", re.DOTALL), _PROGRAM),
    (re.compile(rb"(\xef\xbb\xbf)?#![ \t]*/"), _PROGRAM),
)
_NAMING = frozenset({"GLOBAL", "STACK_GLOBAL", "INST"})
_CALLING = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"})


def runs(name: str, content: bytes, *, weights: bool = False) -> str | None:
    """Return what a file is that runs when it is loaded or started, or could; ``None`` for data.

    Args:
        name: Its path.
        content: What it holds, or a beginning of that.
        weights: Whether pickles by the names of weights are data.
    """
    name = name.lower().rstrip(". ")
    if weights and WEIGHTS.search(name):
        return _PROGRAM if _by_content(content) == _PROGRAM else None
    return _by_name(name) or _by_content(content)


def _by_name(name: str) -> str | None:
    if PROGRAMS.search(name):
        return _PROGRAM
    if ARCHIVES.search(name):
        return _ARCHIVE
    return _PICKLE if PICKLES.search(name) or WEIGHTS.search(name) else None


def _by_content(content: bytes) -> str | None:
    for pattern, kind in _SIGNATURES:
        if pattern.match(content[:_START]) and (not content.startswith(b"MZ") or _is_portable(content)):
            return kind
    return _PICKLE if _is_old_pickle(content) else None


def _is_portable(content: bytes) -> bool:
    """Return true if content that begins as a Windows program is one; a text may begin with MZ."""
    place = int.from_bytes(content[60:64], "little")
    return content[place : place + 4] == b"PE\0\0" or b"\0" in content[:64]


def _is_old_pickle(content: bytes) -> bool:
    """Return true for a pickle of the oldest protocols, which are text, that calls something."""
    names: set[str] = set()
    try:
        for operation, _, place in pickletools.genops(content):
            names.add(operation.name)
            if operation.name == "STOP":
                # Nearly every letter is an operation, but words do not leave a stack in order.
                pickletools.dis(content[: (place or 0) + 1], out=io.StringIO())
                return bool(names & _NAMING and names & _CALLING)
    except Exception:  # Content that is not a pickle fails in any of a dozen ways.
        return False
    return False
