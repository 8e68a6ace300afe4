"""Publishing on ModelScope: the real client against a site on this machine."""

from __future__ import annotations

import hashlib
import os
import random
import re
import socket
import sys
import time
import traceback
from pathlib import Path

import pytest

from hub.loopback.client import python_from_scratch
from hub.loopback.hugging_face import Account
from hub.loopback.modelscope import Model, modelscope
from sottovoce.errors import PublishError
from sottovoce_hub import modelscope as module
from sottovoce_hub.destination import File
from sottovoce_hub.modelscope import ModelScope

TOKEN, OTHER, READER = "ms-11111111-aaaa", "ms-22222222-bbbb", "ms-33333333-cccc"
NAME = "ann/aligner-int8"
REQUESTS = (
    "GET /api/v1/models/ann/aligner-int8/revisions",
    "POST /api/v1/models",
    "GET /api/v1/models/ann/aligner-int8/revisions",
    "GET /api/v1/models/ann/aligner-int8/repo/files",
    "POST /api/v1/repos/models/ann/aligner-int8/info/lfs/objects/batch",
    "PUT /store/",
    "POST /api/v1/repos/models/ann/aligner-int8/info/lfs/objects/batch",
    "PUT /store/",
    "POST /api/v1/repos/models/ann/aligner-int8/commit/master",
    "GET /api/v1/models/ann/aligner-int8/repo/files",
)
"""What the first push of the model asks."""
CUTS = ("cut before", "cut during", "cut after", "cut answer")


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith(("MODELSCOPE_", "HF_HUB_", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    waits = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: waits.append(seconds) or sleep(min(seconds, 0.001)))
    return waits


@pytest.fixture
def hub():
    ann = Account(name="ann", organizations=("choir",))
    accounts = {TOKEN: ann, OTHER: Account(name="bob"), READER: Account(name="ann", read_only=True)}
    with modelscope(**accounts) as (server, site):
        yield server, site


@pytest.fixture
def directory(tmp_path):
    draw = random.Random(0)
    files = {
        "model.safetensors": draw.randbytes(200_000),
        "am.mvn": b"<Nnet>",
        "sub/tokens.txt": b"a b c\n" * 20_000,
        "config.json": b"{}",
        "empty.bin": b"",
    }
    for name, content in files.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "model"


def listed(directory: Path) -> list[File]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    files = [File.of(path.relative_to(directory).as_posix(), path) for path in paths]
    return [*files, File.of("README.md", b"---\nlicense: apache-2.0\n---\n# A model\n")]


def contents(files: list[File]) -> dict[str, bytes]:
    return {file.name: file.content if isinstance(file.content, bytes) else file.content.read_bytes() for file in files}


def push(to: ModelScope, files: list[File], private: bool | None = None):
    to.create(private)
    survey = to.survey(files)
    additions = [file for file in files if file.name not in survey.unchanged]
    deletions = sorted(survey.names - {file.name for file in files} - {".gitattributes", "configuration.json"})
    return to.commit(additions, deletions, "Upload int8") if additions or deletions else None


def held(model: Model, revision: str | None = None) -> dict[str, bytes]:
    return {name: content for name, content in model.files(revision).items() if name != "configuration.json"}


def pushes(model: Model) -> int:
    return sum(commit.title == "Upload int8" for commit in model.commits.values())


def refused(call, *arguments, **options) -> str:
    """What the call says no with: one line, of which no part is a token."""
    with pytest.raises(PublishError) as caught:
        call(*arguments, **options)
    shown = "".join(traceback.format_exception(caught.value)) + str(caught.value)
    assert not [token for token in (TOKEN, OTHER, READER) if token in shown]
    assert "\n" not in str(caught.value)
    assert NAME in str(caught.value) or "choir/" in str(caught.value) or "bob/" in str(caught.value)
    return str(caught.value)


def test_first_push(hub, directory, capfd):
    server, site = hub
    files = listed(directory)
    commit = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), files)
    model = site.models[NAME]
    assert held(model) == contents(files)
    assert pushes(model) == 1
    assert commit.revision == model.refs["master"]
    assert commit.url == f"{server.address}/models/{NAME}"
    assert commit.pull_request is None
    blobs = model.commits[commit.revision].files
    assert {name for name, blob in blobs.items() if blob.large} == {"model.safetensors", "sub/tokens.txt"}
    assert [str(record).partition("?")[0] for record in server.records] == [
        request + (site.uploads.pop(0) if request.endswith("/store/") else "") for request in REQUESTS
    ]
    assert listed(directory) == files
    assert capfd.readouterr().out == ""


