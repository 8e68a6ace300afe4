"""Samples, read from manifests, and a model's predictions on them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from sottovoce.errors import SamplesError
from sottovoce.report.number_format import counted
from sottovoce.samples.field_types import check_types
from sottovoce.samples.kaldi import read_kaldi
from sottovoce.samples.languages import language_code
from sottovoce.samples.manifests import MEDIA, exists, read_json_lines, shown
from sottovoce.system.audio import FRAME, AudioSegment, audio_info, read_audio
from sottovoce.system.path_argument import as_path
from sottovoce.system.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Line of a manifest.

    ``audio`` is a file, a segment of one, or samples of 16 kHz; :func:`~sottovoce.system.audio.read_audio` reads them.
    ``language`` may be given by any name or code of :mod:`~sottovoce.samples.languages` and is stored as its code;
    another text raises :class:`~sottovoce.errors.SamplesError`. ``messages`` are a conversation, each a mapping with a
    ``role`` and a ``content``: text, or items such as ``{"type": "audio", "audio": ...}``, whose media are like
    ``audio``; a video is a file or a list of images.
    """

    key: str
    audio: Path | AudioSegment | NDArray[np.float32] | None = None
    text: str | None = None
    language: str | None = None
    words: Sequence[Mapping[str, Any]] = ()
    messages: Sequence[Mapping[str, Any]] = ()
    modality: str = ""
    """Modality that metrics count the sample under; by default the first of video, audio and image that occurs, or else
    text."""
    max_new_tokens: int | None = None
    """Most tokens of the answer to a conversation; by default what the family allows."""

    def __post_init__(self) -> None:
        check_types(self.key, self.text, self.words, self.messages)
        if isinstance(self.audio, str | os.PathLike):
            object.__setattr__(self, "audio", as_path(self.audio, "audio"))
        if not self.modality:
            modality = next((kind for kind in MEDIA if kind in self.modalities), "text")
            object.__setattr__(self, "modality", modality)
        if self.language is not None:
            object.__setattr__(self, "language", language_code(self.language))

    @property
    def modalities(self) -> frozenset[str]:
        """Kinds of content that occur: ``text``, ``audio``, ``image``, ``video``."""
        kinds = {"text" for message in self.messages if isinstance(message.get("content"), str)}
        kinds |= {str(item["type"]) for item in _items(self.messages)}
        if self.audio is not None:
            kinds.add("audio")
        return frozenset(kinds or {"text"})

    @property
    def spoken(self) -> tuple[Any, ...]:
        """All audio: that of the sample, and that of its messages."""
        audio = tuple(item["audio"] for item in _items(self.messages) if item["type"] == "audio")
        return audio if self.audio is None else (self.audio, *audio)

    @property
    def seconds(self) -> float:
        """Length of all audio in seconds; 0 without audio."""
        return sum(self._durations(), 0.0)

    @property
    def too_short(self) -> bool:
        """If true, some audio is shorter than one frame of a spectrogram, so that no model can recognize it."""
        return any(duration < FRAME for duration in self._durations())

    def _durations(self) -> list[float]:
        return [audio_info(audio, name=f"sample {self.key!r}").duration for audio in self.spoken]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Output of a model for a sample; ``text`` is ``None`` without a hypothesis."""

    text: str | None = None
    tokens: tuple[str, ...] = ()
    timestamps: Sequence[Sequence[float]] = ()
    cut_off: bool = False
    """If true, the text ends where the longest answer ends, not where the model would have ended it."""
    logits: NDArray[np.float16] | None = None
    """Logits at the first positions of the sample's reference text, ``[positions, vocabulary]``, as
    :func:`~sottovoce.metrics.divergence.compact` gives them; ``None`` if they were not requested."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Predictions of a model on a set of samples, with the time and memory of the run."""

    predictions: Sequence[Prediction]
    seconds: Sequence[float]
    """Wall-clock time of each sample in seconds."""
    audio_seconds: Sequence[float]
    """Length of the audio of each sample in seconds."""
    cpu_seconds: Sequence[float] = ()
    """CPU time of each sample in seconds, of all threads; none where it was not measured."""
    peak_memory_bytes: int | None = None
    """Peak resident memory of the process; ``None`` if it is not known."""
    peak_gpu_memory_bytes: int | None = None
    """Peak of PyTorch's memory on GPUs; ``None`` without GPU."""
    expert_runs: float | None = None
    """Mean number of experts that ran for a token of a layer; ``None`` for a model without experts."""


