"""Checkpoints of training: weights and the state of the optimizer in safetensors, the rest in JSON; no pickle.

What is random is drawn from the seed and the number of the update, so a resumed run needs no state of generators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from sottovoce.system import distributed

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
_TENSORS, _FACTS = "training.safetensors", "training.json"

_GROUPS = ("weights", "optimizer", "projections", "average", "best")

Weights = dict[str, Tensor]
"""Tensors of a model by name, whole, on the CPU."""


@dataclass
class Checkpoint:
    """State of unfinished training."""

    weights: Weights
    optimizer: Weights
    """State of the optimizer, as ``name/key``."""
    projections: Weights
    """Weights of the loss, where teacher and student have different widths."""
    average: Weights
    """Moving average of the weights; empty without one."""
    best: Weights
    """Weights with the best score."""
    facts: dict[str, Any]
    """Progress of the loop, in the form of JSON."""


def _spread() -> StateDictOptions:
    """Return the options for tensors that the main process alone has."""
    return StateDictOptions(
        full_state_dict=True,
        broadcast_from_rank0=distributed.world_size() > 1,
    )


def weights_of(module: nn.Module) -> Weights:
    """Return copies of all tensors of a model, whole also where several processes hold parts; in the main process."""
    _reshard(module)
    state = get_model_state_dict(module, options=_FULL)
    return {name: tensor.detach().clone() for name, tensor in state.items() if isinstance(tensor, Tensor)}


def load_weights_(module: nn.Module, weights: Weights) -> None:
    """Give a model the tensors of :func:`weights_of`."""
    _reshard(module)
    set_model_state_dict(module, dict(weights), options=_spread())


def _reshard(module: nn.Module) -> None:
    """Have every process hold its parts alone: after a forward pass the outermost parameters are still whole."""
    if isinstance(module, FSDPModule):
        module.reshard()


def optimizer_state(named: Mapping[str, nn.Parameter], optimizer: Optimizer) -> Weights:
    """Return the state of an optimizer, whole, as ``name/key``.

    Args:
        named: The parameters that it changes, by name.
        optimizer: The optimizer.
    """
    return {
        f"{name}/{key}": whole(value)
        for name, parameter in named.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_(named: Mapping[str, nn.Parameter], optimizer: Optimizer, state: Weights) -> None:
    """Give an optimizer the state of :func:`optimizer_state`, which every process has read."""
    for place, value in state.items():
        name, _, key = place.rpartition("/")
        parameter = named[name]
        optimizer.state[parameter][key] = like(parameter, value)


def whole(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor on the CPU, also of one that is divided among processes."""
    joined = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return joined.detach().cpu().clone()


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a value divided among the processes as a parameter is; numbers are not."""
    if not value.dim():
        return value
    if isinstance(parameter, DTensor):
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value.to(parameter.device)


def write(directory: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before; the main process alone does.

    Args:
        directory: Where it lies.
        key: Digest of all that it depends on.
        checkpoint: The state.
    """
    if not distributed.is_main():
        return
    tensors = {
        f"{group}/{name}": tensor.contiguous()
        for group in _GROUPS
        for name, tensor in getattr(checkpoint, group).items()
    }
    directory.mkdir(parents=True, exist_ok=True)
    # The facts name the file of tensors, so a run that is cut off between the two leaves the pair before.
    name = f"{checkpoint.facts['steps']}-{_TENSORS}"
    save_file(tensors, directory / name)
    unfinished = directory / f"{_FACTS}.unfinished"
    unfinished.write_text(json.dumps({"key": key, "facts": checkpoint.facts, "tensors": name}), encoding="utf-8")
    unfinished.replace(directory / _FACTS)
    for other in directory.glob(f"*-{_TENSORS}"):
        if other.name != name:
            other.unlink()


def read(directory: Path | None, key: str) -> Checkpoint | None:
    """Read the checkpoint of unfinished training; ``None`` if there is none, or it is of other work."""
    if directory is None or not (directory / _FACTS).is_file():
        return None
    try:
        form = json.loads((directory / _FACTS).read_text(encoding="utf-8"))
        if form.get("key") != key:
            return None
        tensors = load_file(directory / Path(form["tensors"]).name)
        groups: dict[str, Weights] = {group: {} for group in _GROUPS}
        for place, value in tensors.items():
            group, _, name = place.partition("/")
            groups[group][name] = value
        return Checkpoint(**groups, facts=dict(form["facts"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        return None
