"""Decoding of audio files, by libsndfile or by FFmpeg's libraries: rate, length and samples."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SamplesError
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISSING = 0.2
"""Seconds by which a compressed file may be shorter than its header says: encoders pad, headers round."""
_STREAMED = 2**31 - 2**16
"""Least number of bytes in a header that means an unknown length, as a program in a pipe writes it."""
_UNKNOWN = 2**48
"""Number of frames above which libsndfile does not know the length."""
_CUT = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""Note of libsndfile about a data chunk (in W64 and RF64, about all) that is longer than the file."""
_CONTAINERS = (
    "3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,m4a,matroska,mov,mp3,mp4,mpeg,mpegts,ogg,"
    "tak,tta,w64,wav,webm,wv"
)
"""Formats that FFmpeg may read: none that refers to other files or addresses, as playlists do."""

SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "3gp aac ac3 aif aiff amr ape au caf flac m4a mka mkv mov mp3 mp4",
        "oga ogg opus tta w64 wav webm wma wv",
    )
    for name in names.split()
)
"""Endings of the names of audio files, by which those in a directory are found."""
_HEADED = frozenset({"asf", "matroska", "mov"})
"""FFmpeg's names of formats whose header holds the length."""


@dataclass(frozen=True)
class AudioInfo:
    """Facts from an audio file's header."""

    sampling_rate: int
    """Rate in Hz."""
    channels: int
    duration: float
    """Length in seconds."""


def file_info(path: Path) -> AudioInfo:
    """Read the header of a file; all samples only if the header does not hold their number.

    Raises:
        SamplesError: The file is not audio, is empty, or is shorter than its header says; the message begins with the
            path.
    """
    import soundfile

    _refuse_missing(path)
    try:
        with soundfile.SoundFile(str(path)) as file:
            _refuse_cut(file, path)
            if file.frames > _UNKNOWN:
                raise RuntimeError("its header does not say how long it is")
            return AudioInfo(file.samplerate, file.channels, file.frames / file.samplerate)
    except SamplesError:
        raise
    except Exception as error:
        return _container_info(path, error)


def decode(path: Path, start: float = 0.0, end: float | None = None) -> tuple[NDArray[np.float32], int]:
    """Read samples ``[time, channels]`` in -1 to 1, and their rate in Hz, from ``start`` to ``end`` in seconds.

    Raises:
        SamplesError: As :func:`file_info`; or the samples are damaged, or end before ``end``.
    """
    import soundfile

    _refuse_missing(path)
    try:
        file = soundfile.SoundFile(str(path))
        if file.frames > _UNKNOWN:
            raise RuntimeError("its header does not say how long it is")
    except Exception as error:
        samples, rate = _decode_container(path, error)
        refuse_outside(path, len(samples) / rate, start, end)
        return samples[round(start * rate) : None if end is None else round(end * rate)], rate
    with file:
        _refuse_cut(file, path)
        rate = int(file.samplerate)
        refuse_outside(path, file.frames / rate, start, end)
        try:
            return _frames(file, path, round(start * rate), None if end is None else round(end * rate)), rate
        except Exception as error:
            if isinstance(error, SamplesError):
                raise
            raise SamplesError(f"{path}: the audio is damaged or cut off ({_message(error)})") from None


def _frames(file: Any, path: Path, first: int, last: int | None) -> NDArray[np.float32]:
    count = (file.frames if last is None else min(last, file.frames)) - first
    if first:
        file.seek(first)
    samples: NDArray[np.float32] = file.read(count, dtype="float32", always_2d=True)
    _refuse_short(path, count / file.samplerate, len(samples) / file.samplerate)
    return samples


def _container_info(path: Path, refusal: Exception) -> AudioInfo:
    av = _ffmpeg(path, refusal)
    try:
        with av.open(str(path.absolute()), options={"format_whitelist": _CONTAINERS}) as container:
            stream = _stream(container)
            ticks = stream.duration and stream.duration * stream.time_base
            if (duration := float(ticks or (container.duration or 0) / av.time_base)) > 0:
                return AudioInfo(stream.rate, stream.channels, duration)
    except Exception as error:
        raise _unreadable(path, error) from None
    samples, rate = _decode_container(path, refusal)
    return AudioInfo(rate, samples.shape[1], len(samples) / rate)


