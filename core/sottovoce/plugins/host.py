"""The host: discovery, validation and calls of plugins."""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from sottovoce.architecture import Architecture
from sottovoce.errors import PluginError, RecipeError, UnknownModelError
from sottovoce.plugins import hookspecs, published
from sottovoce.recipe.presets import CONDITIONS, PRESETS
from sottovoce.recipe.recipe import Recipe, RecipeArgument, as_recipe
from sottovoce.system.registry import undone_on_error
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    from click import Command

Answer = TypeVar("Answer")

GROUP = "sottovoce"
ALLOW_VARIABLE = "SOTTOVOCE_PLUGINS"
BUILTIN = (
    "sottovoce.quantization.plugin",
    "sottovoce.experts.plugin",
    "sottovoce.pruning.plugin",
    "sottovoce.training.plugin",
    "sottovoce.formats.plugin",
    "sottovoce.formats.torchao",
    "sottovoce.engines.stock_transformers",
    "sottovoce.formats.transformers.loader",
    "sottovoce.formats.transformers.writer",
    "sottovoce.metrics.cost",
    "sottovoce.metrics.agreement",
    "sottovoce.metrics.accuracy",
    "sottovoce.metrics.divergence",
    "sottovoce.metrics.error_rate",
)
"""Modules of core's own algorithms, libraries and metrics: plugins like any other, registered first and called last."""


@dataclass(frozen=True)
class Plugin:
    """An installed plugin, loaded or not."""

    name: str
    distribution: str
    version: str
    error: str | None = None
    """Reason that the plugin is not used: its import failed, or it broke the contract."""


class PluginWarning(UserWarning):
    """A plugin is skipped."""


