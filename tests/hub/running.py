"""Either hub on the loopback interface, with a compressed toy on it, for clients of this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from modelscope_hub.config import set_default_config

import sottovoce_hub
from hub.loopback.client import hasty
from hub.loopback.git import Blob, Repository
from hub.loopback.hugging_face import Account, hugging_face
from hub.loopback.modelscope import Model, modelscope
from hub.loopback.server import Loopback

HUBS = ("hf", "modelscope")
NAME = "alice/toy"
TOKENS = {"hf": "hf_alice0secret", "modelscope": "ms-11111111-aaaa"}


@dataclass(kw_only=True)
class Hub:
    """A running hub; whoever speaks to it does so from this process."""

    kind: str
    server: Loopback
    repository: Repository
    home: Path

    @property
    def token(self) -> str:
        return TOKENS[self.kind]

    def pull(self, **options: Any) -> sottovoce_hub.PullReport:
        given = {"hub": self.kind, "token": self.token, "cache_dir": self.home / "cache", **options}
        return sottovoce_hub.pull(NAME, self.home / "pulled", **given)

    def push(self, directory: Path, **options: Any) -> sottovoce_hub.PushReport:
        return sottovoce_hub.push(directory, NAME, **{"hub": self.kind, "token": self.token, **options})

    def add(self, files: dict[str, bytes], *deletions: str) -> None:
        """Commit to the repository."""
        blobs = {name: Blob(content) for name, content in files.items()}
        self.repository.commit(self.repository.trunk, blobs, deletions, "Change")


@contextlib.contextmanager
def run(kind: str, home: Path, model: Path | None = None) -> Iterator[Hub]:
    """A hub that has the files of ``model``, and an account that may write there."""
    serve: Any = hugging_face if kind == "hf" else modelscope
    with contextlib.ExitStack() as stack:
        server, site = stack.enter_context(serve(**{TOKENS[kind]: Account(name="alice")}))
        if kind == "hf":
            site.repositories[NAME] = repository = Repository(name=NAME)
        else:
            site.models[NAME] = repository = Model(name=NAME, license="apache-2.0")
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name in [name for name in os.environ if name.startswith(("MODELSCOPE_", "HF_", "TRANSFORMERS_"))]:
            patch.delenv(name)
        for name, value in {
            "MODELSCOPE_ENDPOINT": server.address,
            "MODELSCOPE_HOME": str(home / "modelscope"),
            "MODELSCOPE_CACHE": str(home / "modelscope"),
        }.items():
            patch.setenv(name, value)
        # The client keeps what it was told first.
        set_default_config(None)
        stack.callback(set_default_config, None)
        stack.enter_context(hasty(home, server.address))
        hub = Hub(kind=kind, server=server, repository=repository, home=home)
        if model is not None:
            hub.add({path.name: path.read_bytes() for path in model.iterdir() if path.is_file()})
        yield hub
