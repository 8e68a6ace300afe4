"""A format of ``sottovoce export``, and the registry of all that are known in this process."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sottovoce.errors import PluginError, require_name
from sottovoce.system.registry import new_registry
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.model import Model

NATIVE = "native"
"""Name of the format of the model's own library, which plugins write by the hook ``sottovoce_export``."""
NATIVE_LABEL = Text(
    en="the files of the model's own library, as save writes them", zh="模型自带库的文件格式，与 save 写出的相同"
)

_FORMATS: dict[tuple[str, str], type[Format]] = new_registry()
"""Registered classes by module and name, so that a module that is imported twice replaces its own class."""


class Format(ABC):
    """A way to write models that another engine runs.

    A subclass with a name registers itself. The plugin's entry point has to import its module, which must not import
    torch or the engine: ``sottovoce export --help`` lists it.

    Example:
        ```python
        class OpenVINO(Format):
            name = "openvino"
            label = Text(en="OpenVINO IR", zh="OpenVINO IR")
            tasks = ("transcription",)

            def write(self, model, directory):
                ...

            def check(self, directory):
                ...
        ```
    """

    name: ClassVar[str] = ""
    """Name that ``sottovoce export --format`` takes."""
    label: ClassVar[Text]
    """Short description, for lists and model cards."""
    architectures: ClassVar[tuple[str, ...]] = ()
    """Names of the model families that it is for."""
    tasks: ClassVar[tuple[str, ...]] = ()
    """Tasks (see ``Architecture.task``) that it is for; with no family and no task, it is for every model."""
    usage: ClassVar[str] = ""
    """Python code for model cards that runs what was written to ``"{directory}"`` on ``"{audio}"``."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.name:
            return
        require_name("format", cls.name, cls.__module__)
        if not isinstance(label := getattr(cls, "label", None), Text) or not label.en.strip():
            raise PluginError(f"the format {cls.name!r} of {cls.__module__} has no label")
        for attribute in ("architectures", "tasks"):
            if isinstance(getattr(cls, attribute), str):
                raise PluginError(f"the format {cls.name!r} of {cls.__module__}: {attribute} is a tuple of names")
        if not isinstance(cls.usage, str):
            raise PluginError(f"the format {cls.name!r} of {cls.__module__}: usage is text")
        _FORMATS[cls.__module__, cls.__qualname__] = cls

    def is_for(self, architecture: Architecture) -> bool:
        """Return whether models of a family can be written."""
        if not self.architectures and not self.tasks:
            return True
        return architecture.name in self.architectures or architecture.task in self.tasks

    def refuse(self, model: Model) -> None:
        """Refuse a model that cannot be written, in little time; a model card names no format that refuses its model.

        Raises:
            UsageError: A model of this kind cannot be written.
        """
        return None

    @abstractmethod
    def write(self, model: Model, directory: Path) -> None:
        """Write a model into an empty directory, and leave the model as it was.

        Raises:
            UsageError: A model of this kind cannot be written.
            OutputError: A package is not installed, or the file system refused.
        """

    @abstractmethod
    def check(self, directory: Path) -> None:
        """Run what :meth:`write` wrote in the engine that it is for.

        Raises:
            OutputError: The engine is not installed, or it does not run the files.
        """

    def unchecked(self) -> str:
        """Return why :meth:`check` only reads the files on this machine; empty where it runs them in their engine."""
        return ""


def registered_formats() -> tuple[Format, ...]:
    """Return all registered formats, sorted by name."""
    classes = [kind for kind in _FORMATS.values() if not inspect.isabstract(kind)]
    return tuple(kind() for kind in sorted(classes, key=lambda kind: (kind.name, kind.__module__)))


def formats_for(architecture: Architecture) -> dict[str, Format]:
    """Return the registered formats that models of a family can be written in, by name.

    Raises:
        PluginError: Two of them have one name.
    """
    formats: dict[str, Format] = {}
    owners = {NATIVE: "the model's own library"}
    for format in registered_formats():
        if not format.is_for(architecture):
            continue
        owner = type(format).__module__
        if format.name in owners:
            raise PluginError(
                f"the format {format.name!r} of {owner} is taken for {architecture.name} by {owners[format.name]}"
            )
        formats[format.name], owners[format.name] = format, owner
    return formats


def labels() -> dict[str, Text]:
    """Return the label of every format that ``sottovoce export`` knows here, by name; ``native`` comes first.

    Where families declare one name with several labels, it has them all, each with its families.
    """
    families: dict[str, dict[Text, list[str]]] = {}
    for format in registered_formats():
        families.setdefault(format.name, {}).setdefault(format.label, []).extend(format.architectures)
    return {NATIVE: NATIVE_LABEL} | {name: _joined(labels) for name, labels in families.items()}


def _joined(labels: Mapping[Text, Sequence[str]]) -> Text:
    if len(labels) == 1:
        return next(iter(labels))
    return Text(
        en="; ".join(f"{label.en} ({', '.join(names)})" for label, names in labels.items()),
        zh="；".join(f"{label.in_language('zh')}（{'、'.join(names)}）" for label, names in labels.items()),
    )
