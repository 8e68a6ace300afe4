"""Strict reading and writing of a module's tensors."""

from __future__ import annotations

import contextlib
import functools
import pickle
import re
import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sottovoce.checkpoint.finite import require_finite
from sottovoce.checkpoint.narrow_floats import narrow_floats
from sottovoce.checkpoint.shard_writer import write_file
from sottovoce.checkpoint.shards import start_of
from sottovoce.errors import CheckpointError, NotFiniteError, SourceError
from sottovoce.recipe.pattern import matches
from sottovoce.system.machine import release_file
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ALLOW_HINT = "leave unexpected tensors out with allow_unexpected (--allow-unexpected NAME, or re:EXPRESSION)"
_PART_BYTES = 32_000_000


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weights file lazily: the pages are read as the tensors are used.

    Args:
        path: ``*.safetensors``, or a torch file, which is read with ``weights_only=True``. A state dict may lie under
            ``state_dict``, ``model_state_dict`` or ``model``; a ``module.`` prefix is dropped.

    Raises:
        SourceError: The file is missing, damaged, or holds more than tensors.
    """
    import torch
    from safetensors.torch import load_file

    try:
        start = start_of(path)
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_numpy_scalars()):
            # Files from before torch wrote zip files cannot be mapped into memory.
            content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=start.startswith(b"PK"))
    except pickle.UnpicklingError as error:
        # torch's own message advises to run the file's code.
        if match := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise SourceError(
                f"{path}: holds more than tensors ({match[1]}), which is not run; save the model's state_dict alone"
            ) from None
        raise SourceError(f"{path}: the weights are damaged, or hold more than tensors, which is not run") from None
    except SourceError:
        raise
    except Exception as error:
        # A damaged pickle can fail in any way.
        raise SourceError(f"{path}: the weights are damaged ({one_line(error, 160)})") from None
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise SourceError(f"{path}: not a state dict: it must map names to tensors")
    for name, tensor in content.items():
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
            raise SourceError(f"{path}: {one_line(name, 90)} is not a plain tensor; save the model's state_dict")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _numpy_scalars() -> list[Any]:
    """Return the classes that a pickle needs for NumPy numbers in a trainer's state; they run no code."""
    import numpy as np
    from numpy._core.multiarray import scalar

    kinds = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *kinds]


def copy_tensors(path: Path, mapped: Container[str] = ()) -> dict[str, Tensor]:
    """Read a safetensors file into memory, a part at a time.

    :func:`read_tensors` maps the file, whose pages then count as the process's memory as long as a tensor is in use.

    Args:
        path: ``*.safetensors``.
        mapped: Names of tensors that stay in the file and are read as they are used, such as tables of which few rows
            are used.

    Raises:
        SourceError: The file is missing or damaged.
    """
    from safetensors import safe_open

    try:
        start_of(path)
        with safe_open(path, "pt") as file:
            names = list(file.keys())
        copied = [name for name in names if name not in mapped]
        tensors: dict[str, Tensor] = {}
        while len(tensors) < len(copied):
            # Opened anew for every part, because closing the file releases the pages that were read.
            with safe_open(path, "pt") as file:
                part = 0
                while len(tensors) < len(copied) and part < _PART_BYTES:
                    name = copied[len(tensors)]
                    tensors[name] = file.get_tensor(name).clone()
                    part += tensors[name].nbytes
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in names if name in mapped}
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{path}: the weights are damaged ({one_line(error, 160)})") from None
    return tensors


def write_tensors(
    module: nn.Module, path: Path, metadata: Mapping[str, str] | None = None, left_out: Container[str] = ()
) -> None:
    """Write a module's state dict as safetensors; of tensors that share memory every one is written.

    Args:
        module: Module that has the tensors.
        path: The file.
        metadata: Further entries of its header.
        left_out: Names that are not written, because they share the memory of others.

    Raises:
        OSError: The file system refused, a full disk for instance.
    """
    state = stored_state(module)
    write_file({name: tensor for name, tensor in state if name not in left_out}, path, metadata)


def stored_state(module: nn.Module, floats: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's tensors as a checkpoint stores them, with their names.

    Args:
        module: The module.
        floats: Narrower dtype of float32 tensors, for a part of a model; by default the module's own.
    """
    narrow = narrow_floats(module, floats)
    for name, tensor in module.state_dict().items():
        yield name, tensor.detach().to(narrow.get(name, tensor.dtype)).contiguous()


def load_strictly_(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, allow_unexpected: Iterable[str] = ()
) -> None:
    """Replace the tensors of ``module`` by ``tensors``, converted to the module's types.

    Args:
        module: Built, with or without memory for its weights.
        tensors: Tensors by name; ownership passes to the module.
        where: Name of the file in an error.
        allow_unexpected: Patterns of names that the module does not have and that may be left out.

    Raises:
        CheckpointError: A tensor is missing, unexpected, misshapen or of another type, or has values that are not valid
            weights.
    """
    state = module.state_dict()
    ties = shared_parameters(module)
    tensors = _with_shared(tensors, ties, where)
    check_fit(forms(state), forms(tensors), where, allow_unexpected)
    # A half-precision file is converted to the type that the module was built for, as copying would do.
    module.load_state_dict({name: tensors[name].to(state[name].dtype) for name in state}, strict=True, assign=True)
    share_(module, ties)
    check_values(module, where)


def check_values(module: nn.Module, where: str) -> None:
    """Check the values of a module's tensors.

    Raises:
        CheckpointError: A weight is infinite or not a number, or a scale is not positive; names the file.
    """
    try:
        require_finite(module)
    except NotFiniteError as error:
        raise CheckpointError(f"{where}: {error}") from None


def shared_parameters(module: nn.Module) -> list[tuple[str, ...]]:
    """Return the names of every parameter that several modules share, such as an embedding and an output layer."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [tuple(group) for group in names.values() if len(group) > 1]


def share_(module: nn.Module, groups: Iterable[Iterable[str]]) -> None:
    """Let the modules of each group of names share one parameter, the first's."""
    for first, *others in groups:
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, module.get_parameter(first))


