"""Attentions of FunASR with fewer heads compute what those do whose other heads nobody reads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plugins.paraformer.exported import HOTWORD_KINDS, Exported, batch, run_torch, some_hotwords
from plugins.paraformer.test_sanm import error, quantize, run
from plugins.paraformer.tiny import KINDS, load, make_model
from sottovoce.runtime.backends import instructions, onednn
from sottovoce_paraformer.heads import PrunedSelfAttention, describe, keep_heads_
from sottovoce_paraformer.sanm import optimize_for_inference
from sottovoce_paraformer.sanm_layers import FusedEncoderLayer

KEPT = [1, 3]
LENGTHS, TOKENS = [60, 31, 7], [9, 4, 1]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "model")


def keep_(module: Any, kept: list[int] = KEPT) -> Any:
    """Remove heads from every attention, in place."""
    for name, child in list(module.named_modules()):
        if name.endswith(("self_attn", "src_attn")) and hasattr(child, "linear_out"):
            keep_heads_(child, kept)
    return module


def mask_(module: Any, kept: list[int] = KEPT) -> Any:
    """Set what reads the other heads to zero, in place."""
    for name, child in module.named_modules():
        if name.endswith(("self_attn", "src_attn")) and hasattr(child, "linear_out"):
            for head in set(range(child.h)) - set(kept):
                child.linear_out.weight.data[:, head * child.d_k : (head + 1) * child.d_k] = 0
    return module


def test_attention_without_heads_is_one_whose_heads_nobody_reads(kind: str, tmp_path: Path) -> None:
    native = load(make_model(tmp_path / "model", kind))
    small, masked = keep_(copy.deepcopy(native.model)), mask_(native.model)
    assert type(small.encoder.encoders[0].self_attn) is PrunedSelfAttention
    assert small.decoder.decoders[0].src_attn.linear_k_v.out_features == 32
    speech, sizes = batch([40, 25])
    hotwords = some_hotwords(3) if kind in HOTWORD_KINDS else None
    got, want = (run_torch(module, speech, sizes, hotwords) for module in (small, masked))
    for have, expected in zip(got, want, strict=True):
        torch.testing.assert_close(have, expected, atol=1e-4, rtol=1e-4)


def test_streaming_attention_is_one_whose_heads_nobody_reads(source: Path) -> None:
    native = load(source)
    x = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(0))
    outputs = []
    for module in (keep_(copy.deepcopy(native.model)), mask_(native.model)):
        attention = module.encoder.encoders[0].self_attn
        cache: dict[str, Any] | None = None
        with torch.no_grad():
            first, cache = attention.forward_chunk(x, cache, chunk_size=[0, 8, 4], look_back=1)
            second, cache = attention.forward_chunk(x, cache, chunk_size=[0, 8, 4], look_back=1)
        outputs.append(torch.cat((first, second), 1))
    torch.testing.assert_close(*outputs)


def test_heads_may_be_removed_again(source: Path) -> None:
    native = load(source)
    twice = keep_(keep_(copy.deepcopy(native.model)), [1])
    assert describe(twice)["encoder.encoders.0.self_attn"] == [3]
    once = keep_(native.model, [3])
    for got, want in zip(run(twice, LENGTHS, TOKENS), run(once, LENGTHS, TOKENS), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.skipif(not onednn.supported(), reason="this CPU or this PyTorch has no fast u8 by s8 product")
def test_fast_layers_run_attentions_with_fewer_heads(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "bfloat16", lambda: False)
    module = quantize(keep_(load(source).model))
    optimized = copy.deepcopy(module)
    assert optimize_for_inference(optimized)
    assert all(isinstance(layer, FusedEncoderLayer) for layer in optimized.encoder.encoders.plan().layers)
    for got, want, valid in zip(
        run(optimized, LENGTHS, TOKENS), run(module, LENGTHS, TOKENS), (LENGTHS, TOKENS), strict=True
    ):
        assert error(got, want, valid) < 0.06


@pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own
def test_exported_graph_with_fewer_heads_gives_what_torch_gives(kind: str, tmp_path: Path) -> None:
    exported = Exported(tmp_path, kind)
    keep_(exported.model.module)
    exported.export()
    for lengths in ([50], [5, 60, 33]):
        speech, sizes = batch(lengths)
        hotwords = some_hotwords(3) if kind in HOTWORD_KINDS else None
        got = exported.run(speech, sizes, hotwords)
        for have, expected in zip(got, run_torch(exported.model.module, speech, sizes, hotwords), strict=True):
            np.testing.assert_allclose(have, expected.numpy(), atol=1e-3, rtol=1e-3)
