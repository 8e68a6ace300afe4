"""Pickles: what they would run, and what they hold instead of tensors."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.scratch import VARIABLE

KIND = "pickles"

COMMAND = f"touch ${VARIABLE}/RAN"
PYTHON = f"import os; open(os.environ[{VARIABLE!r}] + '/RAN', 'w').close()"
"""Hostile code: it leaves a marker."""


class Calls:
    """What a pickle calls when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        """``function`` is called with the arguments."""
        self._function, self._arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Be a call."""
        return self._function, self._arguments


def _code() -> Mapping[str, Any]:
    import codecs
    import importlib
    import os
    import runpy
    import subprocess

    import numpy as np
    import torch

    evil = "evil"
    return {
        "os.system": Calls(os.system, COMMAND),
        "exec": Calls(exec, PYTHON),
        "eval": Calls(eval, f"exec({PYTHON!r})"),
        "subprocess": Calls(subprocess.call, COMMAND, -1, None, None, None, None, None, True, True),
        "import": Calls(importlib.import_module, evil),
        "runpy": Calls(runpy.run_path, "evil.py"),
        "getattr": Calls(getattr, Calls(importlib.import_module, "os"), "system"),
        "codecs": Calls(codecs.decode, b"x", "rot13"),
        "torch.load": Calls(torch.load, "other.pt", None, None, False),
        "torch.hub": Calls(torch.hub.load, "evil-owner/evil", "x"),
        "numpy.load": Calls(np.load, "other.npy", None, True),
        "numpy objects": np.array([Calls(exec, PYTHON)], dtype=object),
        "a module": torch.nn.Linear(2, 2),
        "a function": torch.nn.functional.relu,
        "a class": torch.nn.Linear,
        "a path": Path("/etc/passwd"),
        "a counter": collections.Counter("x"),
    }


State = dict[str, Any]
HOLDINGS: Mapping[str, Callable[[State], Any]] = {
    "a list": lambda state: list(state.values()),
    "a tensor": lambda state: next(iter(state.values())),
    "a number": lambda state: 3,
    "a text": lambda state: "\x1b[31m",
    "nothing": lambda state: None,
    "empty": lambda state: {},
    "numbers": lambda state: dict.fromkeys(state, 1),
    "texts": lambda state: dict.fromkeys(state, "\x1b[31m"),
    "numbers as names": lambda state: dict(enumerate(state.values())),
    "lists": lambda state: {name: [tensor] for name, tensor in state.items()},
    "nested": lambda state: {"state_dict": {"state_dict": {"model": state}}},
    "state_dict a list": lambda state: {"state_dict": [1]},
    "int": lambda state: {name: tensor.int() for name, tensor in state.items()},
    "one too many": lambda state: state | {"extra\x1b[31m\nline": next(iter(state.values()))},
    "one too few": lambda state: dict(list(state.items())[1:]),
    "a name of 100 kB": lambda state: state | {"n" * 100_000: next(iter(state.values()))},
    "a number's name": lambda state: state | {7: next(iter(state.values()))},
    "prefixed": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "prefixed twice": lambda state: {f"module.module.{name}": tensor for name, tensor in state.items()},
    "both names": lambda state: {f"module.{name}": tensor * 2 for name, tensor in state.items()} | state,
}
"""By name, what lies in the place of the state dict."""

TENSORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "int": lambda torch, tensor: tensor.long(),
    "bool": lambda torch, tensor: tensor.bool(),
    "complex": lambda torch, tensor: torch.complex(tensor, tensor),
    "float64": lambda torch, tensor: tensor.double(),
    "meta": lambda torch, tensor: tensor.to("meta"),
    "sparse": lambda torch, tensor: tensor.to_sparse(),
    "quantized": lambda torch, tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "nested": lambda torch, tensor: torch.nested.nested_tensor([tensor, tensor]),
    "expanded": lambda torch, tensor: torch.zeros(1).expand(10**6, 10**6),
    "expanded to fit": lambda torch, tensor: torch.zeros(1).expand(tensor.shape),
    "conjugated": lambda torch, tensor: torch.complex(tensor, tensor).conj(),
    "with gradient": lambda torch, tensor: tensor.clone().requires_grad_(),
    "parameter": lambda torch, tensor: torch.nn.Parameter(tensor),
    "NaN": lambda torch, tensor: tensor * float("nan"),
    "infinite": lambda torch, tensor: tensor + float("inf"),
    "misshapen": lambda torch, tensor: tensor[:1],
    "none": lambda torch, tensor: tensor[:0],
}
"""By name, what becomes of one tensor."""

FINE = ("float64", "with gradient", "parameter", "prefixed", "expanded to fit", "both names")
"""Holdings that a loader may take."""


BYTES: Mapping[str, bytes] = {
    "empty": b"",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n",
    "a global with escapes": b"\x80\x02cos\x1b[31m\nsystem\xe2\x80\xae\n)R.",
    "a long global": b"\x80\x02c" + b"o" * 100_000 + b"\nsystem\n)R.",
    "os.system of protocol 0": f"cos\nsystem\n(S'{COMMAND}'\ntR.".encode(),
    "a persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "cut": b"\x80\x02}q\x00",
    "no end": b"\x80\x02(((((",
    "deep": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "a long number": b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\xff" * 100 + b".",
    "a memo beyond": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a frame beyond": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "an extension": b"\x80\x02\x82\x01.",
    "a text": b"hello",
    "a tar": b"pickle" + bytes(506),
    "a zip of nothing": b"PK\x05\x06" + bytes(18),
    "a zip cut": b"PK\x03\x04" + bytes(60),
    "safetensors": b"\x02\0\0\0\0\0\0\0{}",
}


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield pickles in the place of the weights, or beside them."""
    if model.name not in ("paraformer-pickle", "aligner", "omni", "paraformer"):
        return
    name = {"paraformer-pickle": "model.pt", "paraformer": "model.pt"}.get(model.name, "pytorch_model.bin")
    alone = model.name == "paraformer-pickle"
    for what, content in BYTES.items():
        yield _case(model, f"bytes/{what}", _written(name, content), Expect.REFUSED if alone else Expect.SAME)
    for what in _code():
        for form in ("zip", "legacy", "bare"):
            yield _case(
                model,
                f"code/{what}/{form}",
                _coded(name, what, form),
                Expect.REFUSED if alone else Expect.SAME,
                what == "os.system",
            )
    if alone:
        for group, names in (("holds", HOLDINGS), ("tensor", TENSORS)):
            for what in names:
                expect = Expect.UNKNOWABLE if what in FINE else Expect.REFUSED
                yield _case(model, f"{group}/{what}", _held(group, what), expect, what in ("int", "complex", "meta"))
        for what, edit in ZIPS.items():
            yield _case(model, f"zip/{what}", edit, Expect.REFUSED)


