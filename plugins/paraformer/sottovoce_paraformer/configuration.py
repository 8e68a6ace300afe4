"""A FunASR repository's configuration as plain, contained data: what FunASR would merge, without what it would run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from sottovoce.checkpoint import contained_path, read_config
from sottovoce.checkpoint.safe_config import check_config
from sottovoce.errors import SourceError
from sottovoce.text.plain_text import one_line
from sottovoce_paraformer import sections
from sottovoce_paraformer.checkpoints import choose_weights
from sottovoce_paraformer.configuration_keys import FILES, KEPT_HEADS
from sottovoce_paraformer.limits import check_statistics, check_tokens, check_values
from sottovoce_paraformer.lora import LowRank, take_settings

REGISTER = "sottovoce_paraformer.register"
"""Prefix of the class names in the configuration of a compressed model; the import that makes FunASR know them."""

DESCRIPTION = "configuration.json"
CONFIG = "config.yaml"

_log = logging.getLogger("sottovoce.paraformer")
_TOKENS = ("tokenizer_conf", "token_list")
_STATISTICS = ("frontend_conf", "cmvn_file")
_NOT_FILES = {("init_param",), ("config",)}
_NEEDED = ("token_list", "cmvn_file", "bpemodel")
"""Files without which a model would hear or say something else; FunASR leaves out what is not there."""

_FIXED_NAMES: Mapping[str, tuple[str, ...]] = {
    "tokens.txt": ("tokenizer_conf", "token_list"),
    "tokens.json": ("tokenizer_conf", "token_list"),
    "seg_dict": ("tokenizer_conf", "seg_dict"),
    "bpe.model": ("tokenizer_conf", "bpemodel"),
    "am.mvn": ("frontend_conf", "cmvn_file"),
    "jieba_usr_dict": ("jieba_usr_dict",),
}
"""Keys under which FunASR puts the files that it knows by name, when there is no ``configuration.json``."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """Facts of a directory's model."""

    settings: dict[str, Any]
    """Keyword arguments for FunASR, with absolute paths of files."""
    weights: Path
    """Path of the weights; loading says when it is missing."""
    low_rank: Mapping[str, LowRank]
    """Low-rank layers to merge into the weights, by the part of the model."""


def read(directory: Path, weights: str | None = None) -> Description:
    """Read what describes the model; the trainer's settings and all paths elsewhere are left out and reported.

    Args:
        directory: A model's, or what FunASR's trainer wrote.
        weights: Name of the file of weights to take.

    Raises:
        SourceError: Files are missing or broken, or ask for code.
        UsageError: There are no such weights.
    """
    path = config_path(directory)
    written = read_config(path, references=True)
    name = original_name(written.get("model"))
    config, left_out = sections.split(written, name)
    check_config(config, path)
    check_values(config, path, set(FILES))
    described = _described(directory)
    _place_files_(config, directory, described, path.name)
    _check_files(config)
    if sections.is_notable(left_out):
        _log.warning("%s: left out of %s: %s", directory, path.name, ", ".join(left_out))
    chosen = choose_weights(directory, written, described.get(("init_param",)), weights)
    return Description(settings=config, weights=chosen, low_rank=take_settings(config))


def _check_files(config: Mapping[str, Any]) -> None:
    """Look into the files that FunASR takes as they are."""
    frontend = config.get("frontend_conf")
    if (statistics := _get(config, _STATISTICS)) is not None and isinstance(frontend, Mapping):
        check_statistics(Path(statistics), int(frontend.get("n_mels", 80)) * int(frontend.get("lfr_m", 1)))
    if isinstance(tokens := _get(config, _TOKENS), str):
        check_tokens(Path(tokens))


def config_path(directory: Path) -> Path:
    """Return the path of the configuration that ``configuration.json`` names, or of ``config.yaml``."""
    return contained_path(directory, _described(directory).get(("config",), CONFIG), "file_path_metas.config")


def dense_config(directory: Path) -> dict[str, Any]:
    """Return the configuration without what a compression or a training added, and without paths."""
    written = read_config(config_path(directory), references=True)
    name = original_name(written.get("model"))
    config, _ = sections.split(written, name)
    config["model"] = name
    for key in ("quantization_config", KEPT_HEADS):
        config.pop(key, None)
    take_settings(config)
    for keys in FILES:
        # ``configuration.json`` names them.
        section = config.get(keys[0]) if len(keys) > 1 else config
        if isinstance(section, dict) and isinstance(section.get(keys[-1]), str):
            section.pop(keys[-1])
    return config


