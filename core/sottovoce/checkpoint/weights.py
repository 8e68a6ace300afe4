"""Tensors to and from files, strictly."""

from __future__ import annotations

import contextlib
import functools
import pickle
import re
import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sottovoce.architecture import matches
from sottovoce.checkpoint.finite import require_finite
from sottovoce.checkpoint.shard_writer import write_file
from sottovoce.checkpoint.shards import start_of
from sottovoce.errors import CheckpointError, NotFiniteError, SourceError
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ALLOW_HINT = "leave unexpected tensors out with allow_unexpected (--allow-unexpected NAME, or re:EXPRESSION)"
_PART_BYTES = 128_000_000


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weights file lazily: the pages are read as the tensors are used.

    Args:
        path: ``*.safetensors``, or a torch file, which is read with ``weights_only=True``. A state dict that lies
            under ``state_dict``, ``model_state_dict`` or ``model`` is taken out, and a ``module.`` prefix is dropped.

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
            # What torch wrote before it wrote zip files cannot be mapped into memory.
            content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=start.startswith(b"PK"))
    except pickle.UnpicklingError as error:
        # torch's own words advise to run what the file brings.
        if brought := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise SourceError(
                f"{path}: holds more than tensors ({brought[1]}), which is not run; save the model's state_dict alone"
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
            raise SourceError(f"{path}: {one_line(name, 90)} is no plain tensor; save the model's state_dict")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _numpy_scalars() -> list[Any]:
    """What a pickle calls for the NumPy numbers in a trainer's state: they run nothing."""
    import numpy as np
    from numpy._core.multiarray import scalar

    kinds = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *kinds]


def copy_tensors(path: Path, mapped: Container[str] = ()) -> dict[str, Tensor]:
    """Read a safetensors file into memory of its own, a part at a time.

    :func:`read_tensors` maps the file, whose pages then count as the process's memory as long as one tensor is left.

    Args:
        path: ``*.safetensors``.
        mapped: Names of tensors that are left in the file and read as they are used, such as tables of which a few
            rows are looked up.

    Raises:
        SourceError: The file is missing or damaged.
    """
    from safetensors import safe_open

    try:
        start_of(path)
        with safe_open(path, "pt") as file:
            names = list(file.keys())
        copied = [name for name in names if name not in mapped]
        found: dict[str, Tensor] = {}
        while len(found) < len(copied):
            # Opened anew for every part: closing it lets the pages go that were read.
            with safe_open(path, "pt") as file:
                part = 0
                while len(found) < len(copied) and part < _PART_BYTES:
                    name = copied[len(found)]
                    found[name] = file.get_tensor(name).clone()
                    part += found[name].nbytes
        with safe_open(path, "pt") as file:
            found |= {name: file.get_tensor(name) for name in names if name in mapped}
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{path}: the weights are damaged ({one_line(error, 160)})") from None
    return found


def write_tensors(
    module: nn.Module, path: Path, metadata: Mapping[str, str] | None = None, left_out: Container[str] = ()
) -> None:
    """Write a module's state dict as safetensors; tensors that share memory are written once each.

    Args:
        module: What has the tensors.
        path: The file.
        metadata: What else its header says.
        left_out: Names that are not written, for they share another's memory.

    Raises:
        OSError: The file system refused, a full disk for instance.
    """
    state = {name: tensor for name, tensor in module.state_dict().items() if name not in left_out}
    write_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, path, metadata)


def load_strictly_(
    module: nn.Module, tensors: Mapping[str, Tensor], where: str, allow_unexpected: Iterable[str] = ()
) -> None:
    """Put ``tensors`` into ``module`` in place of its own, each in its own type.

    Args:
        module: Built, with or without memory for its weights.
        tensors: Name to tensor; ownership passes to the module.
        where: What to call the file in an error.
        allow_unexpected: Patterns of names that the module does not have and that may be left out.

    Raises:
        CheckpointError: A tensor is missing, unexpected, misshapen or of another type, or holds what is no weight.
    """
    own = module.state_dict()
    ties = shared_parameters(module)
    tensors = _with_shared(tensors, ties, where)
    check_fit(forms(own), forms(tensors), where, allow_unexpected)
    # A half-precision file becomes what the module was built for, as copying it in would do.
    module.load_state_dict({name: tensors[name].to(own[name].dtype) for name in own}, strict=True, assign=True)
    share_(module, ties)
    check_values(module, where)


def check_values(module: nn.Module, where: str) -> None:
    """Look at the values that a module was given.

    Raises:
        CheckpointError: A weight is infinite or not a number, or a scale is not positive; names the file.
    """
    try:
        require_finite(module)
    except NotFiniteError as error:
        raise CheckpointError(f"{where}: {error}") from None


