"""The honest models: the three of the examples, as they are, compressed, and in the other layouts that load."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
FAMILIES = ("paraformer", "aligner", "omni")
MODELS = (
    *(f"{family}{form}" for family in FAMILIES for form in ("", "-int8", "-int4")),
    "paraformer-pickle",
    "aligner-original",
)
MANIFEST = "compression.json"

_FOUR_BITS = {"steps": [{"step": "quantize", "bits": 4, "method": "hqq"}]}


@dataclass(frozen=True)
class HonestModel:
    """A directory that nothing is wrong with."""

    name: str
    directory: Path

    @property
    def family(self) -> str:
        """``paraformer``, ``aligner`` or ``omni``."""
        return self.name.partition("-")[0]

    @property
    def compressed(self) -> bool:
        """Whether it carries digests."""
        return self.name.endswith(("-int8", "-int4"))

    @property
    def configurations(self) -> tuple[str, ...]:
        """The files of settings, by name."""
        known = (
            "config.yaml",
            "configuration.json",
            "config.json",
            "processor_config.json",
            "preprocessor_config.json",
            "tokenizer_config.json",
            "generation_config.json",
        )
        return tuple(name for name in known if (self.directory / name).is_file())

    @property
    def files(self) -> tuple[str, ...]:
        """All files, by name."""
        return tuple(sorted(path.name for path in self.directory.iterdir()))

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The sha256 of every file, by name."""
        return digests(self.directory)

    @property
    def weights(self) -> str:
        """The name of the file of weights."""
        return "model.pt" if self.name == "paraformer-pickle" else "model.safetensors"

    @property
    def config(self) -> str:
        """The name of the configuration that names the class."""
        return "config.yaml" if self.family == "paraformer" else "config.json"


def make(name: str, directory: Path) -> None:
    """Write an honest model."""
    family, _, form = name.partition("-")
    source = EXAMPLES / "models" / f"tiny-{family}"
    if form in ("int8", "int4"):
        import sottovoce

        model = sottovoce.load(source)
        sottovoce.compress(model, form if form == "int8" else _FOUR_BITS)
        sottovoce.save(model, directory)
        return
    directory.mkdir(parents=True)
    if form == "original":
        from plugins.forced_aligner.tiny import make_original

        labels = len(json.loads((source / "config.json").read_text(encoding="utf-8"))["id2label"])
        make_original(directory, source)
        _set(directory / "config.json", labels)
        return
    for path in source.iterdir():
        shutil.copyfile(path, directory / path.name)
    if form == "pickle":
        _pickle(directory)


def sign(directory: Path) -> None:
    """Write the digests of all files anew, as a hostile publisher would."""
    path = directory / MANIFEST
    form: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    form["files"] = {name: digest for name, digest in digests(directory).items() if name != MANIFEST}
    path.write_text(json.dumps(form, indent=1), encoding="utf-8")


def digests(directory: Path) -> dict[str, str]:
    """Return the sha256 of all that are files and no links."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink()]
    small = [path for path in paths if path.stat().st_size < 200_000_000]
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in small}


def _set(path: Path, labels: int) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    config["thinker_config"]["classify_num"] = labels
    path.write_text(json.dumps(config), encoding="utf-8")


def _pickle(directory: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(directory / "model.safetensors"), directory / "model.pt")
    (directory / "model.safetensors").unlink()
    described = (directory / "configuration.json").read_text(encoding="utf-8")
    (directory / "configuration.json").write_text(described.replace("model.safetensors", "model.pt"), encoding="utf-8")
