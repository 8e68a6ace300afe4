"""Download of a pinned revision of a repository to the cache, from which it is loaded like any directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.checkpoint.manifest import differences, read_manifest
from sottovoce.checkpoint.model_class import CONFIGURATIONS, configuration_name
from sottovoce.checkpoint.safe_config import LEAVING, check_listing, contained_path
from sottovoce.errors import CheckpointError, SottovoceError, SourceError, UsageError
from sottovoce.network.attended import attended
from sottovoce.network.huggingface import COMMIT
from sottovoce.network.tokens import own_tokens
from sottovoce.network.wording import fit_cause, listed, shown
from sottovoce.system.process_state import released
from sottovoce.text.plain_text import shortened

if TYPE_CHECKING:
    from modelscope_hub import HubApi

    from sottovoce.source import LoadOptions, Repository

IGNORED = ("*.py", "*.onnx", "*.msgpack", "*.h5", "*.gguf")
"""Files of a repository that loading never needs: other formats, and code, which is never run."""

Look = Callable[[Path], None] | None

_REVISION = re.compile(r"(?![/.-])[^\s\x00-\x20\x7f~^:?*\[\\<>|\"]{1,200}")
"""Valid names of a branch, a tag or a commit; the caches build paths from them."""
_LONGEST = 500


def fetch(
    repository: Repository, options: LoadOptions, look: Callable[[Path], None] | None = None
) -> tuple[Path, Repository]:
    """Download the files that are not in the cache yet, and compare them with the digests in the model's report.

    Files that differ are removed from the cache and fetched once more, which repairs a damaged download.

    Args:
        repository: The model's repository.
        options: The revision, the token and the cache.
        look: Called with the directory when only the configuration is there, before anything else is fetched; an
            exception that it raises ends the download.

    Returns:
        The directory, and the repository with the revision that was fetched.

    Raises:
        UsageError: The revision is not a valid name.
        SourceError: The repository does not exist or may not be read, there is no network and no cached copy, or the
            hub sent nothing for too long.
        CheckpointError: Its files are not those that were published.
    """
    revision = options.revision or repository.revision
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        name = shortened(repr(revision), 100)
        raise UsageError(f"{repository.id}: {name} is not a valid name of a branch, a tag or a commit")
    try:
        return _fetch(repository, options, look)
    except SottovoceError as error:
        if len(str(error)) <= _LONGEST:
            raise
        # Names in a repository may be of any length.
        raise type(error)(shortened(str(error), _LONGEST)) from None


def _fetch(repository: Repository, options: LoadOptions, look: Look) -> tuple[Path, Repository]:
    directory, fetched = _download(repository, options, look)
    problems = _problems(directory)
    if problems:
        forget(directory, problems)
        if not offline():
            directory, fetched = _download(repository, options)
            problems = _problems(directory)
    if problems:
        forget(directory, problems)
        names = listed(f"{name} {problem}" for name, problem in problems.items())
        raise CheckpointError(
            f"{repository.id}: damaged: {names}; these files were removed from the cache: fetch the model again, "
            "and if they are damaged again, tell its publisher"
        )
    return directory, fetched


def forget(directory: Path, names: Iterable[str]) -> None:
    """Remove files from the cache, and the files that they link to."""
    for name in names:
        path = contained_path(directory, name, "the digest of")
        if path.is_dir():
            continue  # a digest's name may be that of a directory
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _problems(directory: Path) -> dict[str, str]:
    manifest = read_manifest(directory)
    return differences(directory, manifest) if manifest else {}


def _download(repository: Repository, options: LoadOptions, look: Look = None) -> tuple[Path, Repository]:
    fetch_from = _from_modelscope if repository.hub == "modelscope" else _from_hugging_face

    def stalled(reason: str) -> SourceError:
        return SourceError(
            f"{repository.id}: could not be fetched from {repository.hub}: {reason}; check the network, and run it "
            "again: finished downloads are kept"
        )

    try:
        with released():
            directory, revision = attended(lambda: fetch_from(repository, options, look), stalled)
    except SottovoceError:
        raise
    except ImportError as error:
        client = "modelscope" if repository.hub == "modelscope" else "huggingface-hub"
        raise SourceError(f"{repository.id}: {error.name} is not installed; pip install {client}") from None
    except Exception as error:
        # The clients raise many kinds of errors, some of which quote the whole response and our request.
        tokens = own_tokens(options.token)
        reason = (shown(error, tokens) or type(error).__name__).rstrip(".")
        raise SourceError(
            f"{repository.id}: could not be fetched from {repository.hub}: {reason}; "
            "check the name, the token and the network, or give a local directory"
        ) from fit_cause(error, tokens)
    return directory, type(repository)(id=repository.id, hub=repository.hub, revision=revision)


def offline() -> bool:
    """Return true if the user forbids the network (``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE``)."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"} for name in names)


