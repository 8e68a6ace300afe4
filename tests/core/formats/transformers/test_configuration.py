"""A configuration holds what its class knows."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.errors import SourceError
from sottovoce.formats.transformers.configuration import read_settings, stated_dtype

MODELS = Path(__file__).parents[4] / "examples" / "models"
PATH = Path("m/config.json")
OMNI = transformers.Qwen3OmniMoeForConditionalGeneration
PLACES = ((), ("thinker_config",), ("thinker_config", "text_config"), ("talker_config", "code_predictor_config"))


def omni(place: tuple[str, ...] = (), **change: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((MODELS / "tiny-omni" / "config.json").read_text(encoding="utf-8"))
    part = config
    for key in place:
        part = part[key]
    part |= change
    return config


@pytest.mark.parametrize("place", PLACES, ids=".".join)
@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "experts_implementation", "use_kernels"]
)
@pytest.mark.parametrize(
    "value", ["owner/kernel", "owner/kernel@v1:run", "kernels-community/x", {"": "owner/kernel"}], ids=str
)
def test_kernels_of_others_are_refused_wherever_they_are_named(place: tuple[str, ...], key: str, value: Any) -> None:
    with pytest.raises(SourceError, match=rf"{key} .* is refused: it would be fetched and run"):
        read_settings(OMNI, omni(place, **{key: value}), PATH)


@pytest.mark.parametrize("place", PLACES, ids=".".join)
@pytest.mark.parametrize("value", ["eager", "sdpa", "flash_attention_2", None])
def test_how_a_model_is_computed_says_nothing_of_it(place: tuple[str, ...], value: str | None) -> None:
    settings = read_settings(OMNI, omni(place, _attn_implementation=value), PATH)
    assert settings.thinker_config.text_config._attn_implementation_internal is None


def test_words_that_no_class_knows_are_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sottovoce"):
        settings = read_settings(OMNI, omni(("thinker_config",), trainer="/home/x", steps=7, widths=[1, 2]), PATH)
    assert "left out of config.json: thinker_config.trainer" in caplog.text
    assert not hasattr(settings.thinker_config, "trainer")
    assert settings.thinker_config.steps == 7
    assert settings.thinker_config.widths == [1, 2]


def test_the_bundled_configurations_lose_nothing(caplog: pytest.LogCaptureFixture) -> None:
    config = omni()
    settings = read_settings(OMNI, config, PATH)
    assert "left out" not in caplog.text
    stock = transformers.AutoConfig.for_model(**config)
    assert settings.to_dict() == stock.to_dict()


@pytest.mark.parametrize("stated", ["nonsense", "llama", 3, ["qwen3_omni_moe"], "a\x1b[31m"], ids=str)
def test_a_model_type_of_another_class_is_refused(stated: Any) -> None:
    with pytest.raises(SourceError, match="model_type .* is not that of"):
        read_settings(OMNI, omni(model_type=stated), PATH)


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": "x"},
        {"hidden_size": None},
        {"hidden_size": []},
        {"rope_parameters": 3},
        {"layer_types": ["nothing"]},
        {"mlp_only_layers": "x"},
    ],
    ids=str,
)
def test_values_of_another_kind_are_one_line(change: dict[str, Any]) -> None:
    place = ("thinker_config", "text_config")
    try:
        read_settings(OMNI, omni(place, **change), PATH)
    except SourceError as error:
        assert str(error).startswith("m/config.json: ")
        assert len(str(error)) <= 300


@pytest.mark.parametrize("part", ["thinker_config", "talker_config"])
@pytest.mark.parametrize("value", [3, "x", [], True])
def test_a_part_that_is_no_mapping_is_named(part: str, value: Any) -> None:
    with pytest.raises(SourceError, match=f"{part} must be a mapping"):
        read_settings(OMNI, omni(**{part: value}), PATH)


@given(st.sampled_from(PLACES), st.text(max_size=12), st.text(max_size=40))
def test_any_word_under_any_key_is_taken_left_out_or_refused(place: tuple[str, ...], key: str, value: str) -> None:
    try:
        read_settings(OMNI, omni(place, **{key: value}), PATH)
    except SourceError as error:
        assert len(str(error)) <= 300


@pytest.mark.parametrize("stated", ["load", "int8", "float8_e4m3fn", 3, [], "float32; x", "Tensor"])
def test_a_type_that_no_weights_have_is_refused(stated: Any) -> None:
    if stated:
        with pytest.raises(SourceError, match="is none of float32"):
            stated_dtype({"dtype": stated}, PATH)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"dtype": "auto"}, None),
        ({}, None),
    ],
)
def test_a_type_is_read_under_both_its_names(config: dict[str, Any], expected: str | None) -> None:
    assert stated_dtype(config, PATH) == expected
