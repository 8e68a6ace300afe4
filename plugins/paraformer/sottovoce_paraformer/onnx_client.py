"""A client of exported graphs that needs onnxruntime and FunASR's filter banks, for checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sottovoce.errors import SourceError
from sottovoce.formats.onnx import OnnxSession
from sottovoce.system.audio import FRAME, SAMPLE_RATE

_SILENT = frozenset({"<blank>", "<s>", "</s>", "<unk>", "<OOV>"})
"""Tokens that are not part of a text."""
_HOTWORD_TOKENS = 10


class OnnxClient:
    """Recognizer by a graph, the metadata inside it and ``tokens.txt`` beside it."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load a graph.

        Args:
            path: The graph.
            threads: Number of threads; 0 is onnxruntime's choice.

        Raises:
            SourceError: The graph has no metadata of Paraformer's, or the tokens are not as many as it says.
            OutputError: onnxruntime is not installed, or does not read the graph.
        """
        import torch
        from funasr.frontends.wav_frontend import WavFrontend

        self._session = OnnxSession(path, threads)
        facts = self._session.metadata
        if missing := {"vocab_size", "lfr_window_size", "lfr_window_shift", "neg_mean", "inv_stddev"} - facts.keys():
            raise SourceError(f"{path.name}: has no metadata {min(missing)!r}; export the model again")
        lines = (path.parent / "tokens.txt").read_text(encoding="utf-8").splitlines()
        self._tokens = [line.rpartition(" ")[0] for line in lines]
        if len(self._tokens) != int(facts["vocab_size"]):
            raise SourceError(
                f"tokens.txt has {len(self._tokens)} tokens, and {path.name} {facts['vocab_size']}; they are of "
                "different models"
            )
        window, shift = int(facts["lfr_window_size"]), int(facts["lfr_window_shift"])
        self._frontend = WavFrontend(lfr_m=window, lfr_n=shift, dither=0.0, n_mels=self._width // window)
        normalization = [[float(value) for value in facts[name].split(",")] for name in ("neg_mean", "inv_stddev")]
        self._frontend.cmvn = torch.tensor(normalization)
        self._hotwords = self._no_hotwords(path)

    @property
    def _width(self) -> int:
        return int(self._session.inputs["speech"][2])

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
        import torch

        features, lengths = self._frontend(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
        return features.numpy(), lengths.numpy()

    def text(self, ids: list[int]) -> str:
        """Return the text of tokens by their numbers."""
        from funasr.utils.postprocess_utils import sentence_postprocess

        spoken = [token for token in (self._tokens[number] for number in ids) if token not in _SILENT]
        text: str = sentence_postprocess(spoken)[0] if spoken else ""
        return text

    def _no_hotwords(self, path: Path) -> dict[str, Any]:
        """Return the input that says that there are no hotwords: the embedding of the start of a sentence."""
        import numpy

        if "bias_embed" not in self._session.inputs:
            return {}
        encoder = OnnxSession(path.with_name(path.name.replace("model", "model_eb", 1)))
        start = numpy.zeros((1, _HOTWORD_TOKENS), numpy.int32)
        start[0, 0] = self._tokens.index("<s>")
        return {"bias_embed": encoder.run({"hotword": start})["hw_embed"][0][None]}
