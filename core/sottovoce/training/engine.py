"""The engine of the loop: accelerate with AdamW, for one process or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.errors import SottovoceError
from sottovoce.system import distributed
from sottovoce.training.sharding import Sharding
from sottovoce.training.zeros import Zeros

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.training.step import TrainingStep

_EPSILON = 1e-6
"""Term of AdamW's denominator; with less, gradients that are zero but for rounding would move their weights."""
_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class Engine:
    """Forward and backward passes, and updates of the weights."""

    def __init__(self, model: Model, module: nn.Module, extra: nn.Module, step: TrainingStep, log: Path | None) -> None:
        """Wrap a module for several processes, and make the optimizer.

        Args:
            model: The model in training.
            module: The module whose forward pass is trained; it holds the model's.
            extra: Further modules that are trained, such as projections; small, and the same in every process.
            step: Settings.
            log: Directory for TensorBoard.

        Raises:
            SottovoceError: accelerate, or with a log tensorboard, is not installed.
        """
        self._step, self._extra = step, extra
        device = next(module.parameters()).device
        self._accelerator = _accelerator(step, device, log)
        self.module: nn.Module = module
        self._sharding: Sharding | None = None
        if distributed.world_size() > 1:
            if step.shard:
                self._sharding = Sharding(model, module)
            else:
                self.module = self._accelerator.prepare_model(module)
        self.optimizer = torch.optim.AdamW(
            _groups(module, extra, step), lr=step.learning_rate, betas=(0.9, 0.98), eps=_EPSILON
        )
        self._prepared = self._accelerator.prepare_optimizer(self.optimizer)
        self._zeros = Zeros(parameter for group in self.optimizer.param_groups for parameter in group["params"])

    def divide_(self, model: Model, module: nn.Module) -> None:
        """Divide a teacher among the processes where the step divides the student.

        Args:
            model: The teacher.
            module: The module whose forward pass is called; it holds the model's.
        """
        if self._sharding is not None:
            Sharding(model, module)

    @contextmanager
    def computing(self, is_last: bool) -> Iterator[None]:
        """Compute a loss in the step's precision; processes exchange gradients with the last part of an update."""
        if self._sharding is not None:
            self.module.set_requires_gradient_sync(is_last)  # type: ignore[operator]
        waits = not is_last and self._sharding is None and distributed.world_size() > 1
        with self._accelerator.no_sync(self.module) if waits else nullcontext(), self._accelerator.autocast():
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self._accelerator.backward(loss)

    def step(self, rate: float) -> None:
        """Change the weights by the gradients, and forget these."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for parameter in self._extra.parameters():
            # The wrapper does not know them.
            if parameter.grad is not None and distributed.world_size() > 1:
                distributed.sum_(parameter.grad)
                parameter.grad /= distributed.world_size()
        self._accelerator.clip_grad_norm_(parameters, self._step.max_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._prepared.step()
        self._prepared.zero_grad()
        self._zeros.restore_()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write values for TensorBoard, where it was asked for."""
        self._accelerator.log(dict(values), step=step)

    def close(self) -> None:
        """End the log, and undo what was done for several processes."""
        # `end_training` would end the exchange between the processes too, which later steps need.
        for tracker in self._accelerator.trackers:
            tracker.finish()
        if self._sharding is not None:
            self._sharding.undo_()
        _forget()


def _accelerator(step: TrainingStep, device: torch.device, log: Path | None) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError:
        raise SottovoceError(f"{step.name} needs accelerate: pip install 'sottovoce[train]'") from None
    _forget()
    if log is not None:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise SottovoceError("a log of training needs tensorboard: pip install 'sottovoce[train]'") from None
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=_PRECISIONS[step.precision],
        log_with="tensorboard" if log is not None else None,
        project_dir=str(log) if log is not None else None,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if log is not None:
        accelerator.init_trackers(step.name)
    return accelerator


def _forget() -> None:
    """Forget the settings of an earlier step: accelerate keeps them for the process."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _groups(module: nn.Module, extra: nn.Module, step: TrainingStep) -> list[dict[str, Any]]:
    """Return the parameters that are trained; those that are no matrices have no weight decay."""
    parameters = [parameter for part in (module, extra) for parameter in part.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.dim() > 1]
    others = [parameter for parameter in parameters if parameter.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": step.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