def shared_parameters(module: nn.Module) -> list[tuple[str, ...]]:
    """Return the names of every parameter that several modules have, such as a table that is the output layer too."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [tuple(group) for group in names.values() if len(group) > 1]


def share_(module: nn.Module, groups: Iterable[Iterable[str]]) -> None:
    """Make one parameter of each group of names: the first's."""
    for first, *others in groups:
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, module.get_parameter(first))


def drop_data_(module: nn.Module) -> None:
    """Leave a module's tensors without data, on the device ``meta``; a parameter that several modules have stays one.

    ``module.to("meta")`` makes a new parameter for each of them.
    """
    groups = shared_parameters(module)
    module.to("meta")
    share_(module, groups)


def _with_shared(tensors: Mapping[str, Tensor], groups: Iterable[tuple[str, ...]], where: str) -> Mapping[str, Tensor]:
    """The tensors, with those that are stored once under one of several names."""
    complete = dict(tensors)
    for names in groups:
        stored = [name for name in names if name in tensors]
        for name in stored[1:]:
            if not tensors[name].equal(tensors[stored[0]]):
                raise CheckpointError(f"{where}: the model has one weight as {stored[0]} and {name}, which differ here")
        complete |= {name: tensors[stored[0]] for name in names if stored}
    return complete


class Form(NamedTuple):
    """The shape and the type of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def takes(self, stored: Form) -> bool:
        """Whether a stored tensor can become one of this form: floats of another width can, integers never."""
        floats = all(form.dtype.is_floating_point and form.dtype.itemsize > 1 for form in (self, stored))
        return self.shape == stored.shape and (floats or self.dtype == stored.dtype)

    def __str__(self) -> str:
        """As in ``float32 [2, 3]``."""
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


def forms(tensors: Mapping[str, Tensor]) -> dict[str, Form]:
    """Return the form of every tensor, by name."""
    return {name: Form(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def check_fit(
    own: Mapping[str, Form], found: Mapping[str, Form], where: str, allow_unexpected: Iterable[str] = ()
) -> None:
    """Compare the names, shapes and types that a module needs with those of a checkpoint.

    Raises:
        CheckpointError: A tensor is missing, unexpected, misshapen or of another type; lists the first of them.
    """
    allowed = tuple(allow_unexpected)
    missing = [name for name in own if name not in found]
    unexpected = [
        name for name in found if name not in own and not any(matches(name, "", pattern) for pattern in allowed)
    ]
    different = [name for name in own if name in found and not own[name].takes(found[name])]
    misshapen = [
        f"{name} {list(found[name].shape)} for {list(own[name].shape)}"
        for name in different
        if found[name].shape != own[name].shape
    ]
    mistyped = [f"{name} {found[name]} for {own[name]}" for name in different if found[name].shape == own[name].shape]
    listed = ("missing", missing), ("misshapen", misshapen), ("of another type", mistyped), ("unexpected", unexpected)
    problems = [
        f"{len(names)} {what}: {', '.join(one_line(name, 90) for name in names[:5])}{', ...' if names[5:] else ''}"
        for what, names in listed
        if names
    ]
    if problems:
        hint = f"; {ALLOW_HINT}" if unexpected and not missing + different else ""
        raise CheckpointError(f"{where}: the weights do not fit the model: {'; '.join(problems)}{hint}")


def leave_file_(module: nn.Module) -> None:
    """Copy the tensors of a module, one after another, so that the file that they were read from is let go.

    Tensors that :func:`read_tensors` gave lie in one mapping of the whole file; as long as one is left there, all of
    the file counts as the process's memory.
    """
    # A parameter that two modules share is one object here, and stays one.
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    for child in module.modules():
        for name, buffer in child.named_buffers(recurse=False):
            child._buffers[name] = buffer.clone()


class _Building(threading.local):
    """Whether the thread that asks builds without memory."""

    depth = 0


_building = _Building()


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Modules that this thread builds meanwhile have parameters without data, for a load that brings them.

    Neither the memory for random weights is taken nor the time to draw them. Buffers are as ever.
    """
    _install_dropping()
    _building.depth += 1
    try:
        yield
    finally:
        _building.depth -= 1


@functools.cache
def _install_dropping() -> None:
    """Have PyTorch ask about every new parameter; for good, since another thread may be building a module by now."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    register_module_parameter_registration_hook(_drop_data)  # type: ignore[arg-type]  # it may give another


def _drop_data(_: nn.Module, __: str, parameter: nn.Parameter) -> nn.Parameter | None:
    from torch import nn

    if not _building.depth or parameter.is_meta:
        return None
    return nn.Parameter(parameter.data.to("meta"), requires_grad=parameter.requires_grad)