def _decode_container(path: Path, refusal: Exception) -> tuple[NDArray[np.float32], int]:
    import numpy as np

    av = _ffmpeg(path, refusal)
    try:
        with av.open(str(path.absolute()), options={"format_whitelist": _CONTAINERS}) as container:
            stream = _stream(container)
            promised = _promised(container, stream, av.time_base)
            planar = av.AudioResampler(format="fltp")
            blocks = [frame.to_ndarray() for packet in container.decode(stream) for frame in planar.resample(packet)]
            blocks += [frame.to_ndarray() for frame in planar.resample(None)] if blocks else []
            rate = int(stream.rate)
    except Exception as error:
        raise _unreadable(path, error) from None
    if not blocks:
        raise SamplesError(f"{path}: is empty: it holds no samples")
    samples = np.concatenate(blocks, axis=1).T
    _refuse_short(path, promised, len(samples) / rate)
    return samples, rate


def _stream(container: Any) -> Any:
    if not container.streams.audio:
        raise ValueError("it has no audio stream")
    return container.streams.audio[0]


def _promised(container: Any, stream: Any, ticks: int) -> float:
    """Return the seconds of audio by the header; 0 if FFmpeg only guesses them from the size of the file."""
    if not set(container.format.name.split(",")) & _HEADED:
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # The whole file's duration may be that of its video.
    return float(container.duration or 0) / ticks if len(container.streams) == 1 else 0.0


def _ffmpeg(path: Path, refusal: Exception) -> Any:
    """Import PyAV, for formats that libsndfile does not know.

    Raises:
        SamplesError: libsndfile knows the format and the file is damaged, or PyAV is not installed.
    """
    if "malformed" in str(refusal):
        raise SamplesError(f"{path}: the audio is damaged or cut off ({_message(refusal)})")
    try:
        import av
    except ImportError:
        reason = f"{_message(refusal)}; for m4a, aac, mp4, webm, wma and others: pip install av"
        raise SamplesError(f"{path}: cannot be read as audio ({reason})") from None
    return av


def _unreadable(path: Path, error: Exception) -> SamplesError:
    if path.suffix.lower() in (".raw", ".pcm"):
        return SamplesError(f"{path}: raw samples have no header with their rate; convert them to WAV")
    return SamplesError(f"{path}: cannot be read as audio ({_message(error) or type(error).__name__})")


def _refuse_missing(path: Path) -> None:
    try:
        exists, size = path.is_file(), path.stat().st_size if path.is_file() else 0
    except OSError as error:
        raise SamplesError(f"{path}: cannot be read as audio ({error.strerror})") from None
    if not exists:
        raise SamplesError(f"{path}: {_in_its_place(path)}")
    if not os.access(path, os.R_OK):
        raise SamplesError(f"{path}: cannot be read as audio (no permission)")
    if not size:
        raise SamplesError(f"{path}: is empty: a file of 0 bytes")


def _in_its_place(path: Path) -> str:
    """Return what there is in the place of a file."""
    if path.is_dir():
        return (
            "is a directory" if os.access(path, os.R_OK | os.X_OK) else "is a directory without permission to read it"
        )
    if path.is_symlink():
        return f"is a link to {one_line(path.readlink(), 200)}, which does not exist"
    return "no such audio file"


def _refuse_cut(file: Any, path: Path) -> None:
    if file.frames == 0:
        raise SamplesError(f"{path}: is empty: its header says that it holds no samples")
    for promised, held in _CUT.findall(file.extra_info):
        if int(promised) < _STREAMED:
            _refuse_short(path, *(file.frames / file.samplerate * int(size) / int(held) for size in (promised, held)))


def _refuse_short(path: Path, promised: float, held: float) -> None:
    if promised - held > min(MISSING, promised / 10):
        raise SamplesError(
            f"{path}: is cut off: its header says {promised:.2f} s of audio, but it holds {held:.2f} s; copy it again"
        )


def refuse_outside(path: Path, duration: float, start: float, end: float | None) -> None:
    """Refuse a segment that is not within its file.

    Raises:
        SamplesError: It is not.
    """
    last = duration if end is None else end
    if not 0 <= start < last <= duration + MISSING:
        raise SamplesError(f"{path}: {start:g} to {last:g} s are not within its {duration:.2f} s of audio")


def _message(error: BaseException) -> str:
    """Return the message on one line, without the path that libraries put into it."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    return re.sub(r"^Error opening .*?: |^Error : ", "", text)[:200].rstrip(".")
