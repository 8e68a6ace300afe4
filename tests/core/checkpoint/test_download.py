"""Both hubs' own clients against a hub on this machine: what is fetched is pinned, and works again offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.hubs import COMMIT, EVIL, Hub, python, serve
from core.toy import make_model

HUBS = ("hf", "modelscope")

QUICK = """
import time, types
import huggingface_hub.utils._http as http
# The client waits up to eight seconds before it asks a server that is gone once more.
http.time = types.SimpleNamespace(**{{**vars(time), "sleep": lambda seconds: None}})
"""

FETCH = (
    QUICK
    + """
import sys
from sottovoce import LoadOptions, Repository
from sottovoce.checkpoint.download import fetch
from sottovoce.errors import SourceError
for name, options in {wanted}:
    try:
        directory, repository = fetch(Repository(id=name, hub="{hub}"), LoadOptions(**options))
        print("FOUND", repository.revision, directory)
    except SourceError as error:
        print("ERROR", error)
"""
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_model(tmp_path_factory.mktemp("hub") / "toy")
    (directory / "modeling.py").write_text("raise SystemExit('a file of the repository was run')")
    (directory / "sub").mkdir()
    (directory / "sub" / "more.py").write_text("")
    (directory / "sub" / "notes.txt").write_text("notes")
    return directory


@pytest.fixture
def hub(model: Path) -> Iterator[Hub]:
    with serve() as running:
        running.repositories["owner/toy"] = model
        yield running


def fetch(
    hub: Hub, home: Path, kind: str, *wanted: tuple[str, dict[str, str]], **environment: str
) -> list[tuple[str, str]]:
    """What each of some fetches gives: ``FOUND`` with the revision and the directory, or ``ERROR`` with the message."""
    wanted = wanted or (("owner/toy", {}),)
    done = python(FETCH.format(wanted=wanted, hub=kind), hub, home, **environment)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert len(lines) == len(wanted)
    return [(line[:5], line[6:]) for line in lines]


@pytest.mark.parametrize("kind", HUBS)
def test_model_from_a_hub_is_pinned_to_its_commit(kind: str, hub: Hub, tmp_path: Path) -> None:
    code = f"""
import sottovoce
from core.toy import make_host
host = make_host()
model = sottovoce.load("owner/toy", hub="{kind}", cache_dir={str(tmp_path / "cache")!r}, host=host)
sottovoce.compress(model, "int8", host=host)
sottovoce.save(model, {str(tmp_path / "small")!r}, host=host)
"""
    done = python(code, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    source = json.loads((tmp_path / "small" / "compression.json").read_text())["source"]
    assert {key: source[key] for key in ("name", "hub", "revision")} == {
        "name": "owner/toy",
        "hub": kind,
        "revision": COMMIT,
    }
    found = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert {"config.yaml", "model.safetensors", "notes.txt"} <= found
    assert not [request for request in hub.requests if "modeling" in request or "more.py" in request]
    assert not [name for name in found if name.endswith(".py")]
    files = [request for request in hub.requests if "config.yaml" in request]
    assert files
    assert all(COMMIT in request for request in files)


@pytest.mark.parametrize("kind", HUBS)
def test_cached_model_loads_without_the_hub(kind: str, model: Path, tmp_path: Path) -> None:
    with serve() as hub:
        hub.repositories["owner/toy"] = model
        first = fetch(hub, tmp_path, kind)
    assert first[0][1].startswith(f"{COMMIT} ")
    seen = len(hub.requests)
    assert fetch(hub, tmp_path, kind, HF_HUB_OFFLINE="1") == first
    assert fetch(hub, tmp_path, kind) == first
    assert len(hub.requests) == seen


@pytest.mark.parametrize("kind", HUBS)
def test_offline_makes_no_request(kind: str, hub: Hub, tmp_path: Path) -> None:
    [(outcome, problem)] = fetch(hub, tmp_path, kind, HF_HUB_OFFLINE="1")
    assert outcome == "ERROR"
    assert problem.startswith(f"owner/toy: could not be fetched from {kind}: ")
    assert problem.endswith("check the name, the token and the network, or give a local directory")
    assert not hub.requests


@pytest.mark.parametrize("kind", HUBS)
def test_revision_and_token_reach_the_hub(kind: str, hub: Hub, model: Path, tmp_path: Path) -> None:
    hub.repositories |= {name: model for name in ("owner/private", "owner/broken")}
    hub.tokens["owner/private"] = "secret"
    hub.broken.add("owner/broken")
    wanted: list[tuple[str, dict[str, str], str]] = [
        ("owner/toy", {"revision": "v1"}, COMMIT),
        ("owner/toy", {"revision": COMMIT}, COMMIT),
        ("owner/private", {}, "401"),
        ("owner/private", {"token": "secret"}, COMMIT),
        ("owner/toy", {"revision": "v2"}, "404"),
        ("owner/none", {}, "404"),
        ("owner/broken", {}, "500"),
        ("no owner", {}, "no owner"),
    ]
    found = fetch(hub, tmp_path, kind, *((name, options) for name, options, _ in wanted))
    for (name, _, expected), (outcome, text) in zip(wanted, found, strict=True):
        assert outcome == ("FOUND" if expected == COMMIT else "ERROR")
        assert expected in text
        assert outcome == "FOUND" or text.startswith(f"{name}: could not be fetched from {kind}: ")


@pytest.mark.parametrize("kind", HUBS)
def test_unreachable_hub_is_reported(kind: str, tmp_path: Path) -> None:
    with serve() as hub:
        pass
    [(outcome, problem)] = fetch(hub, tmp_path, kind)
    assert outcome == "ERROR"
    assert "refused" in problem or "Connection failed" in problem


def test_missing_client_is_named(hub: Hub, tmp_path: Path) -> None:
    code = "import sys; sys.modules['modelscope_hub'] = None\n"
    done = python(code + FETCH.format(wanted=[("owner/toy", {})], hub="modelscope"), hub, tmp_path)
    assert "owner/toy: modelscope_hub is not installed; pip install modelscope" in done.stdout


LOAD = (
    QUICK
    + """
