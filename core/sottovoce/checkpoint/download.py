"""Fetching a pinned revision of a repository to the cache; the directory is then loaded as any other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.errors import SourceError

if TYPE_CHECKING:
    from sottovoce.model import LoadOptions, Repository

IGNORED = ("*.py", "*.onnx", "*.msgpack", "*.h5", "*.gguf")
"""Files of a repository that loading never needs: other formats, and code, which would not be run anyway."""


def fetch(repository: Repository, options: LoadOptions) -> tuple[Path, Repository]:
    """Download what is not in the cache yet.

    Returns:
        The directory, and the repository with the revision that was fetched.

    Raises:
        SourceError: The repository does not exist, may not be read, or there is no network and no cached copy.
    """
    fetch_from = _from_modelscope if repository.hub == "modelscope" else _from_hugging_face
    try:
        directory, revision = fetch_from(repository, options)
    except ImportError as error:
        raise SourceError(
            f"{repository.id}: {error.name} is not installed; pip install sottovoce[{repository.hub}]"
        ) from None
    except Exception as error:
        # The clients raise a wide family of errors, some with the whole response in them: the first line is enough.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise SourceError(
            f"{repository.id}: could not be fetched from {repository.hub}: {reason}; "
            "check the name, the token and the network, or give a local directory"
        ) from error
    return directory, type(repository)(id=repository.id, hub=repository.hub, revision=revision)


def offline() -> bool:
    """Whether the user forbids the network (``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE``)."""
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in
               ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))  # fmt: skip


def _from_hugging_face(repository: Repository, options: LoadOptions) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    directory = snapshot_download(
        repository.id,
        revision=options.revision or repository.revision,
        cache_dir=options.cache_dir,
        token=options.token,
        local_files_only=offline(),
        ignore_patterns=list(IGNORED),
        library_name="sottovoce",
    )
    # The cache names a snapshot's folder by its commit.
    return Path(directory), Path(directory).name


def _from_modelscope(repository: Repository, options: LoadOptions) -> tuple[Path, str]:
    from modelscope import snapshot_download

    revision = options.revision or repository.revision or "master"
    directory = snapshot_download(
        repository.id,
        revision=revision,
        cache_dir=options.cache_dir,
        token=options.token,
        local_files_only=offline(),
        ignore_patterns=list(IGNORED),
    )
    return Path(directory), revision
