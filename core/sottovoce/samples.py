"""Manifests to samples, and what a model said of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SamplesError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MEDIA = ("video", "audio", "image")
"""Kinds of content that lie in files. A conversation counts as the first of them that it has."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One line of a manifest.

    ``audio`` is a file, or 16 kHz mono samples ``[time]`` in -1 to 1. ``messages`` are a conversation, each a mapping
    with a ``role`` and a ``content``: text, or items such as ``{"type": "audio", "audio": ...}``, whose media are like
    ``audio``; a video is a file or a list of pictures.
    """

    key: str
    audio: Path | NDArray[np.float32] | None = None
    text: str | None = None
    language: str | None = None
    words: Sequence[Mapping[str, Any]] = ()
    messages: Sequence[Mapping[str, Any]] = ()
    modality: str = ""
    """What the sample is about, for metrics by modality; when it is not given, the first of video, audio and image that
    occurs, otherwise text."""

    def __post_init__(self) -> None:
        if not self.modality:
            found = next((kind for kind in MEDIA if kind in self.modalities), "text")
            object.__setattr__(self, "modality", found)

    @property
    def modalities(self) -> frozenset[str]:
        """The kinds of content that occur: ``text``, ``audio``, ``image``, ``video``."""
        kinds = {"text" for message in self.messages if isinstance(message.get("content"), str)}
        kinds |= {str(item["type"]) for item in _items(self.messages)}
        if self.audio is not None:
            kinds.add("audio")
        return frozenset(kinds or {"text"})

    @property
    def seconds(self) -> float:
        """Length of all audio; 0 when there is none."""
        spoken = [item["audio"] for item in _items(self.messages) if item["type"] == "audio"]
        return sum(map(_seconds, spoken), 0.0 if self.audio is None else _seconds(self.audio))


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model said of one sample; ``text`` is ``None`` when it gave no hypothesis."""

    text: str | None = None
    tokens: tuple[str, ...] = ()
    timestamps: Sequence[Sequence[float]] = ()
    logits: NDArray[np.float16] | None = None
    """What the model expects at the first positions of the sample's own text, ``[positions, vocabulary]``, as
    :func:`~sottovoce.metrics.divergence.compact` gives them; ``None`` where this was not asked."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A model's predictions on a set of samples, with what the run took."""

    predictions: Sequence[Prediction]
    seconds: Sequence[float]
    """Wall-clock time of each sample."""
    audio_seconds: Sequence[float]
    peak_memory_bytes: int | None = None
    expert_runs: float | None = None
    """Experts that ran for a token of a layer, in the mean; ``None`` for a model that is no mixture."""


@dataclass(frozen=True)
class Samples(Sequence[Sample]):
    """An ordered set of samples that knows its own digest."""

    items: tuple[Sample, ...]
    path: Path | None = None
    digest: str = field(default="", compare=False)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.items)

    @property
    def identity(self) -> str:
        """The digest, found anew for samples that were not read from a manifest."""
        return self.digest or _digest(self.items)

    def to_dict(self) -> dict[str, Any]:
        """What a report says of the data: its name, count, length and digest."""
        return {
            "name": self.path.name if self.path else None,
            "count": len(self),
            "audio_seconds": round(sum(sample.seconds for sample in self), 3),
            "sha256": self.digest or None,
        }


def read_samples(path: str | os.PathLike[str]) -> Samples:
    """Read a JSON Lines manifest, or a directory with Kaldi's ``wav.scp`` and ``text``.

    Args:
        path: ``*.jsonl``, a ``wav.scp``, or a directory that holds one. Paths, those in ``messages`` too, are relative
            to the manifest.

    Raises:
        SamplesError: A line is broken, a key stands twice or a file is missing; the message names file and line.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "wav.scp"
    if not path.is_file():
        raise SamplesError(f"{path}: no such manifest; give a .jsonl file or a directory with wav.scp and text")
    read = _read_kaldi if path.name.endswith(".scp") else _read_json_lines
    items = tuple(read(path))
    if not items:
        raise SamplesError(f"{path}: the manifest has no samples")
    _refuse_duplicates(path, items)
    return Samples(items, path, _digest(items))


def _read_json_lines(path: Path) -> Iterator[Sample]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise SamplesError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(fields, dict):
            raise SamplesError(f'{where}: a line must be a JSON object, such as {{"key": ..., "source": ...}}')
        yield _sample(fields, where, path.parent, number)


def _sample(fields: Mapping[str, Any], where: str, root: Path, number: int) -> Sample:
    for name, kind in (("key", str), ("source", str), ("target", str), ("language", str), ("words", list),
                       ("messages", list), ("modality", str)):  # fmt: skip
        if fields.get(name) is not None and not isinstance(fields[name], kind):
            raise SamplesError(f"{where}: {name!r} must be a {kind.__name__}, not {type(fields[name]).__name__}")
    if fields.get("source") is None and not fields.get("messages") and fields.get("target") is None:
        raise SamplesError(f"{where}: neither 'source' (a path to audio) nor 'messages', nor 'target' for a text model")
    return Sample(
        key=fields.get("key") or f"{number:06d}",
        audio=_audio(fields["source"], root, where) if fields.get("source") is not None else None,
        text=fields.get("target"),
        language=fields.get("language"),
        words=tuple(fields.get("words") or ()),
        messages=tuple(_message(message, root, where) for message in fields.get("messages") or ()),
        modality=fields.get("modality") or "",
    )


def _message(message: Any, root: Path, where: str) -> Mapping[str, Any]:
    """With the media of its content as paths."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise SamplesError(f"{where}: each of 'messages' must be an object with a 'role' and a 'content'")
    content = message.get("content")
    if isinstance(content, str):
        return message
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise SamplesError(f"{where}: a message's 'content' must be text, or a list of objects with a 'type'")
    return message | {"content": [_item(item, root, where) for item in content]}


