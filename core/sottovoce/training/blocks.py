"""Distillation block by block: a block is trained on its own outputs of before, within one pass with other steps."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import hidden_states
from sottovoce.calibration.held_out import SplitThreads
from sottovoce.errors import RecipeError, SamplesError
from sottovoce.recipe.pattern import matches
from sottovoce.report import StepReport
from sottovoce.training.blocks_description import BlockErrors, DistilledBlocks
from sottovoce.training.zeros import Zeros

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.blocks import Block
    from sottovoce.calibration.kept_outputs import KeptOutputs
    from sottovoce.calibration.sample_threads import SampleThread
    from sottovoce.model import Model
    from sottovoce.training.blocks_step import DistillBlocks


class DistillBlocksRunner(BlockStep):
    """Training of one block after another."""

    rescales_weights = True
    uses_outputs_before = True

    def __init__(self, model: Model, architecture: Architecture, step: DistillBlocks) -> None:
        """Find the layers to train.

        Raises:
            RecipeError: A pattern names no layer in a block.
        """
        self.name, self._model, self._step = step.name, model, step
        patterns = step.targets or architecture.layers.targets
        linears = {
            name: type(child).__name__ for name, child in model.module.named_modules() if isinstance(child, nn.Linear)
        }
        blocks = [
            name
            for name, child in model.module.named_modules()
            if any(matches(name, type(child).__name__, pattern) for pattern in architecture.layers.blocks)
        ]
        self._layers = [
            name
            for name, kind in linears.items()
            if any(matches(name, kind, pattern) for pattern in patterns)
            and any(name == block or name.startswith(f"{block}.") for block in blocks)
        ]
        if not self._layers:
            raise RecipeError(f"{step.name}: no float layer in a block is named by {', '.join(patterns)}")
        self._errors: dict[str, BlockErrors] = {}

    @property
    def layers(self) -> Sequence[str]:
        """Names of the layers to train."""
        return self._layers

    def process_block(self, block: Block) -> dict[str, Any]:
        """Train a block that earlier steps changed."""
        if any(parameter.is_meta for parameter in block.module.parameters()):
            return {}
        before = block.outputs_before
        if before is None:
            raise SamplesError(f"{self.name}: no sample reaches {block.name}; give samples of every kind")
        threads = SplitThreads.of(block, self._step.held_out)
        error = _error(block.module, threads.held_out, before)
        if not threads.fitted or error == 0.0:
            return self._record(block, BlockErrors(before=error, after=error))
        trained = self._parameters(block)
        kept = [parameter.detach().clone() for parameter in trained]
        self._train(block.module, trained, threads.fitted, before)
        after = _error(block.module, threads.held_out, before)
        if not after < error:
            with torch.no_grad():
                for parameter, weight in zip(trained, kept, strict=True):
                    parameter.copy_(weight)
            return self._record(block, BlockErrors(before=error, after=error))
        count = sum(parameter.numel() for parameter in trained)
        return self._record(block, BlockErrors(before=error, after=after, trained=count))

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Take the errors of a block that is read back; its structure is that of before."""
        if facts:
            self._errors[block] = BlockErrors.model_validate(facts)

    def on_end(self) -> StepReport:
        """Report the errors."""
        details = DistilledBlocks(blocks=self._errors).model_dump(mode="json")
        return StepReport(step=self._step.to_dict(), details=details)

    def _record(self, block: Block, errors: BlockErrors) -> dict[str, Any]:
        self._errors[block.name] = errors
        return errors.model_dump(mode="json")

    def _parameters(self, block: Block) -> list[nn.Parameter]:
        """Return the parameters to train, as tensors that gradients can be computed for."""
        parameters: list[nn.Parameter] = []
        for name in self._layers:
            if name != block.name and not name.startswith(f"{block.name}."):
                continue
            try:
                layer = self._model.module.get_submodule(name)
            except AttributeError:
                continue  # an expert that was pruned
            for key, parameter in list(layer.named_parameters(recurse=False)):
                if parameter.is_inference():
                    parameter = nn.Parameter(parameter.detach().clone())
                    setattr(layer, key, parameter)
                parameters.append(parameter)
        return parameters

    def _train(
        self, module: nn.Module, trained: Sequence[nn.Parameter], threads: Sequence[SampleThread], before: KeptOutputs
    ) -> None:
        step = self._step
        flags = {parameter: parameter.requires_grad for parameter in module.parameters()}
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        # In float32, whatever the model's dtype: small steps would be lost in half precision.
        masters = [nn.Parameter(parameter.detach().float()) for parameter in trained]
        optimizer = torch.optim.AdamW(masters, lr=step.learning_rate, weight_decay=0.0)
        source, zeros = random.Random(step.seed), Zeros(masters)
        for parameter in trained:
            parameter.requires_grad_(True)
        for update in range(step.updates):
            rate = step.learning_rate * (0.5 + 0.5 * math.cos(math.pi * update / step.updates))
            for group in optimizer.param_groups:
                group["lr"] = rate
            for thread in source.sample(list(threads), min(step.batch, len(threads))):
                _loss(module, thread, before).backward()  # type: ignore[no-untyped-call]
            for parameter, master in zip(trained, masters, strict=True):
                master.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
            torch.nn.utils.clip_grad_norm_(masters, 1.0)
            optimizer.step()
            zeros.restore_()
            with torch.no_grad():
                for parameter, master in zip(trained, masters, strict=True):
                    parameter.copy_(master)
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def _loss(module: nn.Module, thread: SampleThread, before: KeptOutputs) -> Tensor:
    """Return the squared error of the block's output for one sample, as a share of the power of what it was."""
    with thread.inputs() as (arguments, named), before.states(thread.sample.key) as target:
        # Copies, since what waits was computed in inference mode.
        arguments, named = _pytree.tree_map_only(Tensor, torch.clone, (arguments, named))
        states = hidden_states(module(*arguments, **named))
        assert states is not None
        expected = target.clone().float()
        return (states.float() - expected).square().sum() / expected.square().sum().clamp_min(1e-12)


@torch.no_grad()
def _error(module: nn.Module, threads: Sequence[SampleThread], before: KeptOutputs) -> float:
    """Return the relative squared error on samples."""
    losses = [float(_loss(module, thread, before)) for thread in threads]
    return sum(losses) / len(losses) if losses else 0.0
