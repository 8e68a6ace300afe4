"""Tiny models with their graphs, and FunASR's own outputs to hold them against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from plugins.paraformer.tiny import FEATURES, NO_BIAS, load, make_model
from sottovoce.model import Model
from sottovoce.source import Repository, Source
from sottovoce_paraformer.onnx_export import export_onnx

HOTWORD_KINDS = ("SeacoParaformer", "ContextualParaformer")
TIMED_KINDS = ("BiCifParaformer", "SeacoParaformer")


class Exported:
    """A tiny model with its graphs."""

    def __init__(self, root: Path, kind: str, **changes: Any) -> None:
        source = make_model(root / "model", kind, **changes)
        native = load(source)
        self.kind = kind
        self.model = Model(
            module=native.model,
            native=native,
            architecture=None,
            source=Source(name=kind, directory=source, repository=Repository(id="someone/tiny")),
        )
        self.directory = root / "onnx"
        self.export()

    def export(self) -> None:
        self.directory.mkdir(exist_ok=True)
        assert export_onnx(self.model, self.directory) == self.directory

    def run(self, speech: torch.Tensor, lengths: torch.Tensor, hotwords: Any = None, name: str = "model") -> Any:
        feed = {"speech": speech.numpy(), "speech_lengths": lengths.int().numpy()}
        if self.kind in HOTWORD_KINDS:
            feed["bias_embed"] = np.repeat(self.embed(hotwords)[None], len(lengths), axis=0)
        return self.session(name).run(None, feed)

    def embed(self, hotwords: list[list[int]]) -> Any:
        """What funasr-onnx does: pad to 10, take the embedding after the last token."""
        padded = np.zeros((len(hotwords), 10), np.int32)
        for row, hotword in zip(padded, hotwords, strict=True):
            row[: len(hotword)] = hotword
        embedded = self.session("model_eb").run(None, {"hotword": padded})[0]
        return embedded[[len(hotword) - 1 for hotword in hotwords], range(len(hotwords))]

    def session(self, name: str) -> Any:
        return onnxruntime.InferenceSession(self.directory / f"{name}.onnx", providers=["CPUExecutionProvider"])


@torch.no_grad()
def run_torch(module: Any, speech: torch.Tensor, lengths: torch.Tensor, hotwords: Any = None) -> list[torch.Tensor]:
    """The steps of FunASR's ``inference``, in its order."""
    kind = type(module).__name__
    memory, sizes = module.encode(speech, lengths)
    embeddings, count = module.calc_predictor(memory, sizes)[:2]
    count = count.round().long()
    if kind == "SeacoParaformer":
        logits = module._seaco_decode_with_ASF(memory, sizes, embeddings, count, hw_list=hotwords)
    elif kind == "ContextualParaformer":
        logits = module.cal_decoder_with_predictor(memory, sizes, embeddings, count, hw_list=hotwords)[0]
    else:
        logits = module.cal_decoder_with_predictor(memory, sizes, embeddings, count)[0]
    timed = kind in TIMED_KINDS
    return [logits, count, *(module.calc_predictor_timestamp(memory, sizes, count)[2:] if timed else ())]


def batch(lengths: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    speech = torch.randn(len(lengths), max(lengths), FEATURES, generator=random)
    for row, length in zip(speech, lengths, strict=True):
        row[length:] = 0
    return speech, torch.tensor(lengths)


def some_hotwords(count: int) -> list[list[int]]:
    random = np.random.default_rng(count)
    return [random.integers(3, NO_BIAS, random.integers(1, 9)).tolist() for _ in range(count)] + [[1]]


_CACHE: dict[str, Exported] = {}


def cached(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Exported:
    if kind not in _CACHE:
        _CACHE[kind] = Exported(tmp_path_factory.mktemp(kind), kind)
    return _CACHE[kind]
