"""The contract between the host and its plugins: six hooks.

A plugin is any object with these functions, marked ``@sottovoce.hookimpl`` and named in the entry-point group
``sottovoce``. A verb (load, compress, export, evaluate) on a model is called on the plugin that owns the model's
architecture and on plugins that own none, so an implementation needs no guard against other families.
"""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from click import Command

    from sottovoce.architecture import Architecture
    from sottovoce.calibration.block_step import BlockStep
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.recipe.step import Step
    from sottovoce.report import Metric, StepReport
    from sottovoce.samples import Run, Samples
    from sottovoce.source import LoadOptions, Source

hookspec = pluggy.HookspecMarker("sottovoce")
hookimpl = pluggy.HookimplMarker("sottovoce")
"""Decorator of a plugin's function that implements the hook of the same name."""


@hookspec
def sottovoce_architectures() -> Iterable[Architecture]:
    """Describe the model families that this plugin owns. All results are collected.

    It is an error if two plugins claim the same name or class; it names both. The function must not import torch or a
    model library: it runs on every ``sottovoce --help``.

    Returns:
        The families, in any order.

    Example:
        ```python
        @sottovoce.hookimpl
        def sottovoce_architectures():
            return [
                Architecture(
                    name="my-asr",
                    matches=("MyASRForCTC",),
                    layers=Layers(targets=("Linear",), ignore={"head": "output layer"}),
                    runner=Runner(forward=forward, predict=predict, probe=probe),
                )
            ]
        ```
    """


@hookspec(firstresult=True)
def sottovoce_load(source: Source, architecture: Architecture, options: LoadOptions) -> Model | None:
    """Build the model from the files in ``source.directory``. The first result that is not ``None`` is used.

    No code from the directory may run, and every tensor must fit (see ``sottovoce.checkpoint.load_strictly_``).
    Core's own loader for transformers classes is called last.

    Args:
        source: The files, which are on this machine already.
        architecture: The family that owns the class name in the files.
        options: Device, dtype, and keyword arguments for the native library.

    Returns:
        The model on ``options.device``, in evaluation mode, or ``None`` to leave it to the next plugin.

    Raises:
        SourceError: Files are missing, damaged or ask for something that is refused.

    Example:
        ```python
        @sottovoce.hookimpl
        def sottovoce_load(source, architecture, options):
            native = MyLibrary.load(source.directory)
            return Model(module=native.net, native=native, architecture=architecture, source=source)
        ```
    """


@hookspec(firstresult=True)
def sottovoce_compress(
    step: Step, model: Model, architecture: Architecture, samples: Samples | None, calibration: Calibration
) -> StepReport | BlockStep | None:
    """Apply one step of a recipe to ``model.module`` in place. The first result that is not ``None`` is used.

    For a step of a class with ``by_block = True``, return a :class:`~sottovoce.calibration.block_step.BlockStep`
    instead. Core then runs it block by block: together with the adjacent steps, on the samples, within the memory
    limit, and for models that are larger than memory.

    Args:
        step: A validated step; return ``None`` for a class that is not the plugin's.
        model: The model, changed in place.
        architecture: The family, with the layers to compress and to keep.
        samples: Calibration samples, or ``None`` when the user gave none.
        calibration: The same samples with the limits of the work: memory, and the directory for completed blocks.

    Returns:
        The report of the step's changes, or the runner of the step block by block.

    Raises:
        CoverageError: The step changed a smaller share of the parameters than the recipe promises.

    Example:
        ```python
        class Round(Step):
            digits: int = 3

            def summary(self, report):  # for tables and model cards
                return Text(en=f"Rounded the weights to {self.digits} digits.", zh=f"将权重舍入到 {self.digits} 位。")

        @sottovoce.hookimpl
        def sottovoce_compress(step, model):
            if not isinstance(step, Round):
                return None
            targets = round_weights_(model.module, step.digits)
            return StepReport(step=step.to_dict(), targets=targets)
        ```
    """


@hookspec(firstresult=True)
def sottovoce_export(model: Model, architecture: Architecture, format: str, directory: Path) -> Path | None:
    """Write the model in ``format``. The first result that is not ``None`` is used.

    The format ``native`` is the one that the model's own library loads; ``sottovoce.save`` asks for it. Other formats
    are best declared as a :class:`~sottovoce.formats.Format`, which core's own implementation of this hook writes and
    checks: those are listed by ``sottovoce export --help`` and in errors.

    Args:
        model: The model.
        architecture: Its family.
        format: A format's name, such as ``native`` or ``onnx``; return ``None`` for a format that is not the plugin's.
        directory: An existing, empty directory; the host renames it into place on success.

    Returns:
        The directory, or ``None`` to leave it to the next plugin.

    Example:
        ```python
        @sottovoce.hookimpl
        def sottovoce_export(model, format, directory):
            if format != "native":
                return None
            model.native.save(directory)
            return directory
        ```
    """


@hookspec
def sottovoce_evaluate(
    model: Model, architecture: Architecture, samples: Samples, run: Run, baseline: Run | None
) -> Iterable[Metric]:
    """Compute metrics of a model. All results are collected.

    Args:
        model: The model.
        architecture: Its family.
        samples: The samples with their references.
        run: The model's predictions on the samples, with times and memory: the samples ran once, for every metric.
        baseline: The uncompressed model's run on the same samples, if the user named one; ``run`` itself while that
            model is measured.

    Returns:
        The metrics. It is an error if two plugins return a metric of the same name.

    Example:
        ```python
        SILENT = MetricKind(
            name="silent",
            unit="%",
            better="lower",
            label=Text(en="empty answers", zh="空回答占比"),
            description=Text(en="Share of the samples without an answer.", zh="没有回答的样本所占比例。"),
        )

        @sottovoce.hookimpl
        def sottovoce_evaluate(samples, run):
            silent = sum(not prediction.text for prediction in run.predictions)
            return [SILENT.measured(100 * silent / len(samples))]
        ```
    """


@hookspec
def sottovoce_commands() -> Iterable[Command]:
    r"""Return commands that the plugin adds to ``sottovoce``. All results are collected.

    It is an error if core or another plugin has a command of the same name; it names both. The function must not import
    torch or a model library: it runs on every ``sottovoce --help``. The command itself may, when it is called. With
    ``sottovoce.cli.output.verb`` it takes ``--json``, ``--quiet`` and ``--debug`` as all of core's do, and is given an
    ``Output``; ``sottovoce.cli.options`` has the options that they share.

    Returns:
        The commands, in any order.

    Example:
        ```python
        @sottovoce.hookimpl
        def sottovoce_commands():
            @click.command(help="Print the names of MODEL's layers.")
            @click.argument("model")
            @verb
            def layers(out, model):
                module = sottovoce.load(model).module
                out.text("\n".join(name for name, _ in module.named_modules()))

            return [layers]
        ```
    """
