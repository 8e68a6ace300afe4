"""The Hugging Face Hub's chunked store, as far as uploads take it: chunks come in xorbs, files are lists of chunks.

The formats are those of the Xet protocol's specification. A xorb's own hash is not checked; every file's sha256 is.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hub.loopback.git import Repository
from hub.loopback.refusal import refuse
from hub.loopback.server import Answer, Request

if TYPE_CHECKING:
    from hub.loopback.hugging_face import HuggingFace

ENTRY = 48
"""Bytes of every record of a shard."""
LAST = b"\xff" * 32
WITH_CHECKS, WITH_DIGEST = 1 << 31, 1 << 30
RAW, LZ4, GROUPED_LZ4 = 0, 1, 2
NEVER = 4102444800
"""When tokens expire: in 2100."""


def token(hub: HuggingFace, request: Request, repository: Repository) -> Answer:
    """What opens the store for one repository, for writing."""
    hub.writer(request, repository, create_pr="create_pr" in request.query)
    form = {"accessToken": f"xet_{repository.name}", "exp": NEVER, "casUrl": f"{request.address}/cas"}
    headers = {
        "X-Xet-Cas-Url": form["casUrl"],
        "X-Xet-Access-Token": form["accessToken"],
        "X-Xet-Token-Expiration": str(NEVER),
    }
    return Answer(body=form, headers=headers)


def store(hub: HuggingFace, request: Request, parts: list[str]) -> Answer:
    """Take xorbs and shards; no chunk is known from elsewhere."""
    repository = hub.repositories.get((request.token or "").removeprefix("xet_"))
    if repository is None:
        refuse(401, "Unauthorized")
    match (request.method, *parts):
        case ("POST", "v1", "xorb-grants", "default", name) if name in hub.xorbs:
            return Answer(body={})
        case ("POST", "v1", "xorbs", "default", name):
            inserted = name not in hub.xorbs
            hub.xorbs[name] = list(_chunks(request.body))
            return Answer(body={"was_inserted": inserted})
        case ("POST", "v1", "shards") | ("POST", "shards"):
            return _register(hub, repository, request.body)
    refuse(404, "Not found")


def _register(hub: HuggingFace, repository: Repository, shard: bytes) -> Answer:
    """Put a shard's files together from what was sent before."""
    files = {}
    for digest, terms in _files(shard):
        files[digest] = b"".join(chunk for name, first, last in terms for chunk in hub.xorbs[name][first:last])
        if hashlib.sha256(files[digest]).hexdigest() != digest:
            refuse(400, "The file's sha256 is not that of its chunks")
    repository.objects |= files
    return Answer(body={"result": 1})


def _chunks(xorb: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(xorb) and xorb[place] == 0:
        stored, kind = int.from_bytes(xorb[place + 1 : place + 4], "little"), xorb[place + 4]
        size = int.from_bytes(xorb[place + 5 : place + 8], "little")
        place += 8 + stored
        chunk = xorb[place - stored : place]
        if kind in (LZ4, GROUPED_LZ4):
            chunk = _unpacked(chunk)
        if kind == GROUPED_LZ4:
            chunk = _ungrouped(chunk)
        if kind > GROUPED_LZ4 or len(chunk) != size:
            refuse(400, f"A chunk of kind {kind} that is not what its head says")
        yield chunk


def _ungrouped(grouped: bytes) -> bytes:
    """The bytes in their order; grouped, all first bytes of four come first, then all second ones."""
    chunk, place = bytearray(len(grouped)), 0
    for first in range(4):
        count = len(range(first, len(grouped), 4))
        chunk[first::4] = grouped[place : place + count]
        place += count
    return bytes(chunk)


def _unpacked(frame: bytes) -> bytes:
    """The content of an LZ4 frame."""
    flags = frame[4]
    place = 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
    content = bytearray()
    while size := int.from_bytes(frame[place : place + 4], "little"):
        block = frame[place + 4 : place + 4 + (size & 0x7FFFFFFF)]
        if size >> 31:
            content += block
        else:
            _unpack_block(block, content)
        place += 4 + len(block) + (4 if flags & 0x10 else 0)
    return bytes(content)


def _unpack_block(block: bytes, content: bytearray) -> None:
    bytes_left = iter(block)

    def length(first: int) -> int:
        total, more = first, 255 if first == 15 else 0
        while more == 255:
            more = next(bytes_left)
            total += more
        return total

    for head in bytes_left:
        content += bytes(next(bytes_left) for _ in range(length(head >> 4)))
        if (low := next(bytes_left, None)) is None:
            return
        start = len(content) - (low | next(bytes_left) << 8)
        for place in range(start, start + length(head & 15) + 4):
            content.append(content[place])


def _files(shard: bytes) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """The sha256 of every file, and the runs of chunks that it is made of."""
    place = ENTRY
    while shard[place : place + 32] != LAST:
        flags, count = struct.unpack_from("<II", shard, place + 32)
        entries = [place + ENTRY * number for number in range(1, count + 1)]
        terms = [(_name(shard, entry), *struct.unpack_from("<II", shard, entry + 40)) for entry in entries]
        place += ENTRY * (1 + count + (count if flags & WITH_CHECKS else 0))
        if not flags & WITH_DIGEST:
            refuse(400, "A file without its sha256")
        yield _name(shard, place), terms
        place += ENTRY


def _name(shard: bytes, place: int) -> str:
    """A hash as it is written in addresses: four numbers, their lowest byte first."""
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", shard, place))
