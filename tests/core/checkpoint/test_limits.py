"""Numbers of a configuration within what a model can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.checkpoint.limits import ANY, check_numbers
from sottovoce.errors import SourceError

PATH = Path("m/config.json")


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 10**9},
        {"encoder_layers": 10**8},
        {"depth": -5},
        {"num_experts": 10**9},
        {"n_fft": 2_000_000},
        {"hop_length": 0},
        {"hop_length": -1},
        {"sampling_rate": 10**9},
        {"rms_norm_eps": 5.0},
        {"num_labels": 10**9},
        {"hidden_size": 10**9},
        {"num_beams": 10**6},
        {"image_std": [0.5, 0.0, 0.5]},
        {"anything": 10**400},
        {"anything": -(10**30)},
    ],
    ids=str,
)
@pytest.mark.parametrize("deep", [False, True])
def test_number_out_of_bounds_is_refused_by_name(config: dict[str, Any], deep: bool) -> None:
    (name,) = config
    with pytest.raises(SourceError, match=rf"config\.json: .*{name}.* is .*which is not between") as caught:
        check_numbers({"inner": [config]} if deep else config, PATH)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("value", [True, False, "400", "x"])
@pytest.mark.parametrize("key", ["n_fft", "hop_length", "sampling_rate", "num_beams"])
def test_text_in_place_of_a_number_is_refused(key: str, value: Any) -> None:
    with pytest.raises(SourceError, match=f"{key} is .*, not a number"):
        check_numbers({"inner": {key: value}}, PATH)


@pytest.mark.parametrize(
    "config",
    [
        {"model_max_length": 10**30, "rope_theta": 10**9, "vocab_size": 151_936, "max_position_embeddings": 10_485_760},
        {"n_fft": 400, "hop_length": 160, "feature_size": 128, "sampling_rate": 16_000, "chunk_length": 300},
        {"num_hidden_layers": 48, "num_experts": 128, "rms_norm_eps": 1e-6, "sliding_window": None, "use_cache": True},
        {"accept_hidden_layer": -1, "video_processor": {"size": {"longest_edge": 12_845_056}}},
    ],
)
def test_numbers_of_published_models_are_accepted(config: dict[str, Any]) -> None:
    check_numbers(config, PATH)


@given(st.text(min_size=1, max_size=8), st.integers() | st.floats(allow_nan=False))
def test_any_number_is_accepted_or_refused_in_one_line(key: str, value: float) -> None:
    try:
        check_numbers({key: value}, PATH)
    except SourceError as error:
        assert len(str(error)) <= 300
        assert "\n" not in str(error)
    else:
        assert abs(value) <= ANY
