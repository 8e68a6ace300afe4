"""A client of exported graphs that needs the graph's engine and NumPy, for checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from sottovoce.errors import OutputError, SourceError
from sottovoce.system.audio import FRAME, SAMPLE_RATE
from sottovoce_paraformer.filter_banks import FrontEnd

_SILENT = frozenset({"<blank>", "<s>", "</s>", "<unk>", "<OOV>"})
"""Tokens that are not part of a text."""
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_HOTWORD_TOKENS = 10
_FRAMES, _HOTWORDS = 30, 2
"""Sizes of the random inputs of a check."""


class Session(Protocol):
    """A loaded graph of any engine."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Shapes of the inputs by name."""
        ...

    def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the graph on NumPy arrays, and return its outputs by name."""
        ...


class GraphClient:
    """Recognizer by a graph, with the front end and the tokens of its model."""

    def __init__(self, session: Session, encoder: Session | None, frontend: FrontEnd, tokens: list[str]) -> None:
        """Put a recognizer together.

        Args:
            session: The recognizer's graph.
            encoder: The graph of the hotwords' encoder, where the recognizer takes them.
            frontend: The model's front end.
            tokens: The tokens by number.
        """
        self._session, self._frontend, self._tokens = session, frontend, tokens
        self._hotwords = {} if encoder is None else {"bias_embed": no_hotwords(encoder, tokens)}

    @classmethod
    def beside(cls, directory: Path, session: Session, encoder: Session | None = None) -> GraphClient:
        """Put a recognizer together of a graph and the files that lie beside it.

        Raises:
            SourceError: One of them is missing, or cannot be read.
        """
        from sottovoce.checkpoint.safe_config import read_config

        for name in ("config.yaml", "am.mvn", "tokens.txt"):
            if not (directory / name).is_file():
                raise SourceError(f"{directory}: no {name}, which the export wrote beside the graph")
        options = dict(read_config(directory / "config.yaml", (), references=True).get("frontend_conf") or {})
        try:
            frontend = FrontEnd.of_files(options, (directory / "am.mvn").read_text(encoding="utf-8"))
        except ValueError as error:
            raise SourceError(f"{directory}: the front end cannot be used ({error})") from None
        return cls(session, encoder, frontend, read_tokens(directory))

    def __call__(self, audio: Any) -> str:
        """Return what is said in audio ``[time]`` of 16 kHz."""
        import numpy

        if len(audio) < FRAME * SAMPLE_RATE:
            return ""
        features, lengths = self.features(audio)
        inputs = {"speech": features, "speech_lengths": lengths.astype(numpy.int32), **self._hotwords}
        outputs = self._session.run(inputs)
        count = int(outputs["token_num"][0])
        return self.text(outputs["logits"][0, :count].argmax(axis=-1).tolist())

    def features(self, audio: Any) -> tuple[Any, Any]:
        """Return filter banks ``[1, frames, features]`` and their number ``[1]``."""
        import numpy

        features = self._frontend(audio)
        return features[None], numpy.array([len(features)])

    def text(self, ids: list[int]) -> str:
        """Return the text of tokens by their numbers."""
        spoken = [token for token in (self._tokens[number] for number in ids) if token not in _SILENT]
        if all(_CHINESE.fullmatch(token) for token in spoken):
            return "".join(spoken)
        # Imported only for parts of words and abbreviations: it brings PyTorch.
        from funasr.utils.postprocess_utils import sentence_postprocess

        text: str = sentence_postprocess(spoken)[0]
        return text


def read_tokens(directory: Path) -> list[str]:
    """Return the tokens of ``tokens.txt`` by number."""
    lines = (directory / "tokens.txt").read_text(encoding="utf-8").splitlines()
    return [line.rpartition(" ")[0] for line in lines]


def no_hotwords(encoder: Session, tokens: list[str]) -> Any:
    """Return the input that says that there are no hotwords: the embedding of the start of a sentence."""
    import numpy

    start = numpy.zeros((1, _HOTWORD_TOKENS), numpy.int32)
    start[0, 0] = tokens.index("<s>")
    return encoder.run({"hotword": start})["hw_embed"][0][None]


def check_graph(name: str, session: Session, encoder: Session | None) -> None:
    """Run a recognizer on random features, with hotwords where it takes them.

    Raises:
        OutputError: What it gives is not finite.
    """
    import numpy

    random = numpy.random.default_rng(0)
    features = random.standard_normal((1, _FRAMES, session.inputs["speech"][2]), numpy.float32)
    inputs: dict[str, Any] = {"speech": features, "speech_lengths": numpy.array([_FRAMES], numpy.int32)}
    if encoder is not None:
        hotwords = numpy.ones((_HOTWORDS, encoder.inputs["hotword"][1]), numpy.int32)
        # The embedding after the last token stands for a hotword.
        inputs["bias_embed"] = encoder.run({"hotword": hotwords})["hw_embed"][-1][None]
    if not numpy.isfinite(session.run(inputs)["logits"]).all():
        raise OutputError(f"{name}: gives numbers that are not finite; is a weight damaged?")