def test_second_push_asks_only(hub, directory):
    server, site = hub
    push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    server.records.clear()
    assert push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory)) is None
    assert {record.method for record in server.records} == {"GET"}
    assert pushes(site.models[NAME]) == 1


def test_changed_file_goes_alone(hub, directory):
    server, site = hub
    first = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    before = contents(listed(directory))
    (directory / "model.safetensors").write_bytes(b"other weights")
    server.records.clear()
    second = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    assert len(server.recorded("PUT")) == 1
    assert sum(record.received for record in server.records) < 1000
    assert second.revision == site.models[NAME].refs["master"] != first.revision
    assert held(site.models[NAME]) == contents(listed(directory))
    assert held(site.models[NAME], first.revision) == before


def test_deleted_files_are_deleted(hub, directory):
    server, site = hub
    push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    (directory / "am.mvn").unlink()
    (directory / "sub" / "tokens.txt").unlink()
    commit = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    assert held(site.models[NAME]) == contents(listed(directory))
    assert commit.revision is None  # No file tells of a commit that only deletes.
    assert not server.recorded("PUT")[2:]


def test_same_content_twice_is_uploaded_once(hub, directory):
    server, site = hub
    (directory / "copy.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    assert len(site.uploads) == len(set(site.uploads)) == 2
    assert held(site.models[NAME]) == contents(listed(directory))


def test_content_in_memory_goes_to_the_store(hub):
    server, site = hub
    plot = File.of("plot.png", b"\x89PNG" * 50_000)
    push(ModelScope(NAME, token=TOKEN, endpoint=server.address), [plot])
    assert site.uploads == [plot.sha256]
    assert held(site.models[NAME])["plot.png"] == plot.content


@pytest.mark.parametrize("name", ["README.md", "config.json", "sub/Configuration.json"])
def test_what_modelscope_reads_itself_stays_in_the_commit(hub, name):
    server, site = hub
    text = File.of(name, b"long " * 20_000)
    commit = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), [text])
    assert site.models[NAME].commits[commit.revision].files[name].large is False
    assert not site.uploads


def test_revision_of_another_push_is_not_told(hub, directory):
    server, _ = hub
    file = {"Path": "README.md", "Type": "blob", "Sha256": "0" * 64, "Revision": "f" * 40}
    server.fail("refuse", "GET", "/repo/files", after=1, status=200, body={"Data": {"Files": [file]}})
    assert push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory)).revision is None


def test_many_files_are_committed_in_portions(hub, directory, monkeypatch):
    server, site = hub
    monkeypatch.setattr(module, "MOST", 2)
    commit = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    assert pushes(site.models[NAME]) == 3
    assert commit.revision == site.models[NAME].refs["master"]
    assert held(site.models[NAME]) == contents(listed(directory))


def test_branch(hub, directory):
    server, site = hub
    to = ModelScope(NAME, branch="int8/w8", token=TOKEN, endpoint=server.address)
    assert "has no branch int8/w8" in refused(push, to, listed(directory))
    assert not site.models
    site.models[NAME] = model = Model(name=NAME, license="Other")
    assert "has no branch int8/w8" in refused(push, to, listed(directory))
    assert to.survey(listed(directory)).names == frozenset()
    model.refs["int8/w8"] = trunk = model.refs["master"]
    commit = push(to, listed(directory))
    assert model.refs["master"] == trunk
    assert commit.revision == model.refs["int8/w8"]
    assert commit.url == to.url == f"{server.address}/models/{NAME}/files?version=int8%2Fw8"
    assert held(model, "int8/w8") == contents(listed(directory))
    assert to.read("config.json") == b"{}"


