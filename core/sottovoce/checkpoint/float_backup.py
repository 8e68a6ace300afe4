"""Backup on disk of layers before quantization, from which a few are restored to higher precision."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.errors import OutputError

if TYPE_CHECKING:
    from torch import nn


class FloatBackup:
    """Store of float linear layers in a temporary directory, which is removed when it is closed."""

    def __init__(self) -> None:
        """Create the directory."""
        self._folder = tempfile.TemporaryDirectory(prefix="sottovoce-float-backup-")
        self._numbers: dict[str, int] = {}

    def keep(self, name: str, layer: nn.Linear) -> None:
        """Write a layer's weight and bias.

        Raises:
            OutputError: The file system refused, a full disk for instance.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        number = self._numbers.setdefault(name, len(self._numbers))
        tensors = {key: tensor.detach().contiguous() for key, tensor in layer.state_dict().items()}
        try:
            save_file(tensors, self._path(number))
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{self._folder.name}: could not be written ({error})") from error

    def restore(self, name: str) -> nn.Linear:
        """Return the layer as it was stored.

        Raises:
            KeyError: It was not stored.
        """
        from safetensors.torch import load_file
        from torch import nn

        tensors = load_file(self._path(self._numbers[name]))
        out_features, in_features = tensors["weight"].shape
        layer = nn.Linear(in_features, out_features, "bias" in tensors, device="meta")
        layer.load_state_dict({key: tensor.clone() for key, tensor in tensors.items()}, assign=True)
        return layer.requires_grad_(False).eval()

    def has(self, name: str) -> bool:
        """Return true if the layer was stored."""
        return name in self._numbers

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number}.safetensors"
