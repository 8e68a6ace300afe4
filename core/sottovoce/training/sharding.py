"""Division of weights, gradients and the optimizer among processes (FSDP2), and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from sottovoce.calibration.blocks import blocks_of
from sottovoce.system import distributed

if TYPE_CHECKING:
    from sottovoce.model import Model

_CHANGED = ("_forward_hooks", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs")


class Sharding:
    """A module whose blocks are divided among the processes."""

    def __init__(self, model: Model, module: nn.Module) -> None:
        """Divide each block's parameters, and the rest; a block is whole only while it runs.

        Args:
            model: The model in training, or its teacher.
            module: The module whose forward pass is called; it holds the model's.
        """
        distributed.join()
        self._module = module
        self._kept = {child: _state(child) for child in module.modules()}
        mesh = init_device_mesh(next(module.parameters()).device.type, (distributed.world_size(),))
        layers = [name for name, child in model.module.named_modules() if isinstance(child, nn.Linear)]
        for name in blocks_of(model, layers):
            fully_shard(model.module.get_submodule(name), mesh=mesh)
        # A teacher has no backward pass, behind which what is outside of its blocks would be divided again.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)

    def undo_(self) -> None:
        """Give every process the whole model again, of its own classes: PyTorch has no call for it."""
        assert isinstance(self._module, FSDPModule)
        self._module.reshard()
        for child, (kind, hooks) in self._kept.items():
            for name, parameter in list(child.named_parameters(recurse=False)):
                if isinstance(parameter, DTensor):
                    whole = parameter.full_tensor().detach().clone()
                    setattr(child, name, nn.Parameter(whole, requires_grad=parameter.requires_grad))
            child.__class__ = kind
            for attribute, items in hooks.items():
                stored = vars(child)[attribute]
                stored.clear()
                stored.update(items)


def _state(module: nn.Module) -> tuple[type[nn.Module], dict[str, Any]]:
    return type(module), {name: dict(vars(module)[name]) for name in _CHANGED}