def drop_data_(module: nn.Module) -> None:
    """Move a module's tensors to the device ``meta``, which frees their data; shared parameters stay shared.

    ``module.to("meta")`` alone makes a new parameter for each of the modules.
    """
    groups = shared_parameters(module)
    module.to("meta")
    share_(module, groups)


def _with_shared(tensors: Mapping[str, Tensor], groups: Iterable[tuple[str, ...]], where: str) -> Mapping[str, Tensor]:
    """Return the tensors, completed by those that are stored under another of their names."""
    complete = dict(tensors)
    for names in groups:
        stored = [name for name in names if name in tensors]
        for name in stored[1:]:
            if not tensors[name].equal(tensors[stored[0]]):
                raise CheckpointError(f"{where}: the model has one weight as {stored[0]} and {name}, which differ here")
        complete |= {name: tensors[stored[0]] for name in names if stored}
    return complete


class Form(NamedTuple):
    """Shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def takes(self, stored: Form) -> bool:
        """Return true if a stored tensor can be converted to this form: floats of another width can, integers never."""
        floats = all(form.dtype.is_floating_point and form.dtype.itemsize > 1 for form in (self, stored))
        return self.shape == stored.shape and (floats or self.dtype == stored.dtype)

    def __str__(self) -> str:
        """Return a text such as ``float32 [2, 3]``."""
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


def forms(tensors: Mapping[str, Tensor]) -> dict[str, Form]:
    """Return the form of every tensor, by name."""
    return {name: Form(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def check_fit(
    module: Mapping[str, Form], checkpoint: Mapping[str, Form], where: str, allow_unexpected: Iterable[str] = ()
) -> None:
    """Compare the names, shapes and types that a module needs with those of a checkpoint.

    Raises:
        CheckpointError: A tensor is missing, unexpected, misshapen or of another type; lists the first of them.
    """
    allowed = tuple(allow_unexpected)
    missing = [name for name in module if name not in checkpoint]
    unexpected = [
        name for name in checkpoint if name not in module and not any(matches(name, "", pattern) for pattern in allowed)
    ]
    different = {
        name: (checkpoint[name], form)
        for name, form in module.items()
        if name in checkpoint and not form.takes(checkpoint[name])
    }
    misshapen = [
        f"{name} {list(stored.shape)} for {list(form.shape)}"
        for name, (stored, form) in different.items()
        if stored.shape != form.shape
    ]
    mistyped = [
        f"{name} {stored} for {form}" for name, (stored, form) in different.items() if stored.shape == form.shape
    ]
    listed = ("missing", missing), ("misshapen", misshapen), ("of another type", mistyped), ("unexpected", unexpected)
    problems = [
        f"{len(names)} {what}: {', '.join(one_line(name, 90) for name in names[:5])}{', ...' if names[5:] else ''}"
        for what, names in listed
        if names
    ]
    if problems:
        hint = f"; {ALLOW_HINT}" if unexpected and not missing and not different else ""
        raise CheckpointError(f"{where}: the weights do not fit the model: {'; '.join(problems)}{hint}")


def leave_file_(module: nn.Module, file: Path | None = None) -> None:
    """Copy the tensors of a module, one after another, so that the file that they were read from is closed.

    Tensors from :func:`read_tensors` lie in one mapping of the whole file; while one of them is in use, all of the file
    counts as the process's memory.

    Args:
        module: Module with tensors as they were read.
        file: The file; its pages are released on the way.
    """
    copied = 0
    # A parameter that two modules share is one object here, and stays shared.
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
        copied = _release_copied(copied + parameter.nbytes, file)
    for child in module.modules():
        for name, buffer in child.named_buffers(recurse=False):
            child._buffers[name] = buffer.clone()
            copied = _release_copied(copied + buffer.nbytes, file)


def _release_copied(copied: int, file: Path | None) -> int:
    """Release the pages of a file once so many bytes were copied that it is worth it; return what is counted now."""
    if file is None or copied < _PART_BYTES:
        return copied
    release_file(file)
    return 0


class _Building(threading.local):
    """Nesting depth of :func:`without_memory` in the current thread."""

    depth = 0


_building = _Building()


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Build modules in this thread with parameters that have no data, until weights are loaded into them.

    This saves the memory for random weights and the time to draw them. Buffers are built as usual.
    """
    from sottovoce.checkpoint.undrawn import Undrawn

    _install_dropping()
    _building.depth += 1
    try:
        with Undrawn():
            yield
    finally:
        _building.depth -= 1


@functools.cache
def _install_dropping() -> None:
    """Register a hook on new parameters; it is never removed, since another thread may be building a module."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    register_module_parameter_registration_hook(_drop_data)  # type: ignore[arg-type]  # it may give another


def _drop_data(_: nn.Module, __: str, parameter: nn.Parameter) -> nn.Parameter | None:
    from torch import nn

    if not _building.depth or parameter.is_meta:
        return None
    return nn.Parameter(parameter.data.to("meta"), requires_grad=parameter.requires_grad)