import sottovoce
from core.toy import make_host
try:
    sottovoce.load("owner/other", hub="{hub}", host=make_host())
except sottovoce.SottovoceError as error:
    print(type(error).__name__, error)
"""
)


@pytest.mark.parametrize(
    ("kind", "place"), [("hf", "config.yaml"), ("hf", "settings/asr.yaml"), ("modelscope", "settings/asr.yaml")]
)
def test_unknown_class_is_reported_before_the_weights_are_fetched(
    kind: str, place: str, hub: Hub, tmp_path: Path
) -> None:
    directory = tmp_path / "other"
    (directory / place).parent.mkdir(parents=True)
    text = "model: SenseVoiceSmall\ntrust_remote_code: true\ndataset_conf: {sos: '${model_conf.sos}'}\n"
    (directory / place).write_text(text)
    description = {"file_path_metas": {"config": place, "init_param": "model.pt"}}
    (directory / "configuration.json").write_text(json.dumps(description))
    (directory / "model.pt").write_bytes(b"0" * 1000)
    hub.repositories["owner/other"] = directory
    done = python(LOAD.format(hub=kind), hub, tmp_path / "home")
    assert done.stdout.startswith("UnknownModelError no installed plugin describes the model class 'SenseVoiceSmall'")
    assert not [request for request in hub.requests if "model.pt" in request]


def test_repository_without_a_model_is_reported_before_it_is_fetched(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.pt").write_bytes(b"0" * 1000)
    (tmp_path / "other" / "configuration.json").write_text("{}")
    hub.repositories["owner/other"] = tmp_path / "other"
    done = python(LOAD.format(hub="hf"), hub, tmp_path / "home")
    assert "no config.json or config.yaml names a model class" in done.stdout
    assert not [request for request in hub.requests if "model.pt" in request]


@pytest.mark.parametrize("kind", HUBS)
def test_model_revision_is_an_alias_of_revision(kind: str, hub: Hub, tmp_path: Path) -> None:
    code = f"""
import sottovoce
from core.toy import make_host
try:
    sottovoce.load("owner/toy", hub="{kind}", host=make_host(), model_revision="v7")
except sottovoce.SottovoceError as error:
    print(error)
"""
    done = python(code, hub, tmp_path / "home")
    assert "owner/toy: could not be fetched" in done.stdout
    assert "404" in done.stdout


def names_elsewhere(folder: Path) -> list[str]:
    return [
        str(folder / "absolute.txt"),
        "a/../../../../climbed.txt",
        "../climbed.txt",
        "..",
        "C:/climbed.txt",
        "~/climbed.txt",
        "a\\..\\..\\climbed.txt",
        "",
        "line\nend.txt",
        "\x1b[2Jclear.txt",
        "\u202etxt.reverse",
    ]


@pytest.mark.parametrize("kind", HUBS)
def test_listing_with_leaving_names_is_refused(kind: str, hub: Hub, model: Path, tmp_path: Path) -> None:
    wanted = []
    for number, name in enumerate(names_elsewhere(tmp_path)):
        if name or kind == "hf":  # ModelScope's client takes another key for the name then
            hub.repositories[f"owner/evil{number}"] = model
            hub.listed[f"owner/evil{number}"] = [name]
            wanted.append((f"owner/evil{number}", {}))
    for found, message in fetch(hub, tmp_path / "home", kind, *wanted):
        assert found == "ERROR", message
        assert "nothing was fetched: the hub lists" in message
        assert message.isprintable()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == EVIL]


@pytest.mark.parametrize("kind", HUBS)
def test_leaving_names_in_a_second_listing_write_nothing(kind: str, hub: Hub, tmp_path: Path) -> None:
    hub.hides_first = True
    hub.listed["owner/toy"] = [name for name in names_elsewhere(tmp_path)[:6] if name != ".."]
    [(found, message)] = fetch(hub, tmp_path / "home", kind)
    assert found == "FOUND", message
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == EVIL]