def _item(item: Mapping[str, Any], root: Path, where: str) -> Mapping[str, Any]:
    kind = item.get("type")
    if kind not in ("text", *MEDIA):
        raise SamplesError(f"{where}: the 'type' of content must be text, {', '.join(sorted(MEDIA))}, not {kind!r}")
    given: Any = item.get(kind)
    frames = kind == "video" and isinstance(given, list) and len(given) > 0
    if not all(isinstance(each, str) for each in (given if frames else [given])):
        wanted = {"text": "a string", "video": "a path, or a list of paths of pictures"}.get(kind, "a path")
        raise SamplesError(f"{where}: content of the type {kind!r} needs {kind!r}: {wanted}")
    if kind == "text":
        return item
    if kind == "audio":
        return {**item, kind: _audio(given, root, where)}
    paths = [_file(each, kind, root, where) for each in (given if frames else [given])]
    return {**item, kind: paths if frames else paths[0]}


def _read_kaldi(path: Path) -> Iterator[Sample]:
    text_path = path.with_name("text")
    texts: dict[str, str] = {}
    if text_path.is_file():
        for line in _lines(text_path):
            key, _, text = line.strip().partition(" ")
            texts[key] = text.strip()
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        key, _, source = line.strip().partition(" ")
        where = f"{path}:{number}"
        if not source.strip():
            raise SamplesError(f"{where}: a line must be a key and a path")
        yield Sample(key=key, audio=_audio(source.strip(), path.parent, where), text=texts.get(key))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise SamplesError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def _audio(source: str, root: Path, where: str) -> Path:
    import soundfile

    path = _file(source, "audio", root, where)
    try:
        soundfile.info(str(path))
    except RuntimeError as error:
        raise SamplesError(f"{where}: no audio that can be read: {source} ({_line(error)})") from None
    return path


def _file(source: str, kind: str, root: Path, where: str) -> Path:
    path = root / source
    if not path.is_file():
        raise SamplesError(f"{where}: no such {kind} file: {source}")
    return path


def _items(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if not isinstance(content := message.get("content") or (), str):
            yield from content


def _seconds(audio: Path | NDArray[np.float32]) -> float:
    if isinstance(audio, Path):
        import soundfile

        return float(soundfile.info(str(audio)).duration)
    return len(audio) / 16000


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _refuse_duplicates(path: Path, items: Sequence[Sample]) -> None:
    seen: set[str] = set()
    for sample in items:
        if sample.key in seen:
            raise SamplesError(f"{path}: the key {sample.key!r} stands twice")
        seen.add(sample.key)


def _digest(items: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in items:
        messages = [_identified(message) for message in sample.messages]
        digest.update(f"{sample.key}\0{sample.text}\0{list(sample.words)}\0{messages}\0".encode())
        if sample.audio is not None:
            digest.update(_bytes(sample.audio))
    return digest.hexdigest()


def _identified(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """With what its media hold in place of where they lie."""
    if isinstance(content := message.get("content") or (), str):
        return message
    return {**message, "content": [_identified_item(item) for item in content]}


def _identified_item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    if (kind := item["type"]) not in MEDIA:
        return item
    parts = item[kind] if isinstance(item[kind], list | tuple) else [item[kind]]
    return {**item, kind: [hashlib.sha256(_bytes(part)).hexdigest() for part in parts]}


def _bytes(media: Any) -> bytes:
    """Of a file, an array or a picture."""
    return media.read_bytes() if isinstance(media, Path) else bytes(media.tobytes())
