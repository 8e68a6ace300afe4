"""What people do around repositories on the Hugging Face Hub: pull requests, discussions, collections."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hub.loopback.git import PullRequest, Repository
from hub.loopback.refusal import refuse
from hub.loopback.server import Answer, Request

if TYPE_CHECKING:
    from hub.loopback.hugging_face import HuggingFace

DATE = "2026-01-01T00:00:00.000Z"


@dataclass(kw_only=True)
class Collection:
    """Repositories that belong together."""

    title: str
    owner: str
    private: bool = False
    items: list[tuple[str, str]] = field(default_factory=list)
    """Kind and name."""

    @property
    def slug(self) -> str:
        words = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return f"{self.owner}/{words}-{hashlib.sha1(self.title.encode()).hexdigest()[:24]}"

    def form(self) -> dict[str, Any]:
        items = [
            {"_id": f"{number:024}", "position": number, "id": name, "type": kind}
            for number, (kind, name) in enumerate(self.items)
        ]
        return {
            "slug": self.slug,
            "title": self.title,
            "owner": {"name": self.owner},
            "items": items,
            "lastUpdated": DATE,
            "position": 0,
            "private": self.private,
            "theme": "blue",
            "upvotes": 0,
        }


def collections(hub: HuggingFace, request: Request, parts: list[str]) -> Answer:
    """List, make, show and fill collections."""
    slug = "/".join(parts[:2])
    match (request.method, len(parts)):
        case ("GET", 0):
            owner = request.query.get("owner")
            return Answer(body=[each.form() for each in hub.collections.values() if owner in (None, each.owner)])
        case ("POST", 0):
            return _make(hub, request)
        case ("GET", 2) if slug in hub.collections:
            return Answer(body=hub.collections[slug].form())
        case ("POST", 3) if slug in hub.collections:
            return _fill(hub, request, hub.collections[slug])
    refuse(404, "Collection not found")


def _make(hub: HuggingFace, request: Request) -> Answer:
    form, account = request.json(), hub.account(request)
    if account.read_only or not account.owns(form["namespace"]):
        refuse(403, f"You don't have the rights to create a collection under {form['namespace']}")
    made = Collection(title=form["title"], owner=form["namespace"], private=form["private"])
    if made.slug in hub.collections:
        refuse(409, "A collection with this title exists", slug=made.slug)
    hub.collections[made.slug] = made
    return Answer(body=made.form())


def _fill(hub: HuggingFace, request: Request, collection: Collection) -> Answer:
    account, item = hub.account(request), request.json()["item"]
    if not account.owns(collection.owner):
        refuse(403, "Forbidden")
    if item["id"] not in hub.repositories:
        refuse(404, f"{item['id']} does not exist")
    if (item["type"], item["id"]) in collection.items:
        refuse(409, "This item is in the collection already")
    collection.items.append((item["type"], item["id"]))
    return Answer(body=collection.form())


def discussions(hub: HuggingFace, request: Request, repository: Repository, parts: list[str]) -> Answer:
    """List, begin and show pull requests and discussions."""
    if request.method == "POST" and not parts:
        return _begin(hub, request, repository)
    if request.method == "GET" and not parts:
        chosen = [pull for pull in repository.pull_requests.values() if _is_wanted(pull, request.query)]
        first = int(request.query.get("p", 0)) * 10
        page = [_form(repository, pull) for pull in chosen[::-1][first : first + 10]]
        return Answer(body={"discussions": page, "count": len(chosen), "start": first})
    if request.method == "GET" and int(parts[0]) in repository.pull_requests:
        pull = repository.pull_requests[int(parts[0])]
        more = {"changes": {"base": f"refs/heads/{pull.base}"}, "filesWithConflicts": [], "events": [], "diff": ""}
        return Answer(body=_form(repository, pull) | more)
    refuse(404, "Discussion not found")


def _begin(hub: HuggingFace, request: Request, repository: Repository) -> Answer:
    form, account = request.json(), hub.account(request)
    start = hub.commit(repository, "main").id
    pull = repository.open_pull_request(form["title"], account.name, "main", start, draft=True)
    if not form["pullRequest"]:
        pull.is_pull_request, pull.status = False, "open"
    return Answer(body={"num": pull.number, "pullRequest": pull.is_pull_request})


def _is_wanted(pull: PullRequest, query: dict[str, str]) -> bool:
    kind = "pull_request" if pull.is_pull_request else "discussion"
    status = "open" if pull.status == "draft" else pull.status
    return (
        query.get("type", "all") in ("all", kind)
        and query.get("status", "all") in ("all", status)
        and query.get("author", pull.author) == pull.author
    )


def _form(repository: Repository, pull: PullRequest) -> dict[str, Any]:
    return {
        "title": pull.title,
        "num": pull.number,
        "author": {"name": pull.author},
        "createdAt": DATE,
        "status": pull.status,
        "isPullRequest": pull.is_pull_request,
        "repo": {"name": repository.name, "type": "model"},
    }
