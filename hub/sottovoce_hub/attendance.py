"""Destination whose calls end when the hub stops answering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from sottovoce.errors import PublishError
from sottovoce.network.attended import attended
from sottovoce_hub.destination import Commit, Destination, File, Survey

_Result = TypeVar("_Result")


class Attended:
    """A :class:`~sottovoce_hub.destination.Destination` whose calls end when nothing moves, and when interrupted."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.repository = destination.repository
        self.branch = destination.branch

    @property
    def hub(self) -> str:
        """``hf`` or ``modelscope``."""
        return self._destination.hub

    @property
    def url(self) -> str:
        """Page of the branch."""
        return self._destination.url

    def survey(self, files: Sequence[File]) -> Survey:
        """Look at the branch without changing anything."""
        return self._attended(partial(self._destination.survey, files))

    def read(self, name: str) -> bytes | None:
        """Return the content of a small text file of the branch."""
        return self._attended(partial(self._destination.read, name))

    def create(self, private: bool | None) -> bool:
        """Make the repository and the branch where they are missing."""
        return self._attended(partial(self._destination.create, private))

    def commit(
        self, additions: Sequence[File], deletions: Sequence[str], message: str, *, create_pr: bool = False
    ) -> Commit:
        """Upload and commit."""
        call = partial(self._destination.commit, additions, deletions, message, create_pr=create_pr)
        return self._attended(call)

    def collect(self, title: str, repositories: Sequence[str]) -> str | None:
        """Put repositories in a collection."""
        return self._attended(partial(self._destination.collect, title, repositories))

    def is_benchmark(self, dataset: str) -> bool:
        """Return true if the hub keeps a leaderboard for a data set."""
        return self._attended(partial(self._destination.is_benchmark, dataset))

    def _attended(self, call: Callable[[], _Result]) -> _Result:
        return attended(call, self._problem)

    def _problem(self, reason: str) -> PublishError:
        name = "the Hugging Face Hub" if self._destination.hub == "hf" else "ModelScope"
        return PublishError(
            f"{self.repository}: could not be published on {name}: {reason}; check the network, and run it again: what "
            "was uploaded is not uploaded twice"
        )
