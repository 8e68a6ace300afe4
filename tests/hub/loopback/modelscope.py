"""ModelScope, as much of its protocol as publishing and fetching models take."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NoReturn

from hub.loopback.git import Blob, Commit, Repository
from hub.loopback.hugging_face import Account
from hub.loopback.refusal import Refused
from hub.loopback.server import Answer, Loopback, Request, ranged, serve

EPOCH = 1_700_000_000
"""When a repository's first commit was made; each later one follows after a second."""
MOST_ACTIONS = 2000
PRIVATE, PUBLIC = 1, 5


@dataclass(kw_only=True)
class Model(Repository):
    """A model's repository; ModelScope writes a first card and configuration of its own."""

    trunk: str = "master"
    license: str

    def __post_init__(self) -> None:
        super().__post_init__()
        texts = {"README.md": f"---\nlicense: {self.license}\n---\n", "configuration.json": '{"framework":"Pytorch"}'}
        self.commit(self.trunk, {name: Blob(text.encode()) for name, text in texts.items()}, (), "System init")


@dataclass(kw_only=True)
class ModelScope:
    """What the site knows."""

    accounts: dict[str, Account] = field(default_factory=dict)
    """By token."""
    models: dict[str, Model] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Large contents by sha256, of all repositories, committed or not."""
    uploads: list[str] = field(default_factory=list)
    """The digests of the objects that the store took, one after another."""
    strict: bool = True
    """Whether the store compares what it gets with its digest."""

    def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        try:
            return self.route(request)
        except Refused as refusal:
            return refusal.answer

    def route(self, request: Request) -> Answer:
        match (request.method, *request.path.strip("/").split("/")):
            case (_, "openapi", "v1", *rest):
                return self.open_api(request, rest)
            case ("POST", "api", "v1", "login"):
                return self.login(request)
            case ("POST", "api", "v1", "models"):
                return self.create(request)
            case ("GET", "api", "v1", "repos", "internalAccelerationInfo"):
                return said({})
            case ("POST", "api", "v1", "repos", "models", owner, name, "info", "lfs", "objects", "batch"):
                return self.batch(request, self.model(request, owner, name))
            case ("POST", "api", "v1", "repos", "models", owner, name, "commit", *branch):
                return self.commit(request, self.model(request, owner, name), "/".join(branch))
            case (_, "api", "v1", "models", owner, name, *rest):
                return self.answer(request, self.model(request, owner, name), rest)
            case (_, "store", digest):
                return self.store(request, digest)
        refuse(404, 404, "no such page")

    def answer(self, request: Request, model: Model, parts: list[str]) -> Answer:
        match (request.method, *parts):
            case ("GET",):
                return said(page(model))
            case ("GET", "revisions"):
                return said(revisions(model))
            case ("GET", "repo", "files"):
                return said(listing(request, model))
            case ("GET", "repo"):
                return self.file(request, model)
            case ("POST", "repo", "tag"):
                return self.tag(request, model)
        refuse(404, 404, "no such page")

    def open_api(self, request: Request, parts: list[str]) -> Answer:
        match (request.method, *parts):
            case ("GET", "users", "me"):
                return Answer(body={"success": True, "data": {"name": self.account(request).name, "id": 1}})
            case ("GET", "models", owner, name):
                model = self.model(request, owner, name)
                return Answer(body={"success": True, "data": {"id": model.name, "private": model.private}})
        refuse(404, "ResourceNotFound", "no such page")

    def visitor(self, request: Request) -> Account | None:
        """Whom the request's token speaks for, ``None`` without one."""
        if request.token is None:
            return None
        if request.token not in self.accounts:
            refuse(401, 10010205003, "user not logged in")
        return self.accounts[request.token]

    def account(self, request: Request) -> Account:
        if (account := self.visitor(request)) is None:
            refuse(401, 10010205003, "user not logged in")
        return account

    def model(self, request: Request, owner: str, name: str) -> Model:
        """A repository that the visitor may see."""
        account = self.visitor(request)
        model = self.models.get(f"{owner}/{name}")
        if model is None or (model.private and not (account and account.owns(owner))):
            refuse(404, 10010205001, "record not found")
        return model

    def check_writer(self, request: Request, owner: str) -> None:
        account = self.account(request)
        if account.read_only or not account.owns(owner):
            refuse(403, 10010205002, "no permission")

    def login(self, request: Request) -> Answer:
        token = request.json()["AccessToken"]
        if token not in self.accounts:
            refuse(400, 10010103009, "AccessToken is invalid or expired")
        form = {"AccessToken": "git-token", "Username": self.accounts[token].name, "Email": ""}
        cookie = {"Set-Cookie": f"m_session_id={token}; Path=/; Max-Age=86400"}
        return Answer(body=said(form).body, headers=cookie)

    def create(self, request: Request) -> Answer:
        form = request.json()
        self.check_writer(request, form["Path"])
        name = f"{form['Path']}/{form['Name']}"
        if name in self.models:
            refuse(400, 10010101001, "该名称已被注册使用，请重新命名")
        self.models[name] = Model(name=name, private=form["Visibility"] == PRIVATE, license=form["License"])
        return said(page(self.models[name]))

    def tag(self, request: Request, model: Model) -> Answer:
        self.check_writer(request, model.name.partition("/")[0])
        form = request.json()
        if (commit := model.find(form["Ref"])) is None:
            refuse(404, 10010201001, "no such revision")
        model.refs[f"refs/tags/{form['TagName']}"] = commit.id
        return said({})

    def file(self, request: Request, model: Model) -> Answer:
        commit = model.find(request.query["Revision"])
        blob = commit and commit.files.get(request.query["FilePath"])
        if blob is None:
            refuse(404, 10010205001, "file not found")
        if blob.large:
            return Answer(status=302, headers={"Location": f"{request.address}/store/{blob.sha256}"})
        return ranged(request, blob.content)

    def batch(self, request: Request, model: Model) -> Answer:
        """Where to bring the objects that are not in the store; of the others nothing is said."""
        self.check_writer(request, model.name.partition("/")[0])
        missing = [wanted for wanted in request.json()["objects"] if wanted["oid"] not in self.objects]
        return said(
            {
                "objects": [
                    {**wanted, "actions": {"upload": {"href": f"{request.address}/store/{wanted['oid']}"}}}
                    for wanted in missing
                ]
            }
        )

    def store(self, request: Request, digest: str) -> Answer:
        if request.method == "GET":
            return ranged(request, self.objects[digest])
        if self.strict and hashlib.sha256(request.body).hexdigest() != digest:
            refuse(400, 10010300001, "the content is not what its digest says")
        self.objects[digest] = request.body
        self.uploads.append(digest)
        return said({})

    def commit(self, request: Request, model: Model, branch: str) -> Answer:
        owner = model.name.partition("/")[0]
        if not self.account(request).owns(owner):
            refuse(404, 10010205001, "record not found")
        self.check_writer(request, owner)
        form = request.json()
        if branch not in model.refs:
            refuse(400, 10030000002, "You can only create or edit files when you are on a branch")
        if len(form["actions"]) > MOST_ACTIONS:
            refuse(422, 422, f"commit request exceeds actions limit: {len(form['actions'])} > {MOST_ACTIONS}")
        there = model.commits[model.refs[branch]].files
        additions, deletions = {}, []
        for action in form["actions"]:
            name = action["path"]
            if action["action"] == "delete":
                deletions.append(name)
            else:
                additions[name] = self.content(action)
        if not set(deletions) <= set(there):
            refuse(400, 10010300002, "a file to delete is not there")
        model.commit(branch, additions, deletions, form["commit_message"])
        return said({})

    def content(self, action: dict[str, Any]) -> Blob:
        path = PurePosixPath(action["path"])
        if path.is_absolute() or {"..", "."} & set(path.parts) or action["action"] not in ("create", "update"):
            refuse(400, 10010300003, f"invalid commit action: {action['path']}")
        if action["type"] == "lfs":
            content = self.objects.get(action["sha256"])
            blob = Blob(content or b"", large=True)
            if content is None:
                refuse(400, 10010300004, f"lfs object {action['sha256']} is not there")
        else:
            blob = Blob(base64.b64decode(action["content"], validate=True))
        if blob.size != action["size"]:
            refuse(400, 10010300005, f"{path} has not the size that is said")
        return blob


