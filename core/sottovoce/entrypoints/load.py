"""Loading of a model by name: locate its files, call its family's plugin, and read the report of its compression."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.choice import requested_weights
from sottovoce.checkpoint.download import fetch
from sottovoce.checkpoint.manifest import check_listed, read_manifest, verified_meanwhile
from sottovoce.checkpoint.model_class import class_name, refuse_code
from sottovoce.checkpoint.narrow_floats import store_floats_
from sottovoce.checkpoint.report_file import report_of
from sottovoce.checkpoint.safe_config import check_files
from sottovoce.entrypoints.load_options import read_options
from sottovoce.errors import PluginError, SourceError, UsageError, as_source_error
from sottovoce.model import Model
from sottovoce.plugins.host import Host, default_host
from sottovoce.quantization.cast_step import STORED_FLOATS
from sottovoce.samples import trained_samples
from sottovoce.source import LoadOptions, Repository, Source
from sottovoce.system import distributed
from sottovoce.system.device import check_device
from sottovoce.system.path_argument import as_name
from sottovoce.system.process_state import exclusive, usual_gradients

if TYPE_CHECKING:
    import torch

    from sottovoce.architecture import Architecture
    from sottovoce.report import CompressionReport


def load(source: str | os.PathLike[str], *, host: Host | None = None, **options: Any) -> Model:
    """Load a model from a directory, a library's alias or a hub id.

    Args:
        source: A directory, an alias of the model's library, or ``owner/name`` on a hub.
        host: The plugins; by default the process's own.
        **options: The fields of :class:`~sottovoce.source.LoadOptions` (``device``, ``dtype``, ``hub``, ``revision``,
            ``token``, ``cache_dir``, ``weights``, ``allow_unexpected``); all others go to the library that builds the
            model, which must know them. The names of other libraries are understood: ``model_revision`` is
            ``revision``, ``torch_dtype`` is ``dtype``, and ``hub`` may be ``ms`` or ``huggingface``.

    Raises:
        UnknownModelError: No installed plugin describes the model.
        SourceError: The files are missing or damaged, or could not be fetched.
        UsageError: The device does not exist here, or an option is unknown or out of range.
    """
    return load_with(model_name(source), read_options(options), host or default_host())


def model_name(model: str | os.PathLike[str], argument: str = "source") -> str:
    """Return the text of a model's name.

    Raises:
        UsageError: It is of another type.
    """
    if isinstance(model, Model):
        raise UsageError(f"{argument}: give a directory, an alias or a hub id, not a model in memory; save it first")
    return as_name(model, argument, "a directory, an alias or a hub id")


def load_with(name: str, options: LoadOptions, host: Host) -> Model:
    """Load a model by name, as :func:`load` does, with options that were read."""
    options = replace(options, device=distributed.own_device(options.device))
    check_device(options.device)
    source = locate(name, options, host)
    check_files(source.directory)
    manifest = read_manifest(source.directory)
    if manifest is not None:
        check_listed(source.directory, manifest)
    if options.weights is not None:
        requested_weights(source.directory, options.weights)
        source = replace(source, weights=options.weights)
    # What was fetched was verified as it was fetched.
    unverified = manifest if manifest is not None and source.repository is None else {}
    with verified_meanwhile(source.directory, unverified):
        architecture = host.owner_of(class_name(source.directory))
        refuse_code(source.directory)
        report = report_of(source.directory)
        with (
            exclusive(),
            usual_gradients(),
            as_source_error(source.directory, "the model that it describes cannot be loaded"),
        ):
            model = host.call("sottovoce_load", architecture, source=source, options=options)
    if not isinstance(model, Model):
        raise PluginError(
            f"no plugin loads {architecture.name} from {source.directory}; its own plugin must implement sottovoce_load"
        )
    model.report = report
    store_floats_(model.module, _stored_floats(report))
    model.trained_samples = trained_samples(source.directory)
    return model


def _stored_floats(report: CompressionReport | None) -> torch.dtype | None:
    """Return the dtype that a compression stored float32 weights in, so that saving the model again does so too."""
    import torch

    names = [step.details.get(STORED_FLOATS) for step in report.steps] if report else []
    return next((getattr(torch, str(name)) for name in reversed(names) if name in ("float16", "bfloat16")), None)


def locate(name: str, options: LoadOptions, host: Host) -> Source:
    """Return where a model's files are on this machine; those of a hub are fetched.

    Raises:
        SourceError: There is no such directory, or the files could not be fetched.
        UnknownModelError: No installed plugin describes the model on the hub.
    """
    try:
        if Path(name).is_dir():
            with os.scandir(name):  # Fails here, not later file by file, if the directory may not be read.
                # Absolute: a notebook may change its working directory before it saves the model.
                return Source(name=name, directory=Path(name).absolute())
        if Path(name).is_file():
            raise SourceError(f"{name}: is a file; give the directory that contains it and its configuration")
    except PermissionError as error:
        raise SourceError(f"{name}: cannot be read ({error.strerror})") from None
    except OSError:
        pass  # The name is not valid for a file.
    architectures = host.architectures.values()
    repository = next(filter(None, (_resolve(architecture, name, options) for architecture in architectures)), None)
    if repository is None:
        if name.count("/") != 1 or name.startswith((".", "/")):
            raise SourceError(f"{name}: no such directory, and not an alias or an owner/name id of a hub")
        repository = Repository(id=name, hub=options.hub or "hf", revision=options.revision)

    def check(directory: Path) -> None:
        host.owner_of(class_name(directory))
        refuse_code(directory)

    directory, repository = fetch(repository, options, check)
    return Source(name=name, directory=directory, repository=repository)


def _resolve(architecture: Architecture, name: str, options: LoadOptions) -> Repository | None:
    return architecture.resolve(name, options) if architecture.resolve else None