class Host:
    """The plugins of one process and the calls to them.

    Args:
        allow: Entry-point names to load, or one; ``None`` takes ``SOTTOVOCE_PLUGINS``, and all when that is not set.
    """

    def __init__(self, allow: Iterable[str] | str | None = None) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        self._added: set[str] = set()
        self._known: dict[str, tuple[Architecture, str]] | None = None
        self._commands: dict[str, tuple[Command, str]] | None = None
        for module in BUILTIN:
            self._manager.register(importlib.import_module(module), name=module)
        names = frozenset([allow] if isinstance(allow, str) else allow or ())
        for entry in _entry_points(_allowed() if allow is None else names):
            self._load(entry)
        self._manager.check_pending()

    def __repr__(self) -> str:
        """Return the names of the plugins that can be chosen."""
        names = [*(plugin.name for plugin in self.plugins), *sorted(self._added)]
        return f"<Host: {', '.join(names) or 'no plugins'}>"

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin that has no entry point: an object or a module with hooks, such as a notebook's ``__main__``.

        A plugin that was added here before under the same name is replaced, so that a notebook's cell may run again.

        Raises:
            PluginError: An installed plugin has the name; or the plugin has a hook that does not exist, or arguments
                that the hook does not have.
        """
        if self._manager.has_plugin(name):
            if name not in self._added:
                raise PluginError(f"the plugin name {name!r} is taken; give another")
            self._manager.unregister(name=name)
        self._register(plugin, name)
        self._added.add(name)

    def _register(self, plugin: object, name: str) -> None:
        self._known = self._commands = None
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise PluginError(f"plugin {name!r} does not fit the hooks: {_line(error)}") from error

    def _load(self, entry: metadata.EntryPoint) -> None:
        distribution = entry.dist.name if entry.dist else entry.name
        version = entry.dist.version if entry.dist else ""
        try:
            with undone_on_error():
                plugin = entry.load()
                if self._manager.has_plugin(entry.name):
                    raise PluginError(f"the plugin name {entry.name!r} is taken")
                self._register(plugin, entry.name)
        except (Exception, SystemExit) as error:
            # One broken plugin must not take the rest down, whatever it raises.
            problem = f"{type(error).__name__}: {_line(error)}"
            self.plugins.append(Plugin(entry.name, distribution, version, problem))
            warnings.warn(f"plugin {distribution} is skipped: {problem}", PluginWarning, stacklevel=2)
            return
        self.plugins.append(Plugin(entry.name, distribution, version))

    @property
    def has_added(self) -> bool:
        """If true, it has plugins that no other process would load."""
        return bool(self._added)

    @property
    def architectures(self) -> Mapping[str, Architecture]:
        """Families that the plugins describe, by name.

        Raises:
            PluginError: Two plugins claim one name or one class; names both.
        """
        return {name: architecture for name, (architecture, _) in self._architectures().items()}

    def _architectures(self) -> dict[str, tuple[Architecture, str]]:
        if self._known is None:
            self._known = self._collect()
        return self._known

    def _collect(self) -> dict[str, tuple[Architecture, str]]:
        architectures: dict[str, tuple[Architecture, str]] = {}
        owners: dict[str, str] = {}
        for call in self._manager.hook.sottovoce_architectures.get_hookimpls():
            for architecture in self._answers(call, Architecture):
                for claim in (f"name {architecture.name!r}", *(f"class {name!r}" for name in architecture.matches)):
                    if claim in owners:
                        raise PluginError(f"the {claim} is claimed by {owners[claim]} and {call.plugin_name}")
                    owners[claim] = str(call.plugin_name)
                architectures[architecture.name] = (architecture, str(call.plugin_name))
        return architectures

    def _answers(self, call: pluggy.HookImpl, kind: type[Answer]) -> list[Answer]:
        """Return the results of an implementation; if it fails, warn and return none."""
        try:
            answers = list(cast(Iterable[Any], call.function()))
            if other := [answer for answer in answers if not isinstance(answer, kind)]:
                raise TypeError(f"{call.function.__name__} gave {other[0]!r}, which is not of type {kind.__name__}")
            return answers
        except (Exception, SystemExit) as error:
            problem = f"{type(error).__name__}: {_line(error)}"
            self.plugins = [
                replace(plugin, error=problem) if plugin.name == call.plugin_name else plugin for plugin in self.plugins
            ]
            warnings.warn(f"plugin {call.plugin_name} is skipped: {problem}", PluginWarning, stacklevel=2)
            return []

    def commands(self, verbs: Collection[str] = ()) -> Mapping[str, Command]:
        """Return the plugins' commands by name.

        Args:
            verbs: Names of core's own commands.

        Raises:
            PluginError: Two owners have a command of the same name; names both.
        """
        if self._commands is None:
            self._commands = self._collect_commands()
        for name in sorted(self._commands.keys() & set(verbs)):
            raise PluginError(f"the command {name!r} of {self._commands[name][1]} is a command of sottovoce itself")
        return {name: command for name, (command, _) in self._commands.items()}

    def _collect_commands(self) -> dict[str, tuple[Command, str]]:
        from click import Command

        commands: dict[str, tuple[Command, str]] = {}
        for call in self._manager.hook.sottovoce_commands.get_hookimpls():
            for command in self._answers(call, Command):
                name, plugin = command.name or "", str(call.plugin_name)
                if name in commands:
                    raise PluginError(f"the command {name!r} is claimed by {commands[name][1]} and {plugin}")
                commands[name] = (command, plugin)
        return commands

    def owner_of(self, class_name: str) -> Architecture:
        """Return the family of a model class.

        Raises:
            UnknownModelError: No installed plugin describes the class; says which plugin would, and which did not load.
        """
        for architecture in self.architectures.values():
            if class_name in architecture.matches:
                return architecture
        raise UnknownModelError(
            f"no installed plugin describes the model class {class_name!r}; {self._advice(class_name)}"
        )

    def _advice(self, class_name: str) -> str:
        failed = [
            f"{plugin.distribution} is installed but failed ({plugin.error})" for plugin in self.plugins if plugin.error
        ]
        described = [name for name, classes in published.classes().items() if class_name in classes]
        arguments = published.installable(described)
        install = [f"pip install {' '.join(arguments)} in a clone of Sottovoce's repository"] if arguments else []
        known = sorted({name for architecture in self.architectures.values() for name in architecture.matches})
        return "; ".join([*install, *failed, f"known here: {', '.join(known) or 'none'}"])

    @property
    def presets(self) -> Mapping[str, Recipe]:
        """Recipes of core and of the plugins, by name.

        Raises:
            PluginError: Two owners have a recipe of the same name.
        """
        families = [architecture for architecture, _ in self._architectures().values()]
        presets: dict[str, Recipe] = {}
        for is_for, recipes in CONDITIONS:
            if recipes is PRESETS or any(map(is_for, families)):
                presets |= recipes
        for architecture, plugin in self._architectures().values():
            for name, form in architecture.presets.items():
                if name in presets:
                    raise PluginError(f"the recipe {name!r} of {plugin} exists already")
                presets[name] = Recipe.from_dict(form, title=name)
        return presets

    def plugin_of(self, family: str) -> Plugin:
        """Return the plugin that describes a family."""
        owner = self._architectures()[family][1]
        return next((plugin for plugin in self.plugins if plugin.name == owner), Plugin(owner, owner, ""))

    def families_of(self, preset: str) -> tuple[str, ...]:
        """Return the names of the families that a preset is for."""
        conditions = [is_for for is_for, recipes in CONDITIONS if preset in recipes]
        return tuple(
            name
            for name, family in self.architectures.items()
            if preset in family.presets or any(is_for(family) for is_for in conditions)
        )

    def recipe(self, recipe: RecipeArgument) -> Recipe:
        """Return the recipe of a preset's name, a recipe file, the plain form, or steps.

        Raises:
            RecipeError: There is no such preset, or the recipe does not validate.
        """
        if (given := as_recipe(recipe)) is not None:
            return given
        name = os.fspath(cast("str | os.PathLike[str]", recipe))
        if name in self.presets:
            return self.presets[name]
        if name.endswith((".yaml", ".yml", ".json")):
            return Recipe.read(name)
        close = difflib.get_close_matches(name, self.presets, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        presets = ", ".join(self.presets)
        raise RecipeError(f"unknown recipe {name!r}{meant}; presets: {presets}; or give a .yaml or .json file")

    def call(self, verb: str, architecture: Architecture, **arguments: Any) -> Any:
        """Call the hook ``verb`` on the plugin that owns ``architecture`` and on those that own no architecture."""
        owner = self._architectures()[architecture.name][1]
        others = {plugin for _, plugin in self._architectures().values()} - {owner}
        caller = self._manager.subset_hook_caller(verb, [self._manager.get_plugin(name) for name in others])
        try:
            return caller(architecture=architecture, **arguments)
        except SystemExit as error:
            raise PluginError(f"a plugin's {verb} ended the process ({_line(error)}); see --debug for which") from error


def needed_host(host: Host | None) -> Host | None:
    """Return the host that only this process has: one that was given, or the default one if plugins were added to it.

    Another process would load the installed plugins alone; ``None`` says that these are all.
    """
    if host is not None:
        return host
    return default_host() if default_host().has_added else None


@functools.cache
def default_host() -> Host:
    """Return the host of this process, created on first use."""
    return Host()


def _allowed() -> frozenset[str] | None:
    names = os.environ.get(ALLOW_VARIABLE)
    return None if names is None else frozenset(filter(None, (name.strip() for name in names.split(","))))


def _entry_points(allow: frozenset[str] | None) -> list[metadata.EntryPoint]:
    # Sorted, since the file system decides the order in which distributions are listed.
    entries = sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name)
    names = dict.fromkeys(entry.name for entry in entries)
    if allow is not None and (unknown := sorted(allow - set(names))):
        known = ", ".join(names) or "none"
        raise PluginError(f"{ALLOW_VARIABLE}: no plugin {unknown[0]!r} is installed; installed are: {known}")
    return [entry for entry in entries if allow is None or entry.name in allow]


def _line(error: BaseException) -> str:
    return one_line(error, 300)