def _look_first(snapshot: Callable[[list[str] | None], Path], look: Callable[[Path], None]) -> None:
    directory = snapshot(list(CONFIGURATIONS))
    if (name := configuration_name(directory)) and name not in CONFIGURATIONS:
        contained_path(directory, name)
        snapshot([name])
    look(directory)


def _from_hugging_face(repository: Repository, options: LoadOptions, look: Look = None) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    from sottovoce.network.huggingface import attend

    attend(options.token)
    revision = options.revision or repository.revision

    def snapshot(patterns: list[str] | None = None) -> Path:
        nonlocal revision
        directory = snapshot_download(
            repository.id,
            revision=revision,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=offline(),
            allow_patterns=patterns,
            ignore_patterns=[*IGNORED, *LEAVING],
            library_name="sottovoce",
        )
        # The cache names a snapshot's folder by its commit; the next download is pinned to it.
        revision = Path(directory).name
        return Path(directory)

    if not offline() and not COMMIT.fullmatch(revision or ""):
        _check_hugging_face(repository.id, revision, options.token)
    if look is not None and not offline():
        _look_first(snapshot, look)
    directory = snapshot()
    return directory, directory.name


def _check_hugging_face(name: str, revision: str | None, token: str | None) -> None:
    from huggingface_hub import HfApi

    try:
        names = [entry.path for entry in HfApi(token=token).list_repo_tree(name, revision=revision, recursive=True)]
    except SottovoceError:
        raise
    except Exception:
        # The client meets the same error, and can fall back to its cache.
        return
    check_listing(names, name)


def _from_modelscope(repository: Repository, options: LoadOptions, look: Look = None) -> tuple[Path, str]:
    from modelscope_hub import HubApi
    from modelscope_hub.config import get_default_config

    from sottovoce.network.modelscope import attend

    revision = options.revision or repository.revision or "master"
    cache = Path(options.cache_dir or get_default_config().cache_dir)
    # Its cache names a snapshot by the requested revision, so the commit of a branch is stored next to the snapshots.
    pin = cache / "models" / repository.id.replace("/", "--") / "refs" / revision.replace("/", "--")
    commit, cached_only = revision, offline()
    hub = attend(HubApi(token=options.token))
    if not cached_only:
        try:
            hub = attend(HubApi(token=options.token, endpoint=hub.resolve_endpoint_for_read(repository.id)))
            commit = _modelscope_commit(hub, repository.id, revision)
        except ConnectionError:
            if not pin.is_file():
                raise
            cached_only = True
    if cached_only and pin.is_file():
        commit = _pinned(pin)

    def snapshot(patterns: list[str] | None = None) -> Path:
        return hub.download_repo(
            repository.id,
            "model",
            revision=commit,
            cache_dir=cache,
            local_files_only=cached_only,
            allow_patterns=patterns,
            # The client lists the files once more, and joins their names to paths.
            ignore_patterns=[*IGNORED, *LEAVING],
        )

    if look is not None and not cached_only:
        _look_first(snapshot, look)
    directory = snapshot()
    if not cached_only:
        pin.parent.mkdir(parents=True, exist_ok=True)
        pin.write_text(commit, encoding="ascii")
    return directory, commit


def _pinned(pin: Path) -> str:
    """Read the commit that was stored for a branch.

    Raises:
        SourceError: The file does not hold a commit's id, which becomes part of a path.
    """
    commit = pin.read_bytes()[:100].decode("ascii", "replace").strip()
    if not COMMIT.fullmatch(commit):
        raise SourceError(f"{pin}: does not hold a commit's id; remove it, and fetch the model again")
    return commit


def _modelscope_commit(hub: HubApi, name: str, revision: str) -> str:
    """Return the commit of a branch or a tag: the newest that changed one of its files, whose names are checked.

    ModelScope reports no other; the files at that commit are those of the branch, whatever is pushed meanwhile.
    """
    files = hub.legacy.list_repo_files(name, "model", revision=revision)
    if not files:
        # ModelScope answers this for a revision that does not exist.
        raise LookupError(f"it has no revision {revision!r}, or the revision is empty")
    check_listing((file.get("Path") or file.get("path") or file.get("Name") for file in files), name)
    if COMMIT.fullmatch(revision):
        return revision
    commits = [
        (int(file.get("CommittedDate") or 0), str(file["Revision"]))
        for file in files
        if COMMIT.fullmatch(str(file.get("Revision")))
    ]
    if not commits:
        raise LookupError(f"it does not say which commit {revision!r} is")
    return max(commits)[1]