@dataclass(frozen=True, repr=False)
class Samples(Sequence[Sample]):
    """Ordered set of samples with its digest. A slice of it is a set of samples too."""

    items: tuple[Sample, ...]
    path: Path | None = None
    """Manifest that they were read from."""
    digest: str = field(default="", compare=False)
    """Digest (sha256) of samples that were read from a manifest, or of a part of them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        for number, item in enumerate(self.items):
            if not isinstance(item, Sample):
                kind = type(item).__name__
                raise SamplesError(f"item {number} of the samples is of type {kind}; make it a sottovoce.Sample")

    @property
    def title(self) -> str:
        """The manifest's path, for errors."""
        return str(self.path or "the samples")

    def __repr__(self) -> str:
        """Return the manifest's name and the number of samples: all of them would fill a notebook."""
        return f"<Samples {f'{self.path}: ' if self.path else ''}{counted(len(self), 'sample')}>"

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Samples: ...

    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if not isinstance(index, slice):
            return self.items[index]
        return self.part(self.items[index])

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.items)

    def choose(self, count: int, seed: int = 0) -> Samples:
        """Choose ``count`` samples at random, the same for the same seed, and return them in their order.

        Raises:
            SamplesError: There are fewer samples.
        """
        if not isinstance(count, int) or not 0 < count <= len(self.items):
            raise SamplesError(
                f"{self.title}: {count} of {counted(len(self.items), 'sample')} cannot be chosen; "
                "give from 1 to all of them"
            )
        places = sorted(random.Random(seed).sample(range(len(self.items)), count))
        return self.part(tuple(self.items[place] for place in places))

    def part(self, items: tuple[Sample, ...]) -> Samples:
        """Return the set of these items, with their own digest and the name of this manifest."""
        return Samples(items, self.path, _digest(items))

    @property
    def identity(self) -> str:
        """Digest, computed again for samples that are from no manifest."""
        return self.digest or _digest(self.items)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for a report: name, count, length in seconds and digest, and how many are too short."""
        facts = {
            "name": self.path.name if self.path else None,
            "count": len(self),
            "audio_seconds": round(sum(sample.seconds for sample in self), 3),
            "sha256": self.identity if self.items else None,
        }
        too_short = sum(sample.too_short for sample in self)
        return facts | ({"too_short": too_short} if too_short else {})


def read_samples(path: str | os.PathLike[str]) -> Samples:
    """Read a JSON Lines manifest, or a directory with Kaldi's ``wav.scp``, ``text`` and ``segments``.

    Args:
        path: ``*.jsonl``, a ``wav.scp``, or a directory that holds one. Paths, those in ``messages`` too, are relative
            to the manifest.

    Raises:
        SamplesError: A line is broken, a key occurs twice, a file is missing, or an audio file is invalid, empty or cut
            off by its header; the message names file and line.
    """
    path = as_path(path, "path")
    with contextlib.suppress(OSError):  # a name that no file can have
        if path.is_dir():
            path = path / "wav.scp"
    if not exists(path):
        raise SamplesError(f"{shown(str(path))}: no such manifest; give a .jsonl file, or a directory with wav.scp")
    items: dict[str, Sample] = {}
    for where, fields in (read_kaldi if path.name.endswith(".scp") else read_json_lines)(path):
        if fields["key"] in items:
            raise SamplesError(f"{where}: the key {fields['key']!r} occurs twice")
        items[fields["key"]] = _sample(fields, where)
    if not items:
        raise SamplesError(f"{path}: the manifest has no samples")
    samples = tuple(items.values())
    return Samples(samples, path, _digest(samples))


def check_audio(samples: Samples, progress: Progress = silent) -> None:
    """Read all audio of the samples once, so that errors are reported before a model runs.

    Raises:
        SamplesError: Audio is damaged, cut off, empty, or holds NaN; names the sample and the file.
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
    digests: dict[Path, str] = {}
    for sample in items:
        messages = [_identified(message) for message in sample.messages]
        digest.update(f"{sample.key}\0{sample.text}\0{list(sample.words)}\0{messages}\0".encode())
        if isinstance(sample.audio, AudioSegment):
            times = (sample.audio.start, sample.audio.end)
            digest.update(f"{_file_digest(sample.audio.path, digests)}\0{times}\0".encode())
        elif sample.audio is not None:
            digest.update(_bytes(sample.audio))
    return digest.hexdigest()


def content_digest(sample: Sample, known: dict[Path, str]) -> str:
    """Return the digest (sha256) of what is heard, seen and said in a sample, whatever its key.

    Args:
        sample: The sample.
        known: Digests of recordings that several segments are parts of; new ones are added.
    """
    digest = hashlib.sha256(f"{[_identified(message) for message in sample.messages]}\0".encode())
    if isinstance(sample.audio, AudioSegment):
        times = (sample.audio.start, sample.audio.end)
        digest.update(f"{_file_digest(sample.audio.path, known)}\0{times}".encode())
    elif sample.audio is not None:
        digest.update(_bytes(sample.audio))
    if sample.audio is None:
        digest.update(str(sample.text).encode())
    return digest.hexdigest()


def _file_digest(path: Path, known: dict[Path, str]) -> str:
    """Return the digest of a recording, which is computed once for all its segments."""
    if path not in known:
        known[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    return known[path]


def _identified(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message with the digests of its media in place of their paths."""
    if isinstance(content := message.get("content") or (), str):
        return message
    return {**message, "content": [_identified_item(item) for item in content]}


def _identified_item(item: Mapping[str, Any]) -> Mapping[str, Any]:
    if (kind := item["type"]) not in MEDIA:
        return item
    parts = item[kind] if isinstance(item[kind], list | tuple) else [item[kind]]
    return {**item, kind: [hashlib.sha256(_bytes(part)).hexdigest() for part in parts]}


def _bytes(media: Any) -> bytes:
    """Return the bytes of a file, an array or an image."""
    if isinstance(media, Path):
        return media.read_bytes()
    if not hasattr(media, "tobytes"):
        import numpy as np

        media = np.asarray(media)
    return bytes(media.tobytes())
