"""Several files of weights, an index of them, and files that only seem to belong to the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.settings import both, with_value
from attack.tensor_file import WEIGHTS

KIND = "indexes"
INDEX = "model.safetensors.index.json"

_OTHERS = (
    "other.safetensors",
    "evil.safetensors",
    "model.pt",
    "model.pb",
    "pytorch_model.bin",
    "model.bin",
    "tf_model.h5",
    "flax_model.msgpack",
    "adapter_model.safetensors",
    "model.fp16.safetensors",
    "0.safetensors",
    "consolidated.safetensors",
    "model.safetensors.1",
    "model.gguf",
)
"""Names that weights have elsewhere."""


def _tensors(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor.clone() for name, tensor in load_file(directory / WEIGHTS).items()}


def _write(path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, {"format": "pt"})


def _other(directory: Path, name: str = "evil.safetensors") -> dict[str, Any]:
    """Write other weights beside the honest ones."""
    tensors = {key: tensor * 2 for key, tensor in _tensors(directory).items()}
    _write(directory / name, tensors)
    return tensors


def _indexed(weight_map: Callable[[list[str]], Any], *, other: bool = True, keep: bool = True) -> Change:
    """Write an index; ``weight_map`` is given the names of the tensors."""

    def apply(directory: Path) -> None:
        names = list(_tensors(directory))
        if other:
            _other(directory)
        form = {"metadata": {"total_size": 1}, "weight_map": weight_map(names)}
        (directory / INDEX).write_text(json.dumps(form), encoding="utf-8")
        if not keep:
            (directory / WEIGHTS).unlink()

    return apply


def _to(name: Any) -> Callable[[list[str]], Any]:
    return lambda names: dict.fromkeys(names, name)


MAPS: Mapping[str, Callable[[list[str]], Any]] = {
    "names other weights": _to("evil.safetensors"),
    "names one other": lambda names: dict.fromkeys(names, WEIGHTS) | {names[0]: "evil.safetensors"},
    "climbs": _to("../evil.safetensors"),
    "climbs inside": _to("a/../evil.safetensors"),
    "absolute": _to("/etc/passwd"),
    "is cyclic": _to(INDEX),
    "names no safetensors": _to("config.json"),
    "names a pickle": _to("evil.bin"),
    "names what is missing": _to("model-00001-of-00002.safetensors"),
    "names many that are missing": lambda names: {name: f"f\x1b[31m{n}.safetensors" for n, name in enumerate(names)},
    "names escapes": _to("\x1b[31m\u202e.safetensors"),
    "names a directory": _to("."),
    "names nothing": _to(""),
    "names a number": _to(7),
    "names null": _to(None),
    "names lists": _to(["evil.safetensors"]),
    "is empty": lambda names: {},
    "is a list": lambda names: names,
    "is a text": lambda names: "evil.safetensors",
    "is null": lambda names: None,
    "knows too many": lambda names: dict.fromkeys([*names, "extra.\x1b[31m"], WEIGHTS),
    "knows too few": lambda names: dict.fromkeys(names[1:], WEIGHTS),
    "knows other names": lambda names: {f"x.{name}": WEIGHTS for name in names},
    "has a long name": lambda names: dict.fromkeys(names, WEIGHTS) | {"n" * 100_000: "evil.safetensors"},
}
"""By name, the weight map of an index."""


def _sharded(directory: Path, *, mixed: bool = False, overlapping: bool = False, missing: bool = False) -> None:
    tensors = _tensors(directory)
    names, files = sorted(tensors), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    halves = [names[::2], names[1::2]]
    weight_map = {name: file for file, half in zip(files, halves, strict=True) for name in half}
    if overlapping:
        halves[1] = [*halves[1], halves[0][0]]
        tensors = dict(tensors)
    for file, half in zip(files, halves, strict=True):
        _write(directory / file, {name: tensors[name] for name in half})
    if overlapping:
        _write(directory / files[1], {name: tensors[name] * (3 if name == halves[0][0] else 1) for name in halves[1]})
    if mixed:
        weight_map = {name: files[file == files[0]] for name, file in weight_map.items()}
    if missing:
        (directory / files[1]).unlink()
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (directory / WEIGHTS).unlink()


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield indexes beside the weights and in their place, shards, and other files of weights."""
    if model.weights != WEIGHTS:
        return
    indexes = model.family != "paraformer"
    for what, weight_map in MAPS.items():
        for keep in (True, False):
            # FunASR knows no indexes: without its one file there are no weights.
            expect = Expect.SAME if keep else Expect.REFUSED if not indexes else Expect.UNKNOWABLE
            if what.startswith(("climbs", "absolute", "is cyclic", "names no", "names a pickle")) and not keep:
                expect = Expect.REFUSED
            yield Case(
                kind=KIND,
                name=f"{what}/{'beside' if keep else 'alone'}",
                model=model.name,
                expect=expect,
                change=_indexed(weight_map, keep=keep),
                signed=False if keep and model.compressed else None,
                reported=(keep and what == "names other weights" and model.compressed)
                or (model.name == "aligner" and not keep and what == "is cyclic"),
            )
    shards: Mapping[str, tuple[dict[str, bool], Expect]] = {
        "honest": ({}, Expect.HARMLESS if indexes else Expect.REFUSED),
        "mixed up": ({"mixed": True}, Expect.SAME),
        "overlapping": ({"overlapping": True}, Expect.SAME),
        "missing": ({"missing": True}, Expect.REFUSED),
    }
    for what, (how, expect) in shards.items():
        yield Case(
            kind=KIND,
            name=f"shards/{what}",
            model=model.name,
            expect=expect,
            signed=True,
            change=lambda directory, how=how: _sharded(directory, **how),
        )
    yield from _beside(model)


def _beside(model: HonestModel) -> Iterator[Case]:
    for name in _OTHERS:
        yield Case(
            kind=KIND,
            name=f"beside/{name}",
            model=model.name,
            signed=False if model.compressed else None,
            change=lambda directory, name=name: _beside_(directory, name),
        )
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "evil-owner/evil-model", "r": 8, "target_modules": ["x"]}

    def adapt(directory: Path) -> None:
        (directory / "adapter_config.json").write_text(json.dumps(adapter), encoding="utf-8")

    yield Case(kind=KIND, name="beside/adapter_config.json", model=model.name, change=adapt, signed=False)
    if model.family != "paraformer":
        for value in ("evil.safetensors", "../evil.safetensors", INDEX):
            yield Case(
                kind=KIND,
                name=f"transformers_weights/{value}",
                model=model.name,
                change=both(_other, with_value("config.json", ("transformers_weights",), value)),
                # The key names the weights: what it names inside is the model.
                expect=Expect.UNKNOWABLE if value.startswith("evil") else Expect.SAME,
                reported=value.startswith("evil") and model.name == "aligner",
            )


def _beside_(directory: Path, name: str) -> None:
    if name.endswith(".safetensors"):
        _other(directory, name)
    else:
        shutil.copyfile(directory / WEIGHTS, directory / name)
