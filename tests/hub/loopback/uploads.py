"""How files come to the Hugging Face Hub: asked for, stored when large, and committed."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from hub.loopback.git import LARGE, Blob, Commit, Repository
from hub.loopback.refusal import refuse
from hub.loopback.server import Answer, Request, ranged

if TYPE_CHECKING:
    from hub.loopback.hugging_face import HuggingFace

REGULAR = 10_000_000
"""Bytes that a file may have and be kept in git itself."""


def entries(commit: Commit, path: str = "", *, recursive: bool = True) -> list[dict[str, Any]]:
    """The files and folders below ``path``, as a listing tells them."""
    prefix, found = f"{path}/" if path else "", {}
    for name, blob in sorted(commit.files.items()):
        if not name.startswith(prefix):
            continue
        folders = name.removeprefix(prefix).split("/")[:-1]
        for depth in range(1, len(folders) + 1 if recursive else min(len(folders), 1) + 1):
            folder = prefix + "/".join(folders[:depth])
            found[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
        if recursive or not folders:
            found[name] = entry(name, blob)
    return list(found.values())


def entry(name: str, blob: Blob) -> dict[str, Any]:
    """A file, as a listing tells it."""
    form: dict[str, Any] = {"type": "file", "path": name, "oid": blob.id, "size": blob.size}
    if blob.large:
        form["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
    return form


def paths_info(request: Request, commit: Commit) -> Answer:
    """Those of the paths asked for that exist."""
    if "json" in (request.headers.get("Content-Type") or ""):
        paths = request.json()["paths"]
    else:
        paths = parse_qs(request.body.decode()).get("paths", [])
    return Answer(body=[form for form in entries(commit) if form["path"] in paths])


def preupload(hub: HuggingFace, request: Request, repository: Repository, revision: str) -> Answer:
    """How each file is to be uploaded, and what is there under its name."""
    hub.writer(request, repository, create_pr="create_pr" in request.query)
    commit = hub.commit(repository, revision)
    form = request.json()
    ignored = form.get("gitIgnore", commit.files.get(".gitignore", Blob(b"")).content.decode()).split()
    files = []
    for file in form["files"]:
        binary = b"\0" in base64.b64decode(file["sample"])
        large = binary or file["size"] > REGULAR or commit.is_large(file["path"])
        answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular"}
        answer["shouldIgnore"] = file["path"] in ignored
        if blob := commit.files.get(file["path"]):
            answer["oid"] = blob.sha256 if blob.large else blob.id
        files.append(answer)
    return Answer(body={"files": files})


def store_url(request: Request, repository: Repository, *parts: str) -> str:
    """A signed address in the object store, which is another host than the hub."""
    address = request.address.replace("127.0.0.1", "localhost")
    return "/".join((address, "store", repository.name, *parts)) + "?X-Amz-Signature=5ec2e7"


def batch(hub: HuggingFace, request: Request, name: str) -> Answer:
    """Where to upload large files that are not in the store yet."""
    repository, form = hub.repository(request, name), request.json()
    hub.writer(request, repository, create_pr="ref" not in form)
    objects = []
    for asked in form["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in repository.objects:
            verify = {"href": f"{request.address}/lfs/verify/{name}", "header": {}}
            answer["actions"] = {"upload": _upload(hub, request, repository, **answer), "verify": verify}
        objects.append(answer)
    return Answer(body={"transfer": "multipart" if hub.part else "basic", "objects": objects})


def _upload(hub: HuggingFace, request: Request, repository: Repository, oid: str, size: int) -> dict[str, Any]:
    if not hub.part or size <= hub.part:
        return {"href": store_url(request, repository, oid), "header": {}}
    numbers = range(1, -(-size // hub.part) + 1)
    header = {f"{number:05}": store_url(request, repository, oid, str(number)) for number in numbers}
    href = f"{request.address}/lfs/complete/{repository.name}"
    return {"href": href, "header": {"chunk_size": str(hub.part), **header}}


def store(hub: HuggingFace, request: Request, repository: Repository, parts: list[str]) -> Answer:
    """The object store: an object, or one part of it."""
    oid, *number = parts
    if request.headers.get("Authorization"):
        refuse(400, "InvalidArgument: Only one auth mechanism allowed")
    if request.method != "PUT":
        if oid not in repository.objects:
            refuse(404, "NoSuchKey")
        return ranged(request, repository.objects[oid], {"ETag": f'"{oid}"'})
    if number:
        hub.parts.setdefault(oid, {})[int(number[0])] = request.body
    else:
        _keep(repository, oid, request.body)
    return Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def _keep(repository: Repository, oid: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != oid:
        refuse(400, "BadDigest: The SHA256 you specified did not match what we received")
    repository.objects[oid] = content


def complete(hub: HuggingFace, request: Request, repository: Repository) -> Answer:
    """Put the parts of an object together."""
    form = request.json()
    parts = hub.parts.pop(form["oid"], {})
    etags = {number: f'"{hashlib.md5(part).hexdigest()}"' for number, part in parts.items()}
    if etags != {part["partNumber"]: part["etag"] for part in form["parts"]}:
        refuse(400, "InvalidPart: One or more of the specified parts could not be found")
    _keep(repository, form["oid"], b"".join(parts[number] for number in sorted(parts)))
    return Answer(body={})


def verify(hub: HuggingFace, request: Request, repository: Repository) -> Answer:
    """Whether an object arrived whole."""
    hub.writer(request, repository, create_pr=True)
    form = request.json()
    if len(repository.objects.get(form["oid"], b"")) != form["size"]:
        refuse(422, "The object is not there, or has another size")
    return Answer(body={})


def commit(hub: HuggingFace, request: Request, repository: Repository, revision: str) -> Answer:
    """Make one commit of all lines of the request, or none."""
    create_pr = "create_pr" in request.query
    account = hub.writer(request, repository, create_pr=create_pr)
    lines = [json.loads(line) for line in request.body.splitlines()]
    header, start = lines[0]["value"], hub.commit(repository, revision)
    if (parent := header.get("parentCommit")) and not create_pr and parent != start.id:
        refuse(412, "A commit has happened since. Please refresh and try again.")
    additions, deletions = _operations(repository, start, lines[1:])
    number, ref = None, revision
    if create_pr:
        start = hub.commit(repository, parent or revision)
        number = repository.open_pull_request(header["summary"], account.name, revision, start.id).number
        ref = f"refs/pr/{number}"
    elif revision.startswith("refs/pr/"):
        repository.pull_requests[int(revision.rpartition("/")[2])].status = "open"
    made = repository.commit(ref, additions, deletions, header["summary"])
    page = f"{request.address}/{repository.name}"
    answer = {"success": True, "commitOid": made.id, "commitUrl": f"{page}/commit/{made.id}", "hookOutput": ""}
    return Answer(body=answer | ({"pullRequestUrl": f"{page}/discussions/{number}"} if number else {}))


def _operations(
    repository: Repository, start: Commit, lines: list[dict[str, Any]]
) -> tuple[dict[str, Blob], list[str]]:
    """What the lines of a commit add and delete, all of it checked."""
    additions: dict[str, Blob] = {}
    deletions: list[str] = []
    for line in lines:
        value = line["value"]
        name = value["path"]
        if line["key"] == "file":
            additions[name] = _regular(name, base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            if value["oid"] not in repository.objects:
                refuse(400, "Your push was rejected because an LFS pointer pointed to a file that does not exist")
            additions[name] = Blob(repository.objects[value["oid"]], large=True)
        elif name not in start.files:
            refuse(404, f"A file with this name doesn't exist: {name}", "EntryNotFound")
        else:
            deletions.append(name)
    unlisted = [name for name, blob in additions.items() if blob.large and not start.is_large(name)]
    if unlisted and ".gitattributes" not in additions:
        before = start.files.get(".gitattributes", Blob(b"")).content
        additions[".gitattributes"] = Blob(before + "".join(f"{name} {LARGE}\n" for name in unlisted).encode())
    return additions, deletions


def _regular(name: str, content: bytes) -> Blob:
    if len(content) > REGULAR or b"\0" in content:
        refuse(400, f"Your push was rejected because it contains binary files: {name}")
    return Blob(content)
