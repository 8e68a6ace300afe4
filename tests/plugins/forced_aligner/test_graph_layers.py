"""The aligner's graph gives the logits of transformers' model for any length, also of a model with fewer heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from plugins.forced_aligner.tiny import make_native, make_processor
from sottovoce.errors import UsageError
from sottovoce_forced_aligner.graph import AlignerGraph, graph_of

RATE = 16000
WINDOW = 800


@pytest.fixture(scope="module")
def processor() -> Any:
    return make_processor()


@pytest.fixture(scope="module")
def native(processor: Any) -> Any:
    return make_native(processor)


def both(native: Any, processor: Any, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    noise = 0.1 * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(0)).numpy()
    content = [{"type": "audio", "audio": noise}, *({"type": "text", "text": word} for word in "abc")]
    batch = processor.apply_chat_template([[{"role": "user", "content": content}]], tokenize=True, return_dict=True)
    features, frames = batch["input_features"], batch["input_features_mask"].sum(dim=1)
    padded = torch.nn.functional.pad(features, (0, -features.shape[2] % WINDOW))
    with torch.no_grad():
        graph = graph_of(native).module.eval()
        return graph(padded, frames, batch["input_ids"]), native(**batch).logits


@pytest.mark.parametrize("seconds", [0.6, 2.0, 7.99, 8.0, 8.03, 19.3])
def test_logits_are_those_of_transformers(native: Any, processor: Any, seconds: float) -> None:
    logits, expected = both(native, processor, seconds)
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=1e-3)


def test_the_model_is_left_as_it_was(native: Any) -> None:
    before = {name: tensor.clone() for name, tensor in native.state_dict().items()}
    graph_of(native)
    after = native.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_model_in_bfloat16_gives_a_graph_in_float32(processor: Any) -> None:
    native = make_native(processor, torch.bfloat16)
    dtypes = {tensor.dtype for tensor in graph_of(native).module.state_dict().values()}
    assert dtypes == {torch.float32}
    assert native.dtype == torch.bfloat16


def test_windows_that_are_not_whole_chunks_are_refused_in_a_line(processor: Any) -> None:
    native = make_native(processor)
    native.config.audio_config.n_window_infer = 3 * native.config.audio_config.n_window
    with pytest.raises(UsageError, match=r"attention windows that are not whole chunks .* run it in transformers"):
        AlignerGraph(native)
