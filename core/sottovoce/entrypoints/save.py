"""Saving of a model, with a check that the saved model reloads exactly."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.calibration import Calibration
from sottovoce.calibration.runner import SequentialRunner
from sottovoce.checkpoint.directory import new_directory
from sottovoce.checkpoint.downloaded import downloaded_from
from sottovoce.checkpoint.finite import require_finite
from sottovoce.checkpoint.machine_paths import LARGEST, is_path, machine_roots, refused_paths
from sottovoce.checkpoint.manifest import digests
from sottovoce.checkpoint.model_card import copy_notices, describe_origin
from sottovoce.checkpoint.safe_config import is_file_name
from sottovoce.checkpoint.weights import leave_file_
from sottovoce.entrypoints.load import load_with
from sottovoce.errors import PluginError, ReloadError, SourceError, UsageError, reason
from sottovoce.formats.format import NATIVE, Format, formats_for
from sottovoce.model import Model, in_evaluation_mode, require_model
from sottovoce.plugins.host import Host, default_host
from sottovoce.report import (
    COMPRESSION_FILE,
    BaseModel,
    CompressionReport,
    Coverage,
    ExportReport,
    Family,
    Sizes,
    StepReport,
    to_json,
)
from sottovoce.samples import TRAINED_SAMPLES_FILE, Sample, Samples
from sottovoce.source import LoadOptions
from sottovoce.system import distributed
from sottovoce.system.machine import versions
from sottovoce.system.path_argument import as_path
from sottovoce.system.process_state import kept_random_state

if TYPE_CHECKING:
    from torch import Tensor


_log = logging.getLogger("sottovoce")


@kept_random_state()
def save(model: Model, directory: str | os.PathLike[str], *, overwrite: bool = False, host: Host | None = None) -> Path:
    """Write a model in its own library's format, and check that it reloads to the same outputs.

    Of several processes that ``torchrun`` started the main one writes, and the others wait; all of them must call this.

    Args:
        model: The model.
        directory: A new directory.
        overwrite: If true, an existing directory that Sottovoce wrote is replaced.
        host: The plugins; by default the process's own.

    Returns:
        The directory.

    Raises:
        UsageError: The directory exists, or contains the model; or the model is another library's object.
        ReloadError: The outputs of the reloaded model on the probe differ; nothing is written.
        OutputError: The file system refused; nothing is written.
        NotFiniteError: A weight is infinite or not a number.
        SourceError: A file of the model contains a path of this machine; nothing is written.
    """
    model, host, path = require_model(model, "sottovoce.save"), host or default_host(), as_path(directory, "directory")
    if distributed.is_main():
        _save(model, path, overwrite, host)
    distributed.barrier()
    return path


def _save(model: Model, path: Path, overwrite: bool, host: Host) -> None:
    refuse_source(model, path)
    require_finite(model.module)
    with new_directory(path, overwrite) as temporary, in_evaluation_mode(model):
        write_format(model, NATIVE, temporary, host)
        if model.trained_samples is not None:
            model.trained_samples.write(temporary / TRAINED_SAMPLES_FILE)
        for name, write in model.attachments.items():
            if not is_file_name(name) or name == COMPRESSION_FILE or (temporary / name).exists():
                raise PluginError(f"the attachment {name!r}, which a step added, is not the name of a further file")
            write(temporary / name)
        copy_notices(model.source.directory, temporary)
        files = digests(temporary)
        if model.stream is not None:
            model.stream.require_written(files.values())
        write_report(model, path, temporary, files)
        _refuse_paths(model, temporary)
        _check_reload(model, temporary, host)


def write_report(
    model: Model, path: Path, temporary: Path, files: Mapping[str, str], export: ExportReport | None = None
) -> None:
    """Write a model's ``compression.json``.

    Args:
        model: The model.
        path: The directory that will hold it.
        temporary: The directory that holds it until it is complete.
        files: Digests of its files.
        export: What was exported, and how it ran.
    """
    report = model.report or _untouched(model)
    report.card = _card_facts(model)
    if export is None:
        report.output = str(path)
    form = {**_bare_report(dataclasses.replace(report, export=export).to_dict()), "output": path.name, "files": files}
    (temporary / COMPRESSION_FILE).write_text(to_json(form, indent=1), encoding="utf-8")


def _card_facts(model: Model) -> Family:
    """Return the family's facts for cards, with the formats that the model can be exported to."""
    try:
        known = formats_for(model.architecture)
        formats = {name: format for name, format in known.items() if format.usage and _takes(format, model)}
    except Exception as error:  # Of plugins, whatever it is: a finished compression is worth more than these lines.
        _log.warning("the model card will name no format to export to: %s", reason(error))
        formats = {}
    return Family(
        **dataclasses.asdict(model.architecture.card),
        serving={name: format.usage for name, format in formats.items()},
        formats={name: format.label for name, format in formats.items()},
    )