@pytest.mark.parametrize(("private", "expected"), [(True, True), (False, False), (None, False)])
def test_visibility(hub, private, expected):
    server, site = hub
    to = ModelScope("choir/omni", token=TOKEN, endpoint=server.address, license="mit")
    assert to.create(private) is True
    assert site.models["choir/omni"].private is expected
    assert site.models["choir/omni"].license == "MIT"  # as the client's own list spells it
    assert to.create(not expected) is False
    assert site.models["choir/omni"].private is expected


def test_no_license_is_made_up(hub):
    server, site = hub
    ModelScope(NAME, token=TOKEN, endpoint=server.address).create(None)
    assert site.models[NAME].license == "Other"


def test_survey(hub, directory):
    server, site = hub
    files = listed(directory)
    visitor = ModelScope(NAME, endpoint=server.address)
    assert visitor.survey(files).names == frozenset()
    push(ModelScope(NAME, token=TOKEN, endpoint=server.address), files, private=True)
    assert visitor.survey(files).names == frozenset()
    site.models[NAME].private = False
    server.records.clear()
    survey = visitor.survey([*files, File.of("am.mvn", b"other"), File.of("new", b"new")])
    assert survey.names == {file.name for file in files} | {".gitattributes", "configuration.json"}
    assert survey.unchanged == {file.name for file in files}
    assert len(server.recorded("GET", "repo/files")) == 1


def test_read(hub, directory):
    server, _ = hub
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert to.read("README.md") is None
    push(to, listed(directory))
    assert to.read("README.md") == listed(directory)[-1].content
    assert to.read("sub/tokens.txt") == b"a b c\n" * 20_000
    assert to.read("absent.md") is None


def test_token_of_the_environment(hub, directory, monkeypatch):
    server, site = hub
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.address)
    push(ModelScope(NAME), listed(directory))
    assert held(site.models[NAME]) == contents(listed(directory))


def test_token_of_a_login(hub, directory):
    from modelscope_hub import HubApi
    from modelscope_hub.config import HubConfig

    server, site = hub
    assert HubApi(HubConfig(endpoint=server.address)).login(TOKEN).username == "ann"
    push(ModelScope(NAME, endpoint=server.address), listed(directory))
    assert held(site.models[NAME]) == contents(listed(directory))


@pytest.mark.parametrize(
    ("name", "token", "expected"),
    [
        (NAME, None, "set MODELSCOPE_API_TOKEN or run `modelscope login`"),
        (NAME, "ms-unknown", "set MODELSCOPE_API_TOKEN or run `modelscope login`"),
        (NAME, READER, "use one with write permission"),
        ("bob/aligner", TOKEN, "use one with write permission"),
    ],
)
def test_tokens_that_may_not_write(hub, directory, name, token, expected):
    server, site = hub
    assert expected in refused(ModelScope(name, token=token, endpoint=server.address).create, None)
    site.models[name] = Model(name=name, license="Other")
    assert expected in refused(push, ModelScope(name, token=token, endpoint=server.address), listed(directory))
    assert not site.uploads
    assert not pushes(site.models[name])


def test_commit_that_is_not_allowed_looks_like_no_repository(hub):
    server, site = hub
    site.models[NAME] = Model(name=NAME, license="Other")
    small = [File.of("config.json", b"{}")]
    to = ModelScope(NAME, token=OTHER, endpoint=server.address)
    assert "or the token may not see or change it; check the name and the token" in refused(push, to, small)


def test_clash_with_what_may_not_be_seen(hub):
    server, site = hub
    site.models[NAME] = Model(name=NAME, license="Other")
    server.fail("refuse", "GET", "/revisions", status=404, times=2)
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert "the name is taken" in refused(to.create, True)
    server.fail("refuse", "GET", "/revisions", status=404)
    assert to.create(True) is False  # It was made meanwhile.
    assert site.models[NAME].private is False


@pytest.mark.parametrize("name", ["aligner", "", "a/b/c", "ann/al igner", "ann/..", "https://modelscope.cn/ann/a"])
def test_names_that_are_none(name):
    with pytest.raises(PublishError, match="is not a valid repository id; give owner/name"):
        ModelScope(name)


@pytest.mark.parametrize("branch", ["", "a b", "../x", "a..b", "-f", "a?b"])
def test_branches_that_are_none(branch):
    assert "is not a valid branch" in refused(ModelScope, NAME, branch=branch)


