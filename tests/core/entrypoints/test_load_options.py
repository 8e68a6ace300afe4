"""Every keyword of ``load`` is heeded or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from sottovoce.entrypoints.load_options import read_options
from sottovoce.errors import UsageError
from sottovoce.source import LoadOptions


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"model_revision": "v2.0.4"}, "revision", "v2.0.4"),
        ({"model_revision": "v2", "revision": "v2"}, "revision", "v2"),
        ({"model_revision": None, "revision": "v2"}, "revision", "v2"),
        ({"torch_dtype": torch.bfloat16}, "dtype", "bfloat16"),
        ({"dtype": torch.float16}, "dtype", "float16"),
        ({"hub": "ms"}, "hub", "modelscope"),
        ({"hub": "huggingface"}, "hub", "hf"),
        ({"allow_unexpected": "re:x.*"}, "allow_unexpected", ("re:x.*",)),
        ({"allow_unexpected": ["a", "b"]}, "allow_unexpected", ("a", "b")),
        ({"cache_dir": "cache"}, "cache_dir", Path("cache")),
        ({"weights": "model.pt.best"}, "weights", "model.pt.best"),
        ({"weights": Path("model.pt.best")}, "weights", "model.pt.best"),
        ({"device": torch.device("cuda", 1)}, "device", "cuda:1"),
        ({"device": None}, "device", "cpu"),
        ({"cache_dir": "~/cache"}, "cache_dir", Path.home() / "cache"),
        ({"token": True}, "token", True),
        ({"trust_remote_code": False}, "native", {}),
        ({"vad_model": "fsmn-vad"}, "native", {"vad_model": "fsmn-vad"}),
    ],
)
def test_given_option_is_honored(given: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(read_options(given), field) == value


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"hub": ["hf"]}, "no such hub"),
        ({"cache_dir": 5}, "cache_dir: give a path, not int"),
        ({"weights": 5}, "weights: give the name of a file, not int"),
        ({"revision": 5}, "revision: give a text, not int"),
        ({"token": 5}, "token: give a text, not int"),
        ({"allow_unexpected": 5}, "allow_unexpected: give patterns of names, not int"),
        ({"allow_unexpected": ["a", 5]}, "allow_unexpected: give patterns of names, not int"),
        ({"model_revision": "v1", "revision": "v2"}, "model_revision='v1' and revision='v2' disagree"),
        ({"torch_dtype": "float16", "dtype": "float32"}, "disagree"),
        ({"hub": "github"}, "hub='github': no such hub; give hf or modelscope"),
        ({"dtype": "int8"}, "dtype='int8': not one of auto, float32"),
        ({"trust_remote_code": True}, "code in a model repository is never run"),
        ({"device_map": "auto"}, "device_map is not accepted: a model is on one device: give device="),
        ({"load_in_4bit": True}, "give the recipe int4"),
        ({"quantization_config": {}}, "give a recipe"),
    ],
)
def test_option_that_cannot_be_honored_is_an_error(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_options(given)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_library_option_is_named_with_a_similar_one() -> None:
    options = LoadOptions(native={"vad_modle": "x", "zzz": 1, "vad_model": "y", "revison": "v1"})
    with pytest.raises(UsageError) as caught:
        options.refuse_unknown(("vad_model", "vad_kwargs"), "FunASR")
    assert str(caught.value) == (
        "FunASR has no such option: revison (did you mean revision?), vad_modle (did you mean vad_model?), zzz"
    )


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"foo": 1}, {"weights": "model.pt"}])
def test_options_for_a_model_in_memory_are_refused_where_nothing_is_loaded(options: dict[str, Any]) -> None:
    examples = Path(__file__).parents[3] / "examples"
    model = sottovoce.load(examples / "models" / "tiny-paraformer")
    with pytest.raises(UsageError, match=f"{next(iter(options))} would change nothing, since the model is loaded"):
        sottovoce.evaluate(model, examples / "data" / "mandarin-commands" / "test.jsonl", model, **options)