def said(data: Any) -> Answer:
    """A good answer, as ModelScope forms it."""
    return Answer(body={"Code": 200, "Success": True, "Message": "success", "Data": data})


def refuse(status: int, code: int | str, message: str) -> NoReturn:
    """Answer with an error, as ModelScope forms it."""
    raise Refused(Answer(status=status, body={"Code": code, "Success": False, "Message": message, "RequestId": "r1"}))


def page(model: Model) -> dict[str, Any]:
    owner, _, name = model.name.partition("/")
    return {
        "Path": owner,
        "Name": name,
        "License": model.license,
        "Visibility": PRIVATE if model.private else PUBLIC,
    }


def revisions(model: Model) -> dict[str, Any]:
    """Branches and tags."""
    tags = [{"Revision": name[10:], "CreatedAt": EPOCH} for name in model.refs if name.startswith("refs/tags/")]
    branches = [{"Revision": name, "CreatedAt": EPOCH} for name in model.refs if not name.startswith("refs/")]
    return {"RevisionMap": {"Branches": branches, "Tags": tags}}


def listing(request: Request, model: Model) -> dict[str, Any]:
    """Files and folders of a revision; each file tells which commit changed it last. An unknown revision is empty."""
    commit = model.find(request.query["Revision"])
    if commit is None:
        return {"Files": None, "LatestCommitter": None}
    root = request.query.get("Root", "").strip("/")
    recursive = request.query.get("Recursive", "").lower() == "true"
    history = model.history(commit.id)
    entries = []
    for name, blob in sorted(commit.files.items()):
        last = changed(history, name)
        entries.append(
            {
                "Path": name,
                "Name": PurePosixPath(name).name,
                "Type": "blob",
                "Size": blob.size,
                "Sha256": blob.sha256,
                "IsLFS": blob.large,
                "Revision": last.id,
                "CommittedDate": EPOCH + last.number,
            }
        )
    folders = {str(folder) for name in commit.files for folder in PurePosixPath(name).parents} - {"."}
    entries += [
        {"Path": name, "Name": PurePosixPath(name).name, "Type": "tree", "Size": 0, "Sha256": ""}
        for name in sorted(folders)
    ]
    inside = [entry for entry in entries if not root or entry["Path"].startswith(f"{root}/")]
    shown = [entry for entry in inside if recursive or str(PurePosixPath(entry["Path"]).parent) == (root or ".")]
    newest = {"Id": "", "ShortId": commit.id[:8], "CommittedDate": EPOCH + commit.number}
    return {"Files": shown, "LatestCommitter": newest}


def changed(history: list[Commit], name: str) -> Commit:
    """The newest commit that changed a file, of a history that begins with the newest."""
    blob = history[0].files[name]
    last = history[0]
    for commit in history:
        if commit.files.get(name) != blob:
            break
        last = commit
    return last


@contextlib.contextmanager
def modelscope(**accounts: Account) -> Iterator[tuple[Loopback, ModelScope]]:
    """Run a site; each token of ``accounts`` speaks for its account."""
    site = ModelScope(accounts=accounts)
    with serve(site) as loopback:
        yield loopback, site