def _takes(format: Format, model: Model) -> bool:
    try:
        format.refuse(model)
    except UsageError:
        return False
    except Exception as error:  # Of a plugin, whatever it is.
        _log.warning("the model card will not name the format %s: %s", format.name, reason(error))
        return False
    return True


def without_folders(value: Any) -> Any:
    """Return data in the form of JSON with bare file names in place of paths, which are of this machine."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if isinstance(value, str) and is_path(value) else value


def _bare_report(form: dict[str, Any]) -> dict[str, Any]:
    """Return a report without the folders of the recipe's paths."""
    steps = [{**step, "step": without_folders(step["step"])} for step in form["steps"]]
    return {**form, "recipe": without_folders(form["recipe"]), "steps": steps}


def refuse_source(model: Model, path: Path) -> None:
    """Check that ``path`` may be written, before any work is done.

    Raises:
        UsageError: It contains the model's own files.
    """
    if path.resolve() in model.source.directory.resolve().parents:
        raise UsageError(f"{path}: contains the model {model.source.directory}; give another output")


def _refuse_paths(model: Model, directory: Path) -> None:
    """Refuse files that contain paths of this machine, since saved models are published."""
    roots = machine_roots(model.source.directory, directory.parent)
    paths = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.stat().st_size <= LARGEST)
    files = ((path.relative_to(directory).as_posix(), path.read_bytes()) for path in paths)
    if problem := refused_paths(files, roots):
        raise SourceError(f"{model.source.name}: nothing was written: {problem}; take it out of the model's files")


def _untouched(model: Model) -> CompressionReport:
    size = model.size_bytes
    return CompressionReport(
        recipe={"steps": []},
        architecture=model.architecture.name,
        source=provenance(model),
        steps=[],
        coverage=widest_coverage(()),
        size_bytes=Sizes(before=size, after=size),
        seconds=0.0,
        peak_memory_bytes=None,
        versions=versions(),
    )


def write_format(model: Model, format: str, directory: Path, host: Host) -> None:
    """Write a model in a format into an empty directory.

    Raises:
        UsageError: No plugin writes the format for this family.
    """
    written = host.call("sottovoce_export", model.architecture, model=model, format=format, directory=directory)
    if written is None:
        names = ", ".join((NATIVE, *formats_for(model.architecture)))
        raise UsageError(
            f"no installed plugin writes {model.architecture.name} as {format!r}; formats for this model: {names}"
        )


def _check_reload(model: Model, directory: Path, host: Host) -> None:
    import torch

    stream = model.stream
    device = str(next(model.module.parameters()).device) if stream is None else "cpu"
    reloaded = load_with(str(directory), LoadOptions(device=device, stream=stream is not None), host)
    if stream is None:
        expected, output = probe(model), probe(reloaded)
        if not torch.equal(expected, output):
            # In a mapped file weights lie at odd addresses, where kernels may add in another order: the last digits.
            leave_file_(reloaded.module)
            output = probe(reloaded)
    else:
        sample, expected = model.first_output or _first_output(model, model.architecture.runner.probe(model))
        output = _first_output(reloaded, sample)[1]
    if expected.shape == output.shape and torch.equal(expected, output):
        return
    gap = "in shape" if expected.shape != output.shape else f"by up to {(expected - output).abs().max().item():.3g}"
    raise ReloadError(
        f"{model.source.name}: the reloaded model's outputs on the probe differ {gap}; nothing was written"
    )


def _first_output(model: Model, sample: Sample) -> tuple[Sample, Tensor]:
    """Run a streamed model on a sample, with one block in memory at a time."""
    run = SequentialRunner(model, (), Calibration(samples=Samples((sample,)))).run()
    assert run.first_output is not None
    return run.first_output


def probe(model: Model) -> Tensor:
    """Return the logits of the family's probe ``[tokens, vocabulary]``."""
    import torch

    with torch.inference_mode():
        return model.architecture.runner.forward(model, model.architecture.runner.probe(model))


def provenance(model: Model) -> BaseModel:
    """Return the origin of a model, for its report."""
    if model.report is not None:
        return model.report.source
    repository = model.source.repository or downloaded_from(model.source.directory)
    return BaseModel(
        name=repository.id if repository else Path(model.source.name).resolve().name,
        hub=repository.hub if repository else None,
        revision=repository.revision if repository else None,
        weights=model.source.weights,
        **describe_origin(model.source.directory),
    )


def widest_coverage(steps: Iterable[StepReport]) -> Coverage:
    """Return the coverage of the step that changed the most."""
    coverages = [step.coverage for step in steps if step.coverage is not None]
    nothing = Coverage(parameters=0, compressed_parameters=0)
    return max(coverages, key=lambda coverage: coverage.ratio, default=nothing)
