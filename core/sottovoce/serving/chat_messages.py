"""Messages of a conversation in OpenAI's form, turned into those of a sample."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.settings import Limits
from sottovoce.serving.uploads import read_limited

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_MOST_PIXELS = 50_000_000
_MOST_MESSAGES = 200


def read_messages(messages: Any, limits: Limits) -> list[dict[str, Any]]:
    """Return messages with their audio and images decoded.

    Raises:
        ApiError: 400, they are not messages, or media cannot be decoded; 413, audio is too long.
    """
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ApiError(400, "'messages' must be a list of at least one object", parameter="messages")
    if len(messages) > _MOST_MESSAGES:
        raise ApiError(
            400, f"{len(messages)} messages are too many; send {_MOST_MESSAGES} at most", parameter="messages"
        )
    read = [_message(message, f"messages[{number}]", limits) for number, message in enumerate(messages)]
    if read[-1]["role"] != "user":
        raise ApiError(400, "the last message must be the user's", parameter="messages")
    return read


def _message(message: Mapping[str, Any], where: str, limits: Limits) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise ApiError(400, f"{where}: 'role' must be one of {', '.join(_ROLES)}", parameter=f"{where}.role")
    if isinstance(content, str):
        return {"role": _ROLES[role], "content": content}
    if not isinstance(content, Sequence) or not content or not all(isinstance(part, dict) for part in content):
        raise ApiError(400, f"{where}: 'content' must be text or a list of parts", parameter=f"{where}.content")
    parts = [_part(part, f"{where}.content[{number}]", limits) for number, part in enumerate(content)]
    return {"role": _ROLES[role], "content": parts}


def _part(part: Mapping[str, Any], where: str, limits: Limits) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind == "input_audio" and isinstance(part.get("input_audio"), dict):
        return {"type": "audio", "audio": _audio(part["input_audio"].get("data"), where, limits)}
    if kind == "image_url" and isinstance(part.get("image_url"), dict):
        return {"type": "image", "image": _image(part["image_url"].get("url"), where)}
    raise ApiError(
        400,
        f"{where}: a part is {{'type': 'text', 'text': ...}}, "
        f"{{'type': 'input_audio', 'input_audio': {{'data': ...}}}} "
        f"or {{'type': 'image_url', 'image_url': {{'url': 'data:...'}}}}",
        parameter=where,
    )


def _audio(data: Any, where: str, limits: Limits) -> Any:
    content = _decoded(data, where)
    with tempfile.TemporaryFile() as file:
        file.write(content)
        try:
            return read_limited(file, limits)
        except ApiError as error:  # of several recordings, this one
            raise ApiError(error.status, f"{where}: {error}", parameter=where, code=error.code) from None


def _image(url: Any, where: str) -> Any:
    from PIL import Image

    if not isinstance(url, str) or not url.startswith("data:"):
        raise ApiError(400, f"{where}: give the image as a data: URL; this service fetches nothing", parameter=where)
    head, _, data = url.partition(",")
    if not head.endswith(";base64"):
        raise ApiError(400, f"{where}: the data: URL must be in base64", parameter=where)
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(_decoded(data, where))) as image:
            # Pillow warns of large images, which are refused here.
            warnings.simplefilter("ignore")
            if image.width * image.height > _MOST_PIXELS:
                raise ApiError(400, f"{where}: the image has more than {_MOST_PIXELS} pixels", parameter=where)
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ApiError(400, f"{where}: the image cannot be read", parameter=where) from None


def _decoded(data: Any, where: str) -> bytes:
    try:
        content = base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise ApiError(400, f"{where}: the data must be base64, and not empty", parameter=where)
    return content
