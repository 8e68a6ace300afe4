"""Writing a model, and the proof that what was written loads again."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.calibration import Calibration
from sottovoce.checkpoint.directory import new_directory, refuse_existing
from sottovoce.checkpoint.manifest import digests
from sottovoce.checkpoint.origin import copy_notices, describe_origin
from sottovoce.errors import ReloadError, UsageError
from sottovoce.host import Host, default_host
from sottovoce.loading import load, load_with
from sottovoce.machine import versions
from sottovoce.model import LoadOptions, Model
from sottovoce.passage import Passage
from sottovoce.report import COMPRESSION_FILE, CompressionReport, Coverage, StepReport
from sottovoce.samples import Sample, Samples

if TYPE_CHECKING:
    from torch import Tensor


def save(model: Model, directory: str | os.PathLike[str], *, overwrite: bool = False, host: Host | None = None) -> Path:
    """Write a model in its own library's format, and prove that it loads again to the same outputs.

    Raises:
        UsageError: The directory exists, or holds the model.
        ReloadError: Loaded again, the outputs on the probe differ; nothing is written.
        OutputError: The file system refused; nothing is written.
    """
    host, path = host or default_host(), Path(directory)
    _refuse_source(model, path)
    with new_directory(path, overwrite) as temporary:
        _write(model, "native", temporary, host)
        for name, write in model.attachments.items():
            write(temporary / name)
        copy_notices(model.source.directory, temporary)
        report = model.report or _untouched(model)
        report.output = str(path)
        report.card = dataclasses.asdict(model.architecture.card)
        form = {**report.to_dict(), "output": path.name, "files": digests(temporary)}
        (temporary / COMPRESSION_FILE).write_text(json.dumps(form, indent=1, ensure_ascii=False), encoding="utf-8")
        _prove(model, temporary, host)
    return path


def _refuse_source(model: Model, path: Path) -> None:
    if path.resolve() in model.source.directory.resolve().parents:
        raise UsageError(f"{path}: holds the model {model.source.directory}, and is not replaced; give another output")


def _untouched(model: Model) -> CompressionReport:
    size = model.size_bytes
    return CompressionReport(
        recipe={"steps": []}, architecture=model.architecture.name, source=provenance(model), steps=[],
        coverage=widest_coverage(()), size_bytes={"before": size, "after": size}, seconds=0.0, peak_memory_bytes=None,
        versions=versions(),
    )  # fmt: skip


def _write(model: Model, format: str, directory: Path, host: Host) -> None:
    written = host.call("sottovoce_export", model.architecture, model=model, format=format, directory=directory)
    if written is None:
        known = ", ".join(("native", *model.architecture.exports))
        raise UsageError(f"no installed plugin writes {model.architecture.name} as {format!r}; formats: {known}")


def _prove(model: Model, directory: Path, host: Host) -> None:
    import torch

    stream = model.stream
    device = str(next(model.module.parameters()).device) if stream is None else "cpu"
    again = load_with(str(directory), LoadOptions(device=device, stream=stream is not None), host)
    if stream is None:
        expected, found = probe(model), probe(again)
    else:
        sample = stream.first[0] if stream.first else model.architecture.probe(model)
        expected, found = stream.first[1] if stream.first else _streamed(model, sample), _streamed(again, sample)
    if expected.shape != found.shape or not torch.equal(expected, found):
        gap = "in shape" if expected.shape != found.shape else f"by up to {(expected - found).abs().max().item():.3g}"
        raise ReloadError(
            f"{model.source.name}: loaded again, the outputs on the probe differ {gap}; nothing was written"
        )


def _streamed(model: Model, sample: Sample) -> Tensor:
    """What a model gives for a sample, with one block in memory at a time."""
    Passage(model, (), Calibration(samples=Samples((sample,)))).run_()
    assert model.stream is not None
    assert model.stream.first is not None
    return model.stream.first[1]


def probe(model: Model) -> Tensor:
    """The logits of the family's probe."""
    import torch

    with torch.inference_mode():
        return model.architecture.forward(model, model.architecture.probe(model))


def export(
    model: Model | str | os.PathLike[str],
    format: str,
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    host: Host | None = None,
) -> Path:
    """Write a model in a format that another engine runs.

    Raises:
        UsageError: No plugin writes the format for this family, or the directory exists.
    """
    host, path = host or default_host(), Path(directory)
    refuse_existing(path, overwrite)
    model = model if isinstance(model, Model) else load(model, host=host)
    _refuse_source(model, path)
    with new_directory(path, overwrite) as temporary:
        _write(model, format, temporary, host)
    return path


def provenance(model: Model) -> dict[str, Any]:
    """Where a model came from, for its report."""
    if model.report is not None:
        return dict(model.report.source)
    repository = model.source.repository
    return {
        "name": repository.id if repository else Path(model.source.name).resolve().name,
        "hub": repository.hub if repository else None,
        "revision": repository.revision if repository else None,
        **describe_origin(model.source.directory),
    }


def widest_coverage(steps: Iterable[StepReport]) -> dict[str, Any]:
    """The coverage of the step that changed the most."""
    found = [step.coverage for step in steps if step.coverage is not None]
    return max(found, key=lambda each: each.ratio, default=Coverage(parameters=0, compressed_parameters=0)).to_dict()
