"""Checkpoints of training: weights and the state of the optimizer in safetensors, the rest in JSON; no pickle.

What is random is drawn from the seed and the number of the update, so a resumed run needs no state of generators.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from sottovoce.system import distributed

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, flatten_optimizer_state_dict=True)
_TENSORS, _FACTS = "training.safetensors", "training.json"
_WEIGHTS, _OPTIMIZER, _AVERAGE, _BEST = "weights", "optimizer", "average", "best"

Weights = dict[str, Tensor]
"""Tensors of a model by name, whole, on the CPU."""


@dataclass
class Checkpoint:
    """State of unfinished training."""

    weights: Weights
    optimizer: dict[str, Any]
    """State of the optimizer, flat: tensors and numbers by name."""
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
        flatten_optimizer_state_dict=True,
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


def optimizer_state(module: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer, whole and by the names of the parameters."""
    return dict(get_optimizer_state_dict(module, optimizer, options=_FULL))


def load_optimizer_(module: nn.Module, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Give an optimizer the state of :func:`optimizer_state`."""
    set_optimizer_state_dict(module, optimizer, dict(state), options=_spread())


def write(directory: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before; the main process alone does.

    Args:
        directory: Where it lies.
        key: Digest of all that it depends on.
        checkpoint: The state.
    """
    if not distributed.is_main():
        return
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    groups = (_WEIGHTS, checkpoint.weights), (_AVERAGE, checkpoint.average), (_BEST, checkpoint.best)
    for group, state in (*groups, (_OPTIMIZER, checkpoint.optimizer)):
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{group}/{name}"] = value.contiguous()
            else:
                numbers[f"{group}/{name}"] = value
    directory.mkdir(parents=True, exist_ok=True)
    facts = {"key": key, "facts": checkpoint.facts, "numbers": numbers}
    # The facts name the file of tensors, so a run that is cut off between the two leaves the pair before.
    name = f"{checkpoint.facts['step']}-{_TENSORS}"
    save_file(tensors, directory / name)
    unfinished = directory / f"{_FACTS}.unfinished"
    unfinished.write_text(json.dumps({**facts, "tensors": name}), encoding="utf-8")
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
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    groups: dict[str, dict[str, Any]] = {group: {} for group in (_WEIGHTS, _OPTIMIZER, _AVERAGE, _BEST)}
    for name, value in {**tensors, **form["numbers"]}.items():
        group, _, rest = name.partition("/")
        groups[group][rest] = value
    return Checkpoint(
        weights=groups[_WEIGHTS],
        optimizer=groups[_OPTIMIZER],
        average=groups[_AVERAGE],
        best=groups[_BEST],
        facts=form["facts"],
    )
