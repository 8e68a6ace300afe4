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
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.calibration.runner import BlockStep
    from sottovoce.model import LoadOptions, Model, Source
    from sottovoce.recipe.recipe import Step
    from sottovoce.report import Metric, StepReport
    from sottovoce.samples import Run, Samples

hookspec = pluggy.HookspecMarker("sottovoce")
hookimpl = pluggy.HookimplMarker("sottovoce")
"""Marks a function of a plugin as an implementation of the hook of the same name."""


@hookspec
def sottovoce_architectures() -> Iterable[Architecture]:
    """Describe the model families that this plugin owns. All answers are collected.

    Two plugins that claim the same name or class are an error that names both. The function must not import torch or
    a model library: it runs on every ``sottovoce --help``.

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
    """Build the model from the files in ``source.directory``. The first answer that is not ``None`` counts.

    Nothing from the directory may run, and every tensor must fit (see ``sottovoce.checkpoint.load_strictly_``).
    Core's own loader for transformers classes answers last.

    Args:
        source: The files on this machine; they were fetched already.
        architecture: The family, found by the class name in the files.
        options: Device, dtype, and keyword arguments for the native library.

    Returns:
        The model on ``options.device``, in evaluation mode, or ``None`` to leave it to the next.

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
    """Apply one step of a recipe to ``model.module`` in place. The first answer that is not ``None`` counts.

    A step whose class says ``by_block = True`` is answered by a :class:`~sottovoce.calibration.runner.BlockStep`
    instead, which core then leads through the
    blocks: with the steps beside it, on the samples, within the memory limit, and through
    models that are larger than memory.

    Args:
        step: A validated step; return ``None`` for a class of step that is not yours.
        model: The model, changed in place.
        architecture: The layers to compress and to leave.
        samples: Calibration samples, or ``None`` when the user gave none.
        calibration: The same samples with the limits of the work: memory, and where finished blocks are kept.

    Returns:
        The report of the changes, module by module; or the object that changes the model block by block.

    Raises:
        CoverageError: The step met less than the recipe promised.

    Example:
        ```python
        class Round(Step):
            digits: int = 3

        @sottovoce.hookimpl
        def sottovoce_compress(step, model):
            if not isinstance(step, Round):
                return None
            changed = round_weights_(model.module, step.digits)
            return StepReport(step=step.to_dict(), changed=changed)
        ```
    """


@hookspec(firstresult=True)
def sottovoce_export(model: Model, architecture: Architecture, format: str, directory: Path) -> Path | None:
    """Write the model in ``format``. The first answer that is not ``None`` counts.

    The format ``native`` is the one that the model's own library loads; ``sottovoce.save`` asks for it.

    Args:
        model: The model.
        architecture: Its family.
        format: A format's name, such as ``native`` or ``onnx``; return ``None`` for one that is not yours.
        directory: An empty directory that exists; the host renames it into place when all went well.

    Returns:
        The directory, or ``None`` to leave it to the next.

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
    """Measure the model on samples. All answers are kept.

    Args:
        model: The model.
        architecture: Its family.
        samples: The samples with their references.
        run: The model's predictions on the samples, with times and memory: the samples ran once, for every metric.
        baseline: The uncompressed model's run on the same samples, when the user named one; while that model itself is
            measured, ``run``.

    Returns:
        The metrics; a name that two plugins give is an error naming both.

    Example:
        ```python
        @sottovoce.hookimpl
        def sottovoce_evaluate(samples, run):
            silent = sum(not prediction.text for prediction in run.predictions)
            return [Metric(name="silent", value=silent / len(samples), unit="share")]
        ```
    """


@hookspec
def sottovoce_commands() -> Iterable[Command]:
    r"""Return commands of the plugin's own for ``sottovoce``. All answers are collected.

    A command whose name core or another plugin uses is an error that names both. The function must not import torch or
    a model library: it runs on every ``sottovoce --help``. The command itself may, when it is called. With
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
