"""Stock transformers: a directory is loaded by its own classes alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.engines.engine import Engine

if TYPE_CHECKING:
    from sottovoce.samples import Prediction, Sample


class Transformers(Engine):
    """``from_pretrained`` of transformers; the plugin only prepares the inputs."""

    name = "transformers"
    packages = ("transformers", "compressed-tensors")

    def fits(self, directory: Path) -> bool:
        """Return whether transformers has the class that the configuration names."""
        from sottovoce.checkpoint.safe_config import read_config

        path = directory / "config.json"
        return path.is_file() and isinstance(read_config(path, (), references=True).get("architectures"), list)

    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load model and processor, and run samples by the family's own function."""
        import transformers

        from sottovoce.checkpoint.model_class import class_name, refuse_code
        from sottovoce.errors import SourceError
        from sottovoce.formats.transformers.processors import load_processor
        from sottovoce.model import Model
        from sottovoce.plugins.host import default_host
        from sottovoce.source import Source

        refuse_code(directory)
        name = class_name(directory)
        architecture = default_host().owner_of(name)
        kind = getattr(transformers, name, None)
        if kind is None:
            raise SourceError(f"{directory}: transformers {transformers.__version__} has no class {name}")
        native = kind.from_pretrained(directory, dtype="auto", local_files_only=True, trust_remote_code=False).eval()
        model = Model(
            module=native,
            native=native,
            processor=load_processor(directory, native.config, architecture.processor),
            architecture=architecture,
            source=Source(name=directory.name, directory=directory),
        )
        return lambda sample: architecture.runner.predict(model, sample)