def test_what_the_client_has_not(hub, directory):
    server, _ = hub
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert to.collect("Aligners", [NAME]) is None
    assert to.is_benchmark("aishell") is False
    assert "no pull requests" in refused(to.commit, listed(directory), [], "Upload int8", create_pr=True)
    assert not server.records


def test_pages():
    assert ModelScope(NAME).url == f"https://modelscope.cn/models/{NAME}"
    assert ModelScope(NAME, endpoint="modelscope.ai/").url == f"https://modelscope.ai/models/{NAME}"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "does not accept it (said so); check"),
        (401, "set MODELSCOPE_API_TOKEN or run `modelscope login`"),
        (403, "the token may not do this (said so)"),
        (404, "no such repository or branch"),
        (409, "in conflict with what is there (said so); push again"),
        (422, "does not accept it (said so); check"),
        (429, "fewer requests; wait a while and push again"),
        (500, "ModelScope failed (HTTP 500); push again, what was uploaded is not uploaded again"),
        (503, "ModelScope failed (HTTP 503)"),
    ],
)
@pytest.mark.parametrize("path", ["/revisions", "/batch", "/store/", "/commit/"])
def test_refusals(hub, directory, status, expected, path):
    server, site = hub
    site.models[NAME] = Model(name=NAME, license="Other")
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    server.fail("refuse", path=path, status=status, body={"Message": "said so"}, times=1000)
    if (status, path) != (404, "/revisions"):
        assert expected in refused(push, to, listed(directory))
    assert not pushes(site.models[NAME])
    assert len(server.recorded(path=path)) <= 6
    server.faults.clear()
    push(to, listed(directory))
    assert held(site.models[NAME]) == contents(listed(directory))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_passes_is_waited_for(hub, directory, status, environment):
    server, site = hub
    for path in ("/revisions", "/models$", "/batch", "/store/", "/commit/", "/repo/files"):
        server.fail("refuse", path=path, status=status, headers={"Retry-After": "7"} if status == 429 else {})
    commit = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    assert all(fault.happened for fault in server.faults)
    assert commit.revision == site.models[NAME].refs["master"]
    assert pushes(site.models[NAME]) == 1
    assert (environment.count(7) >= 5) is (status == 429)


def test_a_long_wait_is_not_waited_for(hub, directory, environment):
    server, _ = hub
    server.fail("refuse", "POST", "/commit/", status=429, headers={"Retry-After": "3600"}, times=1000)
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert "wait 3600 s and push again" in refused(push, to, listed(directory))
    assert len(server.recorded("POST", "/commit/")) == 1
    assert not environment


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_one_cut_is_mended(hub, directory, number, how):
    server, site = hub
    fault = server.fail(how, after=number)
    commit = push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    assert fault.happened == 1
    check_end(site, directory)
    assert commit.revision == site.models[NAME].refs["master"]


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_push_after_a_push_that_was_cut(hub, directory, number, how):
    server, site = hub
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    server.fail(how, after=number, times=1000)
    if number < len(REQUESTS) - 1:
        assert "cannot be reached; check the network and push again" in refused(push, to, listed(directory))
    else:
        assert push(to, listed(directory)).revision is None  # Only the question for its id was left.
    server.faults.clear()
    push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    check_end(site, directory)


def check_end(site, directory) -> None:
    """The model is there, in one commit, and no file came twice."""
    assert held(site.models[NAME]) == contents(listed(directory))
    assert pushes(site.models[NAME]) == 1
    assert len(site.uploads) == len(set(site.uploads)) == 2


def test_wrong_digest_is_refused(hub):
    server, site = hub
    wrong = File(name="model.safetensors", content=b"weights", size=7, sha256=hashlib.sha256(b"others!").hexdigest())
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert "the content is not what its digest says" in refused(push, to, [wrong])
    assert not pushes(site.models[NAME])
    assert len(server.recorded("PUT")) == 1


@pytest.mark.parametrize("name", ["model.safetensors", "am.mvn"])
def test_file_that_changes_is_not_published(hub, directory, name):
    server, site = hub
    site.strict = False
    files = listed(directory)
    path = directory / name
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(PublishError, match=f"^{name}: has changed since the push began; push again when"):
        push(ModelScope(NAME, token=TOKEN, endpoint=server.address), files)
    assert not pushes(site.models[NAME])


