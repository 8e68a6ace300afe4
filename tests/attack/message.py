"""What may be wrong with a message that a person is shown."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 300
"""Characters of an error."""

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ADVICE = re.compile(
    r"this is a bug|weights_only|trust_remote_code=True|pip install kernels|https?://github\.com/[^ ]*/issues|Traceback"
)
"""Words of libraries: they blame the wrong one, or advise what must not be done."""

_MEMORY = re.compile(
    r"(n't|cannot|unable to|tried to) allocate|out of memory|memory is not enough|bad_alloc", re.IGNORECASE
)


def faults_of(message: str) -> list[str]:
    """Return what is wrong with an error's message."""
    faults = []
    if not message.strip():
        faults.append("the message is empty")
    if len(message) > LONGEST:
        faults.append(f"the message has {len(message)} characters")
    if hidden := unseen(message):
        faults.append(f"the message holds {hidden}")
    if advice := _ADVICE.search(message):
        faults.append(f"the message says {advice[0]!r}")
    return faults


def unseen(text: str, allowed: str = "") -> str:
    """Return the characters of a text that control or hide, as code points; few of many."""
    met = {character for character in text if unicodedata.category(character) in _UNSEEN} - set(allowed)
    return " ".join(f"U+{ord(character):04X}" for character in sorted(met)[:4])


def asks_for_memory(message: str) -> bool:
    """Return whether the reason is memory that was asked for and not given."""
    return _MEMORY.search(message) is not None


def printable(text: str) -> str:
    """Return a text as one line that a terminal can be given."""
    return "".join(
        character if unicodedata.category(character) not in _UNSEEN else ascii(character)[1:-1] for character in text
    )
