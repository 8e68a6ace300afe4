"""The file of weights: its bytes, its header and its numbers."""

from __future__ import annotations

import gzip
import math
import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attack import tensor_file
from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.settings import replaced
from attack.tensor_file import WEIGHTS, with_header, with_tensors

KIND = "weights"

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 13218020\n"


def _edited(edit: Callable[[bytes], bytes]) -> Change:
    def apply(directory: Path) -> None:
        path = directory / WEIGHTS
        path.write_bytes(edit(path.read_bytes()))

    return apply


def _length(value: int) -> Change:
    return _edited(lambda content: struct.pack("<Q", value) + content[8:])


def _sparse(directory: Path) -> None:
    with (directory / WEIGHTS).open("r+b") as file:
        file.truncate(50_000_000_000)


BYTES: Mapping[str, Change] = {
    "empty": replaced(WEIGHTS, b""),
    "seven bytes": replaced(WEIGHTS, b"\1\0\0\0\0\0\0"),
    "zeros": _edited(lambda content: bytes(len(content))),
    "half": _edited(lambda content: content[: len(content) // 2]),
    "one byte less": _edited(lambda content: content[:-1]),
    "one byte more": _edited(lambda content: content + b"\0"),
    "twice": _edited(lambda content: content * 2),
    "header alone": _edited(lambda content: content[:2000]),
    "without its start": _edited(lambda content: content[1:]),
    "turned": _edited(lambda content: content[::-1]),
    "a pointer of Git LFS": replaced(WEIGHTS, _POINTER),
    "a page": replaced(WEIGHTS, "<!DOCTYPE html><html><title>404</title>\x1b[31m</html>"),
    "gzip": _edited(gzip.compress),
    "a pickle": replaced(WEIGHTS, pickle.dumps({"a": 1})),
    "a zip": replaced(WEIGHTS, b"PK\3\4" + bytes(100)),
    "length zero": _length(0),
    "length one": _length(1),
    "length beyond the file": _length(10**9),
    "length beyond 63 bits": _length(2**63),
    "length of all bits": _length(2**64 - 1),
    "50 GB that are not there": _sparse,
}

HEADERS: Mapping[str, Any] = {
    "no JSON": b"{'a'",
    "no UTF-8": b'{"\xff": 1}',
    "a list": [],
    "a text": "x",
    "empty": {},
    "deep": b"[" * 100_000,
    "no data": {"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
    "large": {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(50_000)},
    "escapes": b'{"\x1b[31m": 1}',
}
"""What stands in the place of the whole header."""

ENTRIES: Mapping[str, Any] = {
    "no entry": 7,
    "an empty entry": {},
    "dtype unknown": {"dtype": "F33"},
    "dtype escapes": {"dtype": "\x1b[31m\u202e"},
    "dtype number": {"dtype": 3},
    "dtype null": {"dtype": None},
    "dtype list": {"dtype": ["F32"]},
    "shape negative": {"shape": [-1, 4]},
    "shape huge": {"shape": [2**62, 4]},
    "shape overflow": {"shape": [2**33, 2**33]},
    "shape empty": {"shape": []},
    "shape zero": {"shape": [0]},
    "shape fraction": {"shape": [1.5]},
    "shape text": {"shape": "12"},
    "shape of ones": {"shape": [1] * 100_000},
    "offsets beyond": {"data_offsets": [0, 10**12]},
    "offsets turned": {"data_offsets": [400, 0]},
    "offsets negative": {"data_offsets": [-4, 0]},
    "offsets empty": {"data_offsets": [0, 0]},
    "offsets of another": {"data_offsets": [0, 4]},
    "offsets text": {"data_offsets": ["0", "4"]},
}
"""What one tensor's entry says instead."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "F32": ("I32", "U32"),
    "BF16": ("F16", "I16", "U16"),
    "I8": ("U8", "BOOL", "F8_E4M3", "F8_E5M2"),
    "I32": ("U32", "F32"),
    "U8": ("I8", "BOOL"),
}
"""Types of as many bytes, of which the honest one is known."""

TYPES = (
    "int8",
    "uint8",
    "int16",
    "int32",
    "int64",
    "bool",
    "complex64",
    "float8_e4m3fn",
    "float16",
    "bfloat16",
    "float64",
)
"""Types that one tensor is turned into, numbers and all."""

NAMES: Mapping[str, str] = {
    "escapes": "\x1b[31mred\x07\u202e\nline",
    "long": "n" * 100_000,
    "empty": "",
    "of many parts": "a." * 5_000,
    "a method": "forward",
    "a magic one": "__class__",
    "a path": "../../x/secret.txt",
    "metadata": "__metadata__",
}

METADATA: Mapping[str, Any] = {
    "text": "x",
    "numbers": {"a": 1},
    "escapes": {"format": "\x1b[31m\u202e"},
    "format of others": {"format": "tf"},
    "large": {"a": "x" * 10_000_000},
}

NUMBERS: Mapping[str, tuple[float, Expect]] = {
    "NaN": (math.nan, Expect.REFUSED),
    "infinity": (math.inf, Expect.REFUSED),
    "minus infinity": (-math.inf, Expect.REFUSED),
    "zero": (0.0, Expect.UNKNOWABLE),
    "1e38": (1e38, Expect.UNKNOWABLE),
    "negative": (-1.0, Expect.UNKNOWABLE),
}
"""What one tensor is filled with, or one of its numbers is."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield all cases of the file of weights; a pickle has cases of its own."""
    if model.weights != WEIGHTS:
        return
    header, _ = tensor_file.read(model.directory / WEIGHTS)
    names = tensor_file.names(model.directory / WEIGHTS)
    floats = [name for name in names if header[name]["dtype"] in ("F32", "BF16", "F16")]
    yield from _made(model, "bytes", BYTES, Expect.REFUSED)
    yield from _made(model, "header", {what: _header(value) for what, value in HEADERS.items()}, Expect.REFUSED)
    for name in (names[0], names[-1]):
        entries = {what: _entry(name, value) for what, value in ENTRIES.items()}
        yield from _made(model, f"entry/{name}", entries, Expect.REFUSED)
    yield from _words(model, header, names)
    for name in (floats[0], floats[len(floats) // 2]):
        yield from _types(model, name)
        yield from _numbers(model, name)
    yield from _sets(model, names)


def _made(model: HonestModel, group: str, changes: Mapping[str, Change], expect: Expect) -> Iterator[Case]:
    for what, change in changes.items():
        yield Case(kind=KIND, name=f"{group}/{what}", model=model.name, change=change, expect=expect)


def _header(value: Any) -> Change:
    return with_header(lambda header: value)


def _entry(name: str, value: Any) -> Change:
    return with_header(
        lambda header: header.update({name: header[name] | value if value and isinstance(value, dict) else value})
    )


def _words(model: HonestModel, header: dict[str, Any], names: list[str]) -> Iterator[Case]:
    """One word of the header changed: the same bytes are said to be numbers of another type."""
    for honest, words in WORDS.items():
        stored = [name for name in names if header[name]["dtype"] == honest]
        for word in words:
            for which, chosen in (("first", stored[:1]), ("all", stored)):
                if not chosen:
                    continue

                def change(form: dict[str, Any], chosen: list[str] = chosen, word: str = word) -> None:
                    for name in chosen:
                        form[name]["dtype"] = word

                # The bits of one float read as another's are numbers as well.
                expect = Expect.UNKNOWABLE if (honest, word) == ("BF16", "F16") else Expect.REFUSED
                yield Case(
                    kind=KIND,
                    name=f"word/{honest} is {word}/{which}",
                    model=model.name,
                    expect=expect,
                    change=with_header(change),
                    operations=("predict", "save", "compress"),
                    reported=which == "first" and (honest, word) in (("F32", "I32"), ("I8", "U8")),
                )


def _types(model: HonestModel, name: str) -> Iterator[Case]:
    for kind in TYPES:

        def change(tensors: dict[str, Any], kind: str = kind) -> None:
            import torch

            tensors[name] = tensors[name].to(getattr(torch, kind))

        expect = Expect.UNKNOWABLE if "float" in kind else Expect.REFUSED
        yield Case(
            kind=KIND,
            name=f"type/{name}/{kind}",
            model=model.name,
            change=with_tensors(change),
            expect=expect,
            operations=("predict", "save", "compress"),
            reported=kind == "complex64" and model.name == "aligner",
        )


def _numbers(model: HonestModel, name: str) -> Iterator[Case]:
    for what, (number, expect) in NUMBERS.items():
        for part in ("one", "all"):

            def change(tensors: dict[str, Any], part: str = part, number: float = number) -> None:
                tensor = tensors[name] if part == "all" else tensors[name].view(-1)[3:4]
                tensor.fill_(number)

            yield Case(
                kind=KIND,
                name=f"numbers/{name}/{part} {what}",
                model=model.name,
                change=with_tensors(change),
                expect=expect,
                operations=("predict", "save", "compress"),
                reported=part == "all" and what in ("NaN", "infinity") and name.endswith("weight"),
            )


def _sets(model: HonestModel, names: list[str]) -> Iterator[Case]:
    """Tensors too many, too few, under other names or in each other's place."""
    for what, name in NAMES.items():
        told = what in ("escapes", "long")
        yield _case(model, f"renamed/{what}", _renamed(names[0], name), Expect.REFUSED, told)
        yield _case(model, f"added/{what}", _added(name), Expect.REFUSED)
    changes: Mapping[str, tuple[Change, Expect]] = {
        "added/500": (with_tensors(lambda tensors: _many(tensors, names[-1])), Expect.REFUSED),
        "removed/one": (with_header(lambda header: _without(header, names[-1])), Expect.REFUSED),
        "removed/first": (with_tensors(lambda tensors: _without(tensors, names[0])), Expect.REFUSED),
        "removed/all": (with_tensors(lambda tensors: {}), Expect.REFUSED),
        "swapped": (with_tensors(lambda tensors: _swap(tensors, names)), Expect.UNKNOWABLE),
        "missing": (lambda directory: (directory / WEIGHTS).unlink(), Expect.REFUSED),
    }
    for what, (change, expect) in changes.items():
        yield _case(model, what, change, expect)
    for what, metadata in METADATA.items():
        yield _case(model, f"metadata/{what}", _with_metadata(metadata), Expect.SAME)
    for ending in (".bin", ".pt", ".ckpt", ".safetensors.bak", ".SAFETENSORS"):
        yield _case(model, f"moved/{ending}", _moved(ending), Expect.SAME)


def _case(model: HonestModel, name: str, change: Change, expect: Expect, reported: bool = False) -> Case:
    return Case(kind=KIND, name=name, model=model.name, change=change, expect=expect, reported=reported)


def _renamed(old: str, new: str) -> Change:
    return with_header(lambda header: header.update({new: header.pop(old)}))


def _added(name: str) -> Change:
    return with_header(lambda header: header.update({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}))


def _with_metadata(metadata: Any) -> Change:
    return with_header(lambda header: header.update({"__metadata__": metadata}))


def _moved(ending: str) -> Change:
    return lambda directory: (directory / WEIGHTS).rename(directory / f"model{ending}")


def _without(form: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in form.items() if key != name}


def _many(tensors: dict[str, Any], name: str) -> None:
    tensors.update({f"extra.\x1b[31m{number}." + "x" * 200: tensors[name].clone() for number in range(500)})


def _swap(tensors: dict[str, Any], names: list[str]) -> None:
    like = [name for name in names[1:] if tensors[name].shape == tensors[names[0]].shape]
    other = like[0] if like else names[0]
    tensors[names[0]], tensors[other] = tensors[other], tensors[names[0]]
