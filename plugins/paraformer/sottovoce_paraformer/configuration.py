"""A FunASR repository's configuration as plain, contained data: what FunASR would merge, without what it would run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint import contained_path, read_config
from sottovoce.checkpoint.guard import CODE_KEYS
from sottovoce.errors import SourceError

REGISTER = "sottovoce_paraformer.register"
"""Prefix of the class names in the configuration of a compressed model; the import that makes FunASR know them."""

DESCRIPTION = "configuration.json"
CONFIG = "config.yaml"
WEIGHTS = "model.safetensors"

REFUSED = CODE_KEYS | {"hub", "oss_bucket", "model_path", "vad_model", "punc_model", "spk_model", "lm_model"}
"""Keys of a ``config.yaml`` that would fetch or run something; only the caller may say them."""

_DROPPED = ("init_param", "output_dir", "export", "resume")
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
"""Where FunASR puts the files that it knows by name, when there is no ``configuration.json``."""


def read(directory: Path) -> dict[str, Any]:
    """The keyword arguments that describe the model, with absolute paths, and ``init_param`` for its weights.

    ``init_param`` is there even when the file is not, so that loading says which file is missing.

    Raises:
        SourceError: A file is missing or broken, asks for code or names a path outside the directory.
    """
    files = _files(directory)
    files.pop("config", None)
    config = read_config(config_path(directory), REFUSED)
    if isinstance(config.get("init_param"), str):
        contained_path(directory, config["init_param"], "init_param")
    for key in _DROPPED:
        config.pop(key, None)
    for section in ("tokenizer_conf", "frontend_conf"):
        _contain_(directory, section, config.get(section))
    _merge_(config, files)
    if config.get("tokenizer") == "CharTokenizer" and "token_list" not in (config.get("tokenizer_conf") or {}):
        raise SourceError(f"{directory}: the tokens are missing (no tokens.json)")
    if "init_param" not in config:
        names = (WEIGHTS, "model.pt", "model.pb")
        config["init_param"] = str(
            next((path for name in names if (path := contained_path(directory, name)).is_file()), directory / names[0])
        )
    return config


def config_path(directory: Path) -> Path:
    """The configuration that ``configuration.json`` names, or ``config.yaml``."""
    return Path(_files(directory).get("config", directory / CONFIG))


def dense_config(directory: Path) -> dict[str, Any]:
    """The configuration as it was written, without what a compression added."""
    config = read_config(config_path(directory), REFUSED)
    config["model"] = original_name(config.get("model"))
    for key in ("quantization_config", *_DROPPED):
        config.pop(key, None)
    return config


def original_name(name: Any) -> str:
    """The class that a compressed model was made of; any other name as it is."""
    return str(name).removeprefix(f"{REGISTER}.")


def file_names(directory: Path) -> tuple[str, ...]:
    """The files beside the weights that the model needs, by their names in the directory."""
    found: list[str] = []
    described = directory / DESCRIPTION
    metas = read_config(described).get("file_path_metas", {}) if described.is_file() else {}
    for keys, name in _leaves(metas):
        if keys not in {("init_param",), ("config",)} and contained_path(directory, name, _place(keys)).is_file():
            found.append(name)
    found += [name for name in _FIXED_NAMES if contained_path(directory, name).is_file()]
    return tuple(dict.fromkeys(found))


def metas(directory: Path) -> dict[str, Any]:
    """``file_path_metas`` for the files of a directory, without weights and configuration."""
    described = directory / DESCRIPTION
    result: dict[str, Any] = {}
    if described.is_file():
        form = read_config(described).get("file_path_metas", {})
        result = {key: value for key, value in form.items() if key not in {"init_param", "config"}}
    for name, keys in _FIXED_NAMES.items():
        if (directory / name).is_file() and not _has(result, keys):
            _merge_(result, _nest(keys, name))
    return result


def _files(directory: Path) -> dict[str, Any]:
    described = directory / DESCRIPTION
    result: dict[str, Any] = {}
    if described.is_file():
        for keys, name in _leaves(read_config(described).get("file_path_metas", {})):
            path = contained_path(directory, name, _place(keys))
            if keys[-1] in _NEEDED and not path.is_file():
                raise SourceError(f"{directory}: {DESCRIPTION} names {name}, which is missing")
            if path.exists() or keys in {("init_param",), ("config",)}:
                _merge_(result, _nest(keys, str(path)))
        return result
    for name, keys in _FIXED_NAMES.items():
        if (path := contained_path(directory, name)).is_file():
            _merge_(result, _nest(keys, str(path)))
    return result


def _place(keys: tuple[str, ...]) -> str:
    return ".".join(("file_path_metas", *keys))


def _leaves(form: Any, keys: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    if isinstance(form, Mapping):
        return [leaf for key, value in form.items() for leaf in _leaves(value, (*keys, str(key)))]
    return [(keys, form)] if isinstance(form, str) else []


def _nest(keys: tuple[str, ...], value: str) -> dict[str, Any]:
    return {keys[0]: _nest(keys[1:], value) if len(keys) > 1 else value}


def _has(form: Mapping[str, Any], keys: tuple[str, ...]) -> bool:
    inner: Any = form
    for key in keys:
        if not isinstance(inner, Mapping) or key not in inner:
            return False
        inner = inner[key]
    return True


def _merge_(form: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping):
            inner = form[key] if isinstance(form.get(key), dict) else {}
            _merge_(inner, value)
            form[key] = inner
        else:
            form[key] = value


def _contain_(directory: Path, name: str, section: Any) -> None:
    """Make the paths in a section absolute; what leaves the directory is refused."""
    if not isinstance(section, dict):
        return
    for key in ("token_list", "seg_dict", "seg_dict_file", "bpemodel", "cmvn_file"):
        if isinstance(section.get(key), str):
            section[key] = str(contained_path(directory, section[key], f"{name}.{key}"))
