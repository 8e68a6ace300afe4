"""Audio, pictures and videos of a conversation as the model's processor takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sottovoce.errors import SamplesError
from sottovoce.system.audio import FRAME, read_audio
from sottovoce.text.plain_text import one_line


def read_media(messages: Sequence[Mapping[str, Any]], context: str) -> dict[str, list[Any]]:
    """Read the audio, pictures and videos of messages, in their order, by the processor's names.

    Returns:
        ``audio``: mono samples ``[time]`` at 16 kHz; ``images``: pictures of Pillow; ``videos``: frames
        ``[frames, height, width, 3]`` as uint8, or the path of a file. A name is missing where there is none.

    Raises:
        SamplesError: Something cannot be read; the message begins with ``context``, such as ``sample 'a'``.
    """
    readers = {"audio": ("audio", read_speech), "image": ("images", read_picture), "video": ("videos", read_video)}
    media: dict[str, list[Any]] = {}
    for message in messages:
        for item in message["content"] if not isinstance(message["content"], str) else ():
            if item["type"] in readers:
                name, read = readers[item["type"]]
                media.setdefault(name, []).append(read(item[item["type"]], context))
    return media


def read_speech(audio: Any, context: str) -> NDArray[np.float32]:
    """Read mono samples ``[time]`` at 16 kHz of a file of any rate, or of samples of 16 kHz.

    Raises:
        SamplesError: The audio cannot be read, or is shorter than a frame.
    """
    return read_audio(audio, shortest=FRAME, name=context)


def read_picture(picture: Any, context: str) -> Any:
    """Return a picture of Pillow in RGB, of a file, an array ``[height, width, 3]`` or a picture.

    Raises:
        SamplesError: There is no picture in the file.
    """
    from PIL import Image

    try:
        if isinstance(picture, np.ndarray):
            return Image.fromarray(picture).convert("RGB")
        if isinstance(picture, Image.Image):
            return picture.convert("RGB")
        with Image.open(picture) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        raise SamplesError(f"{context}: no picture that can be read: {one_line(error, 200)}") from None


def read_video(video: Path | Sequence[Any], context: str) -> NDArray[np.uint8] | str:
    """Return frames ``[frames, height, width, 3]``; of a file only its path, since the processor decodes it.

    Raises:
        SamplesError: A frame is not an image, or the frames are of several sizes.
    """
    if isinstance(video, Path):
        return str(video)
    frames = [np.asarray(read_picture(frame, context)) for frame in video]
    if len({frame.shape for frame in frames}) != 1:
        sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
        raise SamplesError(
            f"{context}: the frames of a video must be of one size, not {', '.join(sizes) or 'none at all'}"
        )
    return np.stack(frames)
