"""Manifests to samples, and what a model said of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.data.kaldi import read_kaldi
from sottovoce.data.languages import language_code
from sottovoce.data.manifests import MEDIA, exists, read_json_lines, shown
from sottovoce.errors import SamplesError
from sottovoce.system.audio import FRAME, AudioSegment, audio_info, read_audio
from sottovoce.system.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One line of a manifest.

    ``audio`` is a file, a piece of one, or samples of 16 kHz; :func:`~sottovoce.system.audio.read_audio` reads them.
    ``language`` is a code of :mod:`~sottovoce.data.languages`, whatever name or code it is given by; what is no
    language is a :class:`~sottovoce.errors.SamplesError`. ``messages`` are a conversation, each a mapping with a
    ``role`` and a ``content``: text, or items such as ``{"type": "audio", "audio": ...}``, whose media are like
    ``audio``; a video is a file or a list of pictures.
    """

    key: str
    audio: Path | AudioSegment | NDArray[np.float32] | None = None
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
        if self.language is not None:
            object.__setattr__(self, "language", language_code(self.language))

    @property
    def modalities(self) -> frozenset[str]:
        """The kinds of content that occur: ``text``, ``audio``, ``image``, ``video``."""
        kinds = {"text" for message in self.messages if isinstance(message.get("content"), str)}
        kinds |= {str(item["type"]) for item in _items(self.messages)}
        if self.audio is not None:
            kinds.add("audio")
        return frozenset(kinds or {"text"})

    @property
    def spoken(self) -> tuple[Any, ...]:
        """All audio: its own, and that of its messages."""
        said = tuple(item["audio"] for item in _items(self.messages) if item["type"] == "audio")
        return said if self.audio is None else (self.audio, *said)

    @property
    def seconds(self) -> float:
        """Length of all audio; 0 when there is none."""
        return sum(self._durations(), 0.0)

    @property
    def too_short(self) -> bool:
        """Whether some audio is shorter than one frame of a spectrogram, so that no model can say anything of it."""
        return any(duration < FRAME for duration in self._durations())

    def _durations(self) -> list[float]:
        return [audio_info(audio, name=f"sample {self.key!r}").duration for audio in self.spoken]


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
    peak_gpu_memory_bytes: int | None = None
    """The most memory that PyTorch took on GPUs; ``None`` without one."""
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

    def choose(self, count: int, seed: int = 0) -> Samples:
        """Return ``count`` of the samples in their order, chosen at random; the same for the same seed.

        Raises:
            SamplesError: There are fewer.
        """
        if not 0 < count <= len(self.items):
            raise SamplesError(
                f"{self.path or 'samples'}: there are {len(self.items)} samples, and {count} are asked for"
            )
        places = sorted(random.Random(seed).sample(range(len(self.items)), count))
        items = tuple(self.items[place] for place in places)
        return Samples(items, self.path, _digest(items))

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
    """Read a JSON Lines manifest, or a directory with Kaldi's ``wav.scp``, ``text`` and ``segments``.

    Args:
        path: ``*.jsonl``, a ``wav.scp``, or a directory that holds one. Paths, those in ``messages`` too, are relative
            to the manifest.

    Raises:
        SamplesError: A line is broken, a key stands twice, a file is missing, or audio is none, empty or cut off as far
            as its header shows; the message names file and line.
    """
    path = Path(path)
    with contextlib.suppress(OSError):  # a name that no file can have
        if path.is_dir():
            path = path / "wav.scp"
    if not exists(path):
        raise SamplesError(f"{shown(str(path))}: no such manifest; give a .jsonl file, or a directory with wav.scp")
    items: dict[str, Sample] = {}
    for where, fields in (read_kaldi if path.name.endswith(".scp") else read_json_lines)(path):
        if fields["key"] in items:
            raise SamplesError(f"{where}: the key {fields['key']!r} stands twice")
        items[fields["key"]] = _sample(fields, where)
    if not items:
        raise SamplesError(f"{path}: the manifest has no samples")
    samples = tuple(items.values())
    return Samples(samples, path, _digest(samples))


def check_audio(samples: Samples, progress: Progress = silent) -> None:
    """Read all audio of the samples once: what is wrong with one is told before a model has run on the others.

    Raises:
        SamplesError: Audio is damaged, cut off, empty, or holds what is no number; names the sample and the file.
    """
    for number, sample in enumerate(samples):
        for audio in sample.spoken:
            read_audio(audio, audio_info(audio).sampling_rate, name=f"sample {sample.key!r}")
        progress("read audio", number + 1, len(samples))


def _sample(fields: Mapping[str, Any], where: str) -> Sample:
    try:
        sample = Sample(**fields)
        for audio in sample.spoken:
            audio_info(audio)
    except SamplesError as error:
        raise SamplesError(f"{where}: sample {fields['key']!r}: {error}") from None
    return sample


def _items(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if not isinstance(content := message.get("content") or (), str):
            yield from content


def _digest(items: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    whole: dict[Path, str] = {}
    for sample in items:
        messages = [_identified(message) for message in sample.messages]
        digest.update(f"{sample.key}\0{sample.text}\0{list(sample.words)}\0{messages}\0".encode())
        if isinstance(sample.audio, AudioSegment):
            piece = (sample.audio.start, sample.audio.end)
            digest.update(f"{_file_digest(sample.audio.path, whole)}\0{piece}\0".encode())
        elif sample.audio is not None:
            digest.update(_bytes(sample.audio))
    return digest.hexdigest()


def _file_digest(path: Path, known: dict[Path, str]) -> str:
    """Of a recording that many pieces are of, once."""
    if path not in known:
        known[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return known[path]


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
    if isinstance(media, Path):
        return media.read_bytes()
    if not hasattr(media, "tobytes"):
        import numpy as np

        media = np.asarray(media)
    return bytes(media.tobytes())