def original_name(name: Any) -> str:
    """Return the class that a compressed model was made of; any other name as it is."""
    return str(name).removeprefix(f"{REGISTER}.")


def description(directory: Path) -> dict[str, Any]:
    """Return ``configuration.json`` as it is; empty where there is none."""
    path = directory / DESCRIPTION
    return read_config(path) if path.is_file() else {}


def model_files(directory: Path) -> dict[tuple[str, ...], str]:
    """Return the files beside the weights that the model needs: keys of a configuration, and the files' names."""
    described = {keys: name for keys, name in _described(directory).items() if keys not in _NOT_FILES}
    files = {keys: name for keys, name in described.items() if (directory / name).is_file()}
    written = read_config(config_path(directory), references=True)
    for keys in FILES:
        named = _get(written, keys)
        if keys not in files and isinstance(named, str) and (path := _beside(directory, named)) is not None:
            files[keys] = path.relative_to(directory).as_posix()
    return files


def nested(files: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    """Return names of files in the form of ``file_path_metas``."""
    form: dict[str, Any] = {}
    for keys, name in files.items():
        _put_(form, keys, name)
    return form


def _described(directory: Path) -> dict[tuple[str, ...], str]:
    """Return the files that ``configuration.json`` names; without it, those with names that FunASR knows."""
    if not (directory / DESCRIPTION).is_file():
        return {keys: name for name, keys in _FIXED_NAMES.items() if contained_path(directory, name).is_file()}
    metas = description(directory).get("file_path_metas") or {}
    if not isinstance(metas, Mapping):
        raise SourceError(f"{directory / DESCRIPTION}: file_path_metas must be a mapping, not {type(metas).__name__}")
    named = dict(sections.leaves(metas))
    for keys, name in named.items():
        contained_path(directory, name, ".".join(("file_path_metas", *keys)))
    return named


def _place_files_(
    config: dict[str, Any], directory: Path, described: Mapping[tuple[str, ...], str], config_name: str
) -> None:
    """Put the files that the model reads into its configuration, with absolute paths; all must lie in the directory.

    Raises:
        SourceError: Some are missing; names them all, with where the configuration has them.
    """
    missing: dict[str, str] = {}
    for keys in dict.fromkeys((*FILES, *(keys for keys in described if keys not in _NOT_FILES))):
        written, name = _get(config, keys), described.get(keys)
        path = directory / name if name is not None and (directory / name).exists() else None
        if path is None and isinstance(written, str):
            path = _beside(directory, written)
        if path is not None:
            _put_(config, keys, str(path))
        elif isinstance(written, str):
            name = PureWindowsPath(written).name
            folder = one_line(repr(written[: -len(name)].rstrip("/\\")), 60)
            place = f"{config_name} has it in {folder}" if name != written else f"{config_name} names it"
            missing.setdefault(name, place)
        elif name is not None and keys[-1] in _NEEDED:
            missing.setdefault(name, f"{DESCRIPTION} names it")
    if config.get("tokenizer") == "CharTokenizer" and not missing and _get(config, _TOKENS) is None:
        raise SourceError(f"{directory}: the tokens are missing (no tokens.json)")
    if missing:
        places = dict.fromkeys(missing.values())
        groups = ([one_line(name, 40) for name in missing if missing[name] == place] for place in places)
        listed = ", ".join(f"{', '.join(group)} ({place})" for group, place in zip(groups, places, strict=True))
        count = f"{len(missing)} of the model's files are" if len(missing) > 1 else "a file of the model is"
        raise SourceError(f"{directory}: {count} missing: {listed}; copy {'them' if len(missing) > 1 else 'it'} there")


def _beside(directory: Path, name: str) -> Path | None:
    """Return the file that a configuration means, where it lies in the directory: as named, or by its name alone."""
    names = (name, PureWindowsPath(name).name) if sections.stays_inside(name) else (PureWindowsPath(name).name,)
    return next((path for name in names if (path := contained_path(directory, name or ".")).is_file()), None)


def _get(form: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not isinstance(form, Mapping) or key not in form:
            return None
        form = form[key]
    return form


def _put_(form: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    *outer, last = keys
    for key in outer:
        if not isinstance(form.get(key), dict):
            form[key] = {}
        form = form[key]
    form[last] = value
