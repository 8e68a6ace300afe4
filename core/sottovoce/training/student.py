"""Preparation of a model for training, and the way back."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sottovoce.architecture import Training, TrainingOutputs
from sottovoce.calibration.blocks import blocks_of
from sottovoce.errors import RecipeError
from sottovoce.recipe.pattern import matches
from sottovoce.training.fake_quantization import fake_quantized, layer_with_weight

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.training.step import TrainingStep

_HALVES = (torch.float16, torch.bfloat16)


class TrainedModule(nn.Module):
    """A model whose forward pass is that of its family's training, for the wrappers of several processes."""

    def __init__(self, model: Model, training: Training) -> None:
        super().__init__()
        self.module = model.module
        self._model, self._training = [model], training

    def forward(self, batch: Mapping[str, Any], reference: TrainingOutputs | None) -> TrainingOutputs:
        """Run a batch."""
        return self._training.forward(self._model[0], batch, reference)


@contextmanager
def prepared_for_training(
    model: Model, training: Training, step: TrainingStep, original: nn.Module | None = None
) -> Iterator[list[str]]:
    """Make a model trainable in place: float32 weights, gradients where they are learned; and undo this at the end.

    Quantized layers train the float weights behind their values, which are rounded as the engine does whenever the
    layer runs; in the end just these rounded values are stored.

    Args:
        model: The model, changed in place.
        training: The family's facts.
        step: Settings.
        original: The teacher's module, whose weights the quantized layers were made from.

    Yields:
        The names of the parameters that are trained.

    Raises:
        RecipeError: The step names no parameter of the model.
    """
    module = model.module
    flags = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    _renew_(module)
    with fake_quantized(module, original):
        # Others stay as they are: a model in bfloat16 has float32 tables, which would not be the same afterwards.
        halves = {name: tensor.dtype for name, tensor in _tensors(module) if tensor.dtype in _HALVES}
        _convert_(module, dict.fromkeys(halves, torch.float32))
        trained = parameters_to_train(module, training, step)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in trained)
        module.train(step.dropout)
        try:
            with _checkpointed(model) if step.gradient_checkpointing else _unchanged():
                yield trained
        finally:
            module.eval()
            _convert_(module, halves)
    for name, parameter in module.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(flags.get(name, False))


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _convert_(module: nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    for name, tensor in _tensors(module):
        if name in dtypes:
            tensor.data = tensor.data.to(dtypes[name])


def parameters_to_train(module: nn.Module, training: Training, step: TrainingStep) -> list[str]:
    """Return the names of the parameters that a step trains.

    Raises:
        RecipeError: The step names no parameter of the model, or leaves none.
    """
    names = [name for name, parameter in module.named_parameters() if parameter.is_floating_point()]

    def named(patterns: tuple[str, ...]) -> set[str]:
        named_by = {pattern: {name for name in names if _matches(name, pattern)} for pattern in patterns}
        if lacking := [pattern for pattern, matched in named_by.items() if not matched]:
            raise RecipeError(f"{step.name}: {lacking[0]!r} names no parameter of this model")
        return set().union(*named_by.values())

    if step.train is not None:
        chosen = named(step.train)
    else:
        frozen = {name for name in names for pattern in training.freeze if _matches(name, pattern)}
        chosen = set(names) - frozen
    chosen -= named(step.freeze)
    if not chosen:
        raise RecipeError(f"{step.name}: no parameter is left to train; freeze fewer")
    return [name for name in names if name in chosen]


def _matches(name: str, pattern: str) -> bool:
    """Return whether a pattern names a parameter, or the module that holds it."""
    return matches(name, "", pattern) or matches(layer_with_weight(name), "", pattern)


def _renew_(module: nn.Module) -> None:
    """Replace tensors of inference mode, which earlier steps left, by ones that gradients can be computed for."""
    for child in module.modules():
        for name, parameter in list(child.named_parameters(recurse=False)):
            if parameter.is_inference():
                setattr(child, name, nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad))
        for name, buffer in list(child.named_buffers(recurse=False)):
            if buffer.is_inference():
                child._buffers[name] = buffer.clone()


@contextmanager
def _checkpointed(model: Model) -> Iterator[None]:
    """Compute activations within each block again for the gradient."""
    layers = [name for name, child in model.module.named_modules() if isinstance(child, nn.Linear)]
    blocks = [model.module.get_submodule(name) for name in blocks_of(model, layers)]
    forwards = {block: vars(block).get("forward") for block in blocks}
    for block in blocks:
        vars(block)["forward"] = functools.partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block, forward in forwards.items():
            vars(block).pop("forward")
            if forward is not None:
                vars(block)["forward"] = forward


@contextmanager
def _unchanged() -> Iterator[None]:
    yield


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch with its tensors on a device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