def _case(model: HonestModel, name: str, change: Change, expect: Expect, reported: bool = False) -> Case:
    only = ("predict", "compress") if expect is Expect.REFUSED else ()
    return Case(
        kind=KIND,
        name=name,
        model=model.name,
        change=change,
        expect=expect,
        operations=only,
        inside="runpy" in name or "torch.load" in name,
        reported=reported,
    )


def _written(name: str, content: bytes) -> Change:
    return lambda directory: (directory / name).write_bytes(content)


def _coded(name: str, what: str, form: str) -> Change:
    def apply(directory: Path) -> None:
        import torch

        content = {"a": _code()[what]}
        (directory / "evil.py").write_text(PYTHON, encoding="utf-8")
        if form == "bare":
            (directory / name).write_bytes(pickle.dumps(content, protocol=2))
        else:
            torch.save(content, directory / name, _use_new_zipfile_serialization=form == "zip")

    return apply


def _held(group: str, what: str) -> Change:
    def apply(directory: Path) -> None:
        import torch

        path = directory / "model.pt"
        state = torch.load(path, weights_only=True)
        if group == "tensor":
            first = next(iter(state))
            torch.save(state | {first: TENSORS[what](torch, state[first])}, path)
        else:
            torch.save(HOLDINGS[what](state), path)

    return apply


def _rezipped(edit: Callable[[str, bytes], tuple[str, bytes] | None], compression: int = zipfile.ZIP_STORED) -> Change:
    """Write the archive anew with every member edited, or left out."""

    def apply(directory: Path) -> None:
        path, new = directory / "model.pt", io.BytesIO()
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w", compression) as archive:
            for member in old.namelist():
                if (kept := edit(member, old.read(member))) is not None:
                    archive.writestr(*kept)
        path.write_bytes(new.getvalue())

    return apply


def _bomb(member: str, content: bytes) -> tuple[str, bytes]:
    return member, bytes(300_000_000) if member.endswith("/data/0") else content


ZIPS: Mapping[str, Change] = {
    "without data": _rezipped(lambda member, content: None if member.endswith("/data/0") else (member, content)),
    "without pickle": _rezipped(lambda member, content: None if member.endswith("data.pkl") else (member, content)),
    "data cut": _rezipped(lambda member, content: (member, content[:10] if "/data/" in member else content)),
    "data too long": _rezipped(
        lambda member, content: (member, content + bytes(64) if "/data/" in member else content)
    ),
    "packed": _rezipped(lambda member, content: (member, content), zipfile.ZIP_DEFLATED),
    "a bomb": _rezipped(_bomb, zipfile.ZIP_DEFLATED),
    "other byte order": _rezipped(lambda member, content: (member, b"big" if "byteorder" in member else content)),
    "other version": _rezipped(lambda member, content: (member, b"999" if member.endswith("version") else content)),
    "names that climb": _rezipped(lambda member, content: ("../../x/" + member, content)),
}