def test_file_that_is_gone(hub, directory):
    server, site = hub
    files = listed(directory)
    (directory / "model.safetensors").unlink()
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert re.search("a file is gone .*model.safetensors", refused(push, to, files))
    assert not pushes(site.models[NAME])
    assert len(server.recorded("POST", "/batch")) == 1


def test_no_network(directory):
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        to = ModelScope(NAME, token=TOKEN, endpoint=f"http://127.0.0.1:{port.getsockname()[1]}")
        assert "cannot be reached; check the network" in refused(push, to, listed(directory))


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_forbidden_network(hub, directory, monkeypatch, name):
    server, _ = hub
    monkeypatch.setenv(name, "1")
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert "forbids the network" in refused(push, to, listed(directory))
    assert not server.records


def test_client_that_is_not_installed(directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "modelscope_hub.config", None)
    to = ModelScope(NAME, token=TOKEN)
    assert "modelscope is not installed; pip install modelscope" in refused(to.survey, listed(directory))


def test_answer_that_quotes_the_token(hub, directory):
    server, _ = hub
    server.fail("refuse", "POST", "/commit/", status=400, body={"Message": f"bad token {TOKEN}"})
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert "(bad token ***)" in refused(push, to, listed(directory))


def test_answer_that_is_none_of_modelscope(hub, directory):
    server, _ = hub
    server.fail("refuse", "GET", "/revisions", status=200, body=b"<html>welcome to the hotel</html>", times=1000)
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    assert "what answers is not ModelScope" in refused(to.create, None)


def download(server, where: Path, revision: str | None = None, token: str = TOKEN) -> dict[str, bytes]:
    from modelscope import snapshot_download

    path = Path(snapshot_download(NAME, revision=revision, cache_dir=where, endpoint=server.address, token=token))
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return {name: content for name, content in files.items() if name not in (".gitattributes", "configuration.json")}


def test_download_of_what_was_pushed(hub, directory, tmp_path):
    server, site = hub
    to = ModelScope(NAME, token=TOKEN, endpoint=server.address)
    first = push(to, listed(directory), private=True)
    old = contents(listed(directory))
    site.models[NAME].refs["old"] = first.revision
    (directory / "model.safetensors").write_bytes(b"other weights")
    (directory / "am.mvn").unlink()
    second = push(to, listed(directory))
    assert download(server, tmp_path / "a") == contents(listed(directory))
    assert download(server, tmp_path / "b", second.revision) == contents(listed(directory))
    assert download(server, tmp_path / "c", first.revision) == old
    assert download(server, tmp_path / "d", "old") == old


def test_download_that_is_cut_goes_on(hub, directory, tmp_path):
    server, _ = hub
    push(ModelScope(NAME, token=TOKEN, endpoint=server.address), listed(directory))
    server.fail("cut answer", "GET", f"/store/{File.of('', directory / 'model.safetensors').sha256}")
    assert download(server, tmp_path / "a") == contents(listed(directory))
    assert [record.status for record in server.recorded("GET", "/store/") if record.status == 206]


def test_push_and_load_in_a_clean_process(hub, directory, tmp_path):
    """By the names and the token of the environment, nothing on stdout; the pin is the commit that was pushed."""
    server, site = hub
    code = f"""
import sys
from pathlib import Path
from sottovoce.checkpoint.download import fetch
from sottovoce.source import LoadOptions, Repository
from sottovoce_hub.destination import File
from sottovoce_hub.modelscope import ModelScope
to = ModelScope({NAME!r})
files = [File.of(name, Path({str(directory)!r}) / name) for name in ("model.safetensors", "config.json")]
to.create(True)
commit = to.commit(files, [], "Upload int8")
assert "torch" not in sys.modules
path, repository = fetch(Repository(id={NAME!r}, hub="modelscope"), LoadOptions())
assert (path / "model.safetensors").read_bytes() == files[0].content.read_bytes()
print(commit.revision == repository.revision)
"""
    done = python_from_scratch(code, server, tmp_path / "home", MODELSCOPE_API_TOKEN=TOKEN)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert TOKEN not in done.stderr
    assert site.models[NAME].private
