"""Audio, pictures and videos of a conversation as the model's processor takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sottovoce
from sottovoce.errors import SamplesError
from sottovoce.system.audio import FRAME, SAMPLE_RATE


def read_media(messages: Sequence[Mapping[str, Any]], whose: str) -> dict[str, list[Any]]:
    """What the messages hold beside text, in their order, by the processor's names.

    Returns:
        ``audio``: mono samples ``[time]`` at 16 kHz; ``images``: pictures of Pillow; ``videos``: frames
        ``[frames, height, width, 3]`` as uint8, or the path of a file. A name is missing where there is none.

    Raises:
        SamplesError: Something cannot be read; ``whose`` it is comes first.
    """
    readers = {"audio": ("audio", read_audio), "image": ("images", read_picture), "video": ("videos", read_video)}
    found: dict[str, list[Any]] = {}
    for message in messages:
        for item in message["content"] if not isinstance(message["content"], str) else ():
            if item["type"] in readers:
                name, read = readers[item["type"]]
                found.setdefault(name, []).append(read(item[item["type"]], whose))
    return found


def read_audio(audio: Any, whose: str) -> NDArray[np.float32]:
    """Mono samples ``[time]`` at 16 kHz of a file of any rate, or of samples of 16 kHz.

    Raises:
        SamplesError: The audio cannot be read, or is shorter than a frame.
    """
    samples = sottovoce.read_audio(audio, SAMPLE_RATE, name=whose)
    if len(samples) < FRAME * SAMPLE_RATE:
        raise SamplesError(f"{whose}: its audio is shorter than one frame of 25 ms")
    return samples


def read_picture(picture: Any, whose: str) -> Any:
    """A picture of Pillow in RGB; of a file, an array ``[height, width, 3]`` or a picture.

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
        raise SamplesError(f"{whose}: no picture that can be read: {_line(error)}") from None


def read_video(video: Path | Sequence[Any], whose: str) -> NDArray[np.uint8] | str:
    """Frames ``[frames, height, width, 3]``; of a file only its path, since the processor decodes it.

    Raises:
        SamplesError: A frame is no picture, or the frames are of several sizes.
    """
    if isinstance(video, Path):
        return str(video)
    frames = [np.asarray(read_picture(frame, whose)) for frame in video]
    if len({frame.shape for frame in frames}) != 1:
        sizes = sorted({f"{frame.shape[1]}x{frame.shape[0]}" for frame in frames})
        raise SamplesError(
            f"{whose}: the frames of a video must be of one size, not {', '.join(sizes) or 'none at all'}"
        )
    return np.stack(frames)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
