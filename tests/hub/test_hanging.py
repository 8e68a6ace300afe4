"""Hubs that say nothing, or next to nothing: a call ends, says so, and goes on when it is made again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.published import make_small
from hub.running import HUBS, Hub, run
from sottovoce.errors import PublishError, SourceError, UsageError
from sottovoce.network.attended import VARIABLE, is_anything_left

# The client hands large files to its HTTP library in a way that the library gives up.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

LISTING = {"hf": "/api/models/", "modelscope": "/repo/files"}
LOOK = {"hf": "/api/models/", "modelscope": "/revisions"}
WEIGHTS = r"model\.safetensors"
LONG = 30
"""Seconds that no call here takes, on however slow a machine."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("compressed") / "small")


@pytest.fixture(params=HUBS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def hub(kind: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with run(kind, tmp_path, small) as running:
        monkeypatch.setenv(VARIABLE, "0.3")
        yield running


@pytest.fixture
def empty(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with run(kind, tmp_path) as running:
        monkeypatch.setenv(VARIABLE, "0.3")
        yield running


@pytest.mark.parametrize("how", ["silent", "stall", "drip", "drip head"])
@pytest.mark.parametrize("where", ["listing", "weights"])
def test_a_pull_from_a_hub_that_hangs_ends_and_goes_on_later(
    hub: Hub, how: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.server.fail(how, "GET", WEIGHTS if where == "weights" else LISTING[hub.kind], times=1000)
    start = time.monotonic()
    with pytest.raises(SourceError, match=rf"could not be fetched from {hub.kind}: it sent almost nothing for 0.3 s"):
        hub.pull()
    assert time.monotonic() - start < LONG
    assert not is_anything_left(LONG)
    assert not (hub.home / "pulled").exists()
    hub.server.faults.clear()
    monkeypatch.setenv(VARIABLE, str(LONG))
    assert hub.pull().verified


@pytest.mark.parametrize("how", ["silent", "drip head"])
@pytest.mark.parametrize("where", ["look", "/store/", "/commit/"])
def test_a_push_to_a_hub_that_hangs_ends_and_goes_on_later(
    empty: Hub, small: Path, how: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty.server.fail(how, "", LOOK[empty.kind] if where == "look" else where, times=1000)
    start = time.monotonic()
    with pytest.raises(PublishError, match=r"alice/toy: could not be published on .*: it sent almost nothing for 0.3"):
        empty.push(small)
    assert time.monotonic() - start < LONG
    assert not is_anything_left(LONG)
    empty.server.faults.clear()
    monkeypatch.setenv(VARIABLE, str(LONG))
    empty.push(small)
    assert {path.name for path in small.iterdir()} <= set(empty.repository.files())


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_a_time_limit_that_is_none_is_wrong_use(hub: Hub, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=rf"SOTTOVOCE_HUB_TIMEOUT: '{text}' is not a number of seconds; give one"):
        hub.pull()
    assert not hub.server.records


@pytest.mark.slow
def test_a_pause_of_days_is_not_made(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    hub.server.fail("refuse", "GET", LISTING[hub.kind], status=429, headers={"Retry-After": "86400"}, times=1)
    start = time.monotonic()
    assert hub.pull().verified
    assert time.monotonic() - start < LONG
