"""Bodies of requests: read up to a limit, kept in files without a name, and gone with the request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sottovoce.errors import SamplesError
from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.settings import Limits
from sottovoce.system.audio import FRAME, SAMPLE_RATE, audio_info, read_audio

if TYPE_CHECKING:
    import numpy as np
    from fastapi import Request
    from numpy.typing import NDArray
    from starlette.datastructures import FormData
    from starlette.types import Message

_DRAINED = 64_000_000
"""Bytes of a refused body that are still read, so that the caller gets to the answer before the connection ends."""
_DRAINING = 5.0
"""Seconds for the same."""
_DESCRIPTORS = Path("/proc/self/fd")


def limited(request: Request, most: int) -> Request:
    """Return the request with a body that raises an error as soon as it is larger than ``most`` bytes."""
    from fastapi import Request

    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > most:
            await _drain(request, message)
            raise _too_large(most)
        return message

    return Request(request.scope, receive)


async def refuse_large(request: Request, most: int) -> None:
    """Refuse a request whose header promises a body of more than ``most`` bytes.

    Raises:
        ApiError: 413, it does; 400, the header is not a number.
    """
    length = request.headers.get("content-length", "0")
    if not length.isdecimal():
        raise ApiError(400, "the header Content-Length is not a number")
    if int(length) > most:
        await _drain(request, {"type": "http.request", "body": b"", "more_body": True})
        raise _too_large(most)


@contextlib.asynccontextmanager
async def form_of(request: Request, limits: Limits) -> AsyncIterator[FormData]:
    """Read a multipart form; its files end with the block.

    Raises:
        ApiError: 413, the body is too large; 400, it is not a form, or the caller is gone.
    """
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    await refuse_large(request, limits.upload_bytes)
    if not request.headers.get("content-type", "").startswith(("multipart/form-data", "application/x-www-form")):
        raise ApiError(400, "send multipart/form-data, with the audio as the field 'file'")
    try:
        form = await limited(request, limits.upload_bytes).form(max_files=1, max_fields=100)
    except HTTPException as error:
        if "many files" in error.detail:
            raise ApiError(400, "the form has more than one file; send a request for each", parameter="file") from None
        raise ApiError(400, f"the form cannot be read: {error.detail}") from None
    except ClientDisconnect:
        raise ApiError(400, "the connection was closed before the whole request was there") from None
    try:
        yield form
    finally:
        # Not the form's own close(): it waits for a thread, which a request that was cancelled cannot.
        for value in form.values():
            if not isinstance(value, str):
                value.file.close()


async def json_of(request: Request, limits: Limits) -> Any:
    """Read a JSON body.

    Raises:
        ApiError: 413, the body is too large; 400, it is not JSON.
    """
    await refuse_large(request, limits.upload_bytes)
    body = await limited(request, limits.upload_bytes).body()
    try:
        # In a thread: media in base64 may be large.
        return await asyncio.to_thread(_parsed, body)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON") from None


def read_limited(file: IO[bytes] | Path, limits: Limits) -> NDArray[np.float32]:
    """Decode audio ``[time]`` of 16 kHz, from an open file or a path.

    Raises:
        ApiError: 413, the audio is too long; 400, it cannot be decoded, with the reason.
    """
    with _path_of(file) as path:
        try:
            _refuse_long(audio_info(path).duration, limits)
            samples = read_audio(path, shortest=FRAME)
        except SamplesError as error:
            # What the file is called here is nothing to the caller.
            raise ApiError(400, str(error).replace(str(path), "the audio"), parameter="file") from None
    _refuse_long(len(samples) / SAMPLE_RATE, limits)
    return samples


@contextlib.contextmanager
def _path_of(file: IO[bytes] | Path) -> Iterator[Path]:
    """Name an open file for libraries that take a path, if possible without a name that others see."""
    if isinstance(file, Path):
        yield file
        return
    if rollover := getattr(file, "rollover", None):
        rollover()
    file.flush()
    if (path := _DESCRIPTORS / str(file.fileno())).exists():
        yield path
        return
    # Windows cannot open a file again that is to be deleted when it is closed.
    handle, name = tempfile.mkstemp(prefix="sottovoce-")
    try:
        with os.fdopen(handle, "wb") as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy)
        yield Path(name)
    finally:
        Path(name).unlink()


def _refuse_long(seconds: float, limits: Limits) -> None:
    if seconds > limits.audio_seconds:
        raise ApiError(
            413,
            f"the audio has {seconds:.0f} s, and this service takes {limits.audio_seconds:g} at most",
            parameter="file",
            code="audio_too_long",
        )


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"the request is larger than the {most} bytes that this service takes", code="too_large")


async def _drain(request: Request, message: Message) -> None:
    end, left = time.monotonic() + _DRAINING, _DRAINED
    while message["type"] == "http.request" and message.get("more_body") and left > 0:
        if (patience := end - time.monotonic()) <= 0:
            return
        try:
            message = await asyncio.wait_for(request.receive(), patience)
        except TimeoutError:
            return
        left -= len(message.get("body", b""))


def _parsed(body: bytes) -> Any:
    import json

    return json.loads(body)
