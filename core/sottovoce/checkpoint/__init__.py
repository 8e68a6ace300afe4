"""Weights on disk: strict reading, atomic writing, and verification by digests."""

from sottovoce.checkpoint.directory import new_directory
from sottovoce.checkpoint.manifest import digests, verify
from sottovoce.checkpoint.safe_config import contained_path, read_config
from sottovoce.checkpoint.weights import (
    copy_tensors,
    leave_file_,
    load_strictly_,
    read_tensors,
    without_memory,
    write_tensors,
)

__all__ = [
    "contained_path",
    "digests",
    "copy_tensors",
    "leave_file_",
    "load_strictly_",
    "new_directory",
    "read_config",
    "read_tensors",
    "verify",
    "without_memory",
    "write_tensors",
]
