"""The Hugging Face Hub, as much of its protocol as publishing and fetching models take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from hub.loopback import community, uploads, xet
from hub.loopback.git import Commit, Repository
from hub.loopback.refusal import Refused, refuse
from hub.loopback.server import Answer, Loopback, Request, ranged, serve

DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whom a token speaks for."""

    name: str
    organizations: tuple[str, ...] = ()
    """Where it may write, besides its own namespace."""
    read_only: bool = False

    def owns(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.organizations


@dataclass(kw_only=True)
class HuggingFace:
    """What the hub knows."""

    accounts: dict[str, Account] = field(default_factory=dict)
    """By token."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    collections: dict[str, community.Collection] = field(default_factory=dict)
    """By slug."""
    benchmarks: set[str] = field(default_factory=set)
    """Datasets with a leaderboard."""
    card_warnings: list[str] = field(default_factory=list)
    """What the hub has to remark about every card."""
    page: int = 1000
    """Entries of one page of a listing."""
    part: int | None = None
    """Bytes from which a large file is uploaded in parts of so many bytes."""
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """What has come of such files."""
    xorbs: dict[str, list[bytes]] = field(default_factory=dict)
    """The chunks of every xorb, by its hash."""

    def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        try:
            return self.route(request)
        except Refused as refusal:
            return refusal.answer

    def route(self, request: Request) -> Answer:
        match (request.method, *request.parts):
            case (_, "api", *rest):
                return self.api(request, rest)
            case ("POST", owner, name, "info", "lfs", "objects", "batch") if name.endswith(".git"):
                return uploads.batch(self, request, f"{owner}/{name.removesuffix('.git')}")
            case ("POST", "lfs", what, owner, name):
                repository = self.repositories[f"{owner}/{name}"]
                return (uploads.verify if what == "verify" else uploads.complete)(self, request, repository)
            case (_, "store", owner, name, *rest):
                return uploads.store(self, request, self.repositories[f"{owner}/{name}"], rest)
            case (_, "cas", *rest):
                return xet.store(self, request, rest)
            case ("GET" | "HEAD", owner, name, "resolve", revision, *path):
                return self.resolve(request, f"{owner}/{name}", revision, "/".join(path))
        refuse(404, "Sorry, we can't find the page you are looking for.")

    def api(self, request: Request, parts: list[str]) -> Answer:
        match (request.method, *parts):
            case ("GET", "whoami-v2"):
                account = self.account(request)
                orgs = [{"name": organization} for organization in account.organizations]
                return Answer(body={"type": "user", "name": account.name, "orgs": orgs})
            case ("POST", "repos", "create"):
                return self.create(request)
            case ("POST", "validate-yaml"):
                return self.validate(request)
            case (_, "models", owner, name, *rest):
                return self.model(request, f"{owner}/{name}", rest)
            case ("GET", "datasets"):
                found = sorted(name for name in self.benchmarks if request.query.get("search", "") in name)
                return Answer(body=[{"id": name, "tags": ["benchmark:official"]} for name in found])
            case (_, "collections", *rest):
                return community.collections(self, request, rest)
        refuse(404, "Sorry, we can't find the page you are looking for.")

    def model(self, request: Request, name: str, parts: list[str]) -> Answer:
        repository = self.repository(request, name)
        match (request.method, *parts):
            case ("GET",) | ("GET", "revision", _):
                return info(repository, self.commit(repository, parts[1] if parts else "main"))
            case ("GET", "refs"):
                return refs(repository)
            case ("POST", "branch" | "tag" as kind, name):
                return self.point(request, repository, kind, name)
            case ("GET", "tree", revision, *path):
                return self.tree(request, self.commit(repository, revision), "/".join(path))
            case ("POST", "paths-info", revision):
                return uploads.paths_info(request, self.commit(repository, revision))
            case ("POST", "preupload", revision):
                return uploads.preupload(self, request, repository, revision)
            case ("POST", "commit", revision):
                return uploads.commit(self, request, repository, revision)
            case ("GET", "xet-write-token", _):
                return xet.token(self, request, repository)
            case (_, "discussions", *rest):
                return community.discussions(self, request, repository, rest)
        refuse(404, "Sorry, we can't find the page you are looking for.")

    def visitor(self, request: Request) -> Account | None:
        """Whom the request's token speaks for, ``None`` without one."""
        if request.token is None:
            return None
        if request.token not in self.accounts:
            refuse(401, "Invalid credentials in Authorization header")
        return self.accounts[request.token]

    def account(self, request: Request) -> Account:
        if (account := self.visitor(request)) is None:
            refuse(401, "Invalid username or password.")
        return account

    def repository(self, request: Request, name: str) -> Repository:
        """A repository that the visitor may see."""
        account = self.visitor(request)
        found = self.repositories.get(name)
        owner = name.partition("/")[0]
        if found is None or (found.private and not (account and account.owns(owner))):
            if account is None:
                refuse(401, "Invalid username or password.", "RepoNotFound")
            refuse(404, "Repository not found", "RepoNotFound")
        if found.disabled:
            refuse(403, "Access to this resource is disabled.")
        return found

    def writer(self, request: Request, repository: Repository, *, create_pr: bool = False) -> Account:
        """Who writes; to propose a change, reading is enough."""
        account = self.account(request)
        if account.read_only:
            refuse(403, "Your token is read-only: it does not have the right to write")
        if not create_pr and not account.owns(repository.name.partition("/")[0]):
            refuse(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return account

    def commit(self, repository: Repository, revision: str) -> Commit:
        if (commit := repository.find(revision)) is None:
            refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def create(self, request: Request) -> Answer:
        form, account = request.json(), self.account(request)
        namespace = form.get("organization") or account.name
        name = f"{namespace}/{form['name']}"
        if account.read_only or not account.owns(namespace):
            refuse(403, f'You don\'t have the rights to create a model under the namespace "{namespace}"')
        url = f"{request.address}/{name}"
        if name in self.repositories:
            refuse(409, "You already created this model repo", url=url)
        self.repositories[name] = Repository(name=name, private=form.get("visibility") == "private")
        return Answer(body={"url": url, "name": name})

    def validate(self, request: Request) -> Answer:
        warnings = [{"message": message} for message in self.card_warnings]
        content = request.json()["content"]
        form: Any = None
        error = '"metadata" must be a mapping'
        with contextlib.suppress(IndexError):
            try:
                form = yaml.safe_load(content.split("---\n")[1])
            except yaml.YAMLError as problem:
                error = f"YAML metadata: {problem}"
        if content.startswith("---\n") and not isinstance(form, dict):
            return Answer(status=400, body={"errors": [{"message": error}], "warnings": warnings})
        return Answer(body={"errors": [], "warnings": warnings})

    def point(self, request: Request, repository: Repository, kind: str, name: str) -> Answer:
        """Make a branch or a tag."""
        self.writer(request, repository)
        form = request.json()
        if kind == "tag":
            ref, start = f"refs/tags/{form['tag']}", name
        else:
            ref, start = name, form.get("startingPoint") or "main"
        if ref in repository.refs:
            refuse(409, f"Reference already exists: {name}")
        repository.refs[ref] = self.commit(repository, start).id
        return Answer(status=200, body={})

    def tree(self, request: Request, commit: Commit, path: str) -> Answer:
        entries = uploads.entries(commit, path, recursive=request.query.get("recursive", "").lower() == "true")
        if path and not entries:
            refuse(404, f"{path} does not exist", "EntryNotFound")
        first = int(request.query.get("cursor", 0))
        last = first + self.page
        url = f"{request.address}{request.target.partition('?')[0]}?recursive=true&cursor={last}"
        link = {"Link": f'<{url}>; rel="next"'} if last < len(entries) else {}
        return Answer(body=entries[first:last], headers=link)

    def resolve(self, request: Request, name: str, revision: str, path: str) -> Answer:
        repository = self.repository(request, name)
        if repository.gated and not request.token:
            refuse(401, f"Access to model {name} is restricted.", "GatedRepo")
        commit = self.commit(repository, revision)
        if (blob := commit.files.get(path)) is None:
            refuse(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.id}
        if not blob.large:
            return ranged(request, blob.content, {**headers, "ETag": f'"{blob.id}"'})
        headers |= {
            "ETag": f'"{blob.id}"',
            "X-Linked-ETag": f'"{blob.sha256}"',
            "X-Linked-Size": str(blob.size),
            "Location": uploads.store_url(request, repository, blob.sha256),
        }
        return Answer(status=302, headers=headers)


def info(repository: Repository, commit: Commit) -> Answer:
    """A model's page."""
    owner = repository.name.partition("/")[0]
    form = {
        "_id": "0" * 24,
        "id": repository.name,
        "modelId": repository.name,
        "author": owner,
        "sha": commit.id,
        "private": repository.private,
        "gated": repository.gated and "manual",
        "disabled": repository.disabled,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "createdAt": DATE,
        "lastModified": DATE,
        "siblings": [{"rfilename": name} for name in sorted(commit.files)],
    }
    return Answer(body=form)


def refs(repository: Repository) -> Answer:
    """Branches, tags and pull requests."""
    form: dict[str, list[Any]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    for name, target in repository.refs.items():
        kind = {"refs/tags": "tags", "refs/pr": "pullRequests"}.get(name.rpartition("/")[0], "branches")
        short = name if kind == "branches" else name.rpartition("/")[2]
        full = f"refs/heads/{name}" if kind == "branches" else name
        form[kind].append({"name": short, "ref": full, "targetCommit": target})
    return Answer(body=form)


@contextlib.contextmanager
def hugging_face(**accounts: Account) -> Iterator[tuple[Loopback, HuggingFace]]:
    """Run a hub; each token of ``accounts`` speaks for its account."""
    hub = HuggingFace(accounts=accounts)
    with serve(hub) as loopback:
        yield loopback, hub
