"""Models that a service holds, by the names that callers use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.errors import SottovoceError, UsageError
from sottovoce.serving.api_errors import ApiError
from sottovoce.system.process_state import ignored_warnings
from sottovoce.transcription.transcriber import Transcriber

if TYPE_CHECKING:
    from sottovoce.model import Model

ALIASES = ("whisper-1",)
"""Names that clients send when they cannot be configured; they mean the first model."""


@dataclass(frozen=True)
class ServedModel:
    """Model with the name that callers use."""

    name: str
    model: Model
    transcriber: Transcriber | None = None
    """Transcriber with the model, if its family recognizes speech."""

    takes_hotwords: bool = False
    """If true, words that are likely can be given."""

    @property
    def tells_speakers(self) -> bool:
        """If true, segments of speech have a speaker."""
        return self.transcriber is not None and self.transcriber.diarizer is not None

    @property
    def transcribes(self) -> bool:
        """If true, the model turns speech into text."""
        return self.transcriber is not None

    @property
    def converses(self) -> bool:
        """If true, the model answers messages."""
        return self.model.architecture.task == "conversation"


@dataclass(frozen=True)
class ServedModels:
    """All models of a service; the first is the one that callers get who name none."""

    models: tuple[ServedModel, ...]
    aligner: ServedModel | None = None
    helpers: dict[str, Model] = field(default_factory=dict)
    """Models that work beside the others, by what they do: voice activity, punctuation, speakers."""

    @property
    def first(self) -> ServedModel:
        """The model that the service is for."""
        return self.models[0]

    @property
    def compared(self) -> ServedModel | None:
        """The model that the first is compared with."""
        return self.models[1] if len(self.models) > 1 else None

    def __iter__(self) -> Iterator[ServedModel]:
        """Yield all models that callers may name."""
        yield from self.models
        if self.aligner is not None and self.aligner not in self.models:
            yield self.aligner

    def choose(self, name: str | None, default: ServedModel | None = None) -> ServedModel:
        """Return the model of a name; without a name, or with one that means any, the default.

        Raises:
            ApiError: 404, there is no such model here; lists those that there are.
        """
        if not name or name in ALIASES:
            return default or self.first
        for served in self:
            if served.name == name:
                return served
        names = ", ".join(served.name for served in self)
        message = f"the model {name[:80]!r} is not loaded here; loaded: {names}"
        raise ApiError(404, message, parameter="model", code="model_not_found")


def arrange(
    model: Model,
    compared: Model | None = None,
    *,
    vad: Model | None = None,
    punctuation: Model | None = None,
    aligner: Model | None = None,
    diarizer: Model | None = None,
) -> ServedModels:
    """Give loaded models their names and their parts.

    Raises:
        UsageError: The model does nothing that can be served, a model has another task than its place needs, or an
            option is of no use to the model.
    """
    _check_task(model, "MODEL", "transcription", "alignment", "conversation")
    task = model.architecture.task
    if compared is not None:
        _check_task(compared, "--compare", task)
    if task != "transcription":
        options = {"--vad": vad, "--punc": punctuation, "--aligner": aligner, "--spk": diarizer}
        for option, helper in options.items():
            if helper is not None:
                raise UsageError(f"{option} is for models that transcribe; {model.source.name} does {task}")
    helpers = {"voice activity": vad, "punctuation": punctuation, "speakers": diarizer}
    models = [_serve(loaded, vad, punctuation, aligner, diarizer) for loaded in (model, compared) if loaded is not None]
    if len(models) > 1 and models[0].name == models[1].name:
        models[1] = replace(models[1], name=f"{models[1].name}-base")
    served_aligner = models[0] if task == "alignment" else None
    if aligner is not None:
        _check_task(aligner, "--aligner", "alignment")
        served_aligner = _serve(aligner)
    return ServedModels(
        tuple(models), served_aligner, {name: helper for name, helper in helpers.items() if helper is not None}
    )


def public_name(name: str) -> str:
    """Return a model's name without the directories of this machine: an id of a hub stays."""
    path = Path(name)
    return path.resolve().name if path.exists() or path.is_absolute() else name


def _serve(
    model: Model,
    vad: Model | None = None,
    punctuation: Model | None = None,
    aligner: Model | None = None,
    diarizer: Model | None = None,
) -> ServedModel:
    name = public_name(model.source.name)
    # The library's errors name the model, and callers see them.
    model.source = replace(model.source, name=name)
    if model.architecture.task != "transcription":
        return ServedModel(name, model)
    transcriber = Transcriber(model, vad=vad, punctuation=punctuation, aligner=aligner, diarizer=diarizer)
    return ServedModel(name, model, transcriber, _takes_hotwords(transcriber))


def _takes_hotwords(transcriber: Transcriber) -> bool:
    """Run the family's probe once with a hotword: whether a model takes any can depend on its class."""
    sample = transcriber.model.architecture.runner.probe(transcriber.model)
    try:
        # The first run of a family can import more of its library, which warns of its own code.
        with ignored_warnings():
            transcriber.transcribe(sample.audio, hotwords=(sample.text or "a",))
    except SottovoceError:
        # A model that does not run at all fails in its next run, without hotwords.
        return False
    return True


def _check_task(model: Model, place: str, *tasks: str) -> None:
    task = model.architecture.task or "nothing that can be served"
    if task not in tasks:
        raise UsageError(f"{place} takes a model for {' or '.join(tasks)}; {model.source.name} does {task}")
