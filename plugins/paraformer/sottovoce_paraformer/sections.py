"""The keys of a FunASR configuration that are the model's, and those that are its trainer's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any

from sottovoce_paraformer.configuration_keys import FILES, FOLLOWED, RUN, TRAINING, USED

RECOGNIZERS = ("Paraformer", "BiCifParaformer", "SeacoParaformer", "ContextualParaformer")
VOICE_ACTIVITY = ("FsmnVADStreaming",)
PUNCTUATION = ("CTTransformer",)
SPEAKERS = ("CAMPPlus",)


def is_described(name: str) -> bool:
    """Return whether this plugin describes the class."""
    return name in (*RECOGNIZERS, *VOICE_ACTIVITY, *PUNCTUATION, *SPEAKERS)


def split(config: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """Split what a model of the class ``name`` needs from what its trainer wrote.

    Returns:
        The keys that are used, and the names of the other keys that have a value.
    """
    described = is_described(name)
    used: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in config.items():
        if key in USED or not (described or key in FOLLOWED or key in RUN):
            used[key] = _without_paths(value, (str(key),), left_out)
        elif value not in (None, False, "", [], {}):
            left_out.append(str(key))
    return used, left_out


def is_notable(left_out: list[str]) -> bool:
    """Return whether more was left out than the sections that every published model has."""
    return bool(set(left_out) - TRAINING)


def is_absolute(name: str) -> bool:
    """Return whether a name is an absolute path, by the rules of POSIX or of Windows."""
    return bool(PureWindowsPath(name).root) or name.startswith("~")


def stays_inside(name: str) -> bool:
    """Return whether a name is relative and climbs nowhere."""
    return not is_absolute(name) and ".." not in PureWindowsPath(name).parts


def leaves(form: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every text in nested mappings, with its keys."""
    if isinstance(form, Mapping):
        for key, value in form.items():
            yield from leaves(value, (*keys, str(key)))
    elif isinstance(form, str):
        yield keys, form


def _without_paths(value: Any, keys: tuple[str, ...], left_out: list[str]) -> Any:
    """Return a copy without paths that lead out of the directory, but for those of the files that the model reads."""
    if isinstance(value, list):
        kept = [inner for inner in value if not (isinstance(inner, str) and _leads_out(inner))]
        if len(kept) < len(value):
            left_out.append(".".join(keys))
        return [_without_paths(inner, keys, left_out) for inner in kept]
    if not isinstance(value, Mapping):
        return value
    form: dict[Any, Any] = {}
    for key, inner in value.items():
        place = (*keys, str(key))
        if isinstance(inner, str) and _leads_out(inner) and place not in FILES:
            left_out.append(".".join(place))
        else:
            form[key] = _without_paths(inner, place, left_out)
    return form


def _leads_out(name: str) -> bool:
    # A single character, such as a slash among punctuation marks, is not a path.
    return len(name) > 1 and not stays_inside(name)
