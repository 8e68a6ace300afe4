"""A safetensors file as its header and its data, so that either can lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
Header = dict[str, Any]


def read(path: Path) -> tuple[Header, bytes]:
    """Return the header and the data."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path: Path, header: Any, data: bytes, length: int | None = None) -> None:
    """Write a header, which may be bytes that are no JSON, and data; ``length`` is what the file says of the header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def with_header(change: Callable[[Header], Any], name: str = WEIGHTS) -> Callable[[Path], None]:
    """Return what changes the header; a value that is given replaces it."""

    def apply(directory: Path) -> None:
        header, data = read(directory / name)
        given = change(header)
        write(directory / name, header if given is None else given, data)

    return apply


def with_tensors(change: Callable[[dict[str, Any]], Any], name: str = WEIGHTS) -> Callable[[Path], None]:
    """Return what changes the tensors of the file and writes it anew; a mapping that is given replaces them."""

    def apply(directory: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = {key: tensor.clone() for key, tensor in load_file(directory / name).items()}
        given = change(tensors)
        tensors = tensors if given is None else given
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, directory / name, {"format": "pt"})

    return apply


def names(path: Path) -> list[str]:
    """Return the names of the tensors, largest first."""
    header, _ = read(path)
    kept = [name for name in header if name != "__metadata__"]
    return sorted(kept, key=lambda name: (header[name]["data_offsets"][0] - header[name]["data_offsets"][1], name))
