"""Values of a FunASR configuration that would end the process, fetch something or fill the memory."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import sottovoce
from sottovoce.errors import CheckpointError, SourceError, UsageError

MODEL = Path(__file__).parents[3] / "examples" / "models" / "tiny-paraformer"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "m"))


def change(model: Path, **sections: Any) -> None:
    path = model / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in sections.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")


def refused(model: Path, problem: str, kind: type[Exception] = SourceError) -> None:
    with pytest.raises(kind, match=problem) as caught:
        sottovoce.load(model)
    assert len(str(caught.value)) <= 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["HuggingfaceTokenizer", "SenseVoiceTokenizer", "WhisperTokenizer", "x", "a/b", 3, ["x"]]
)
def test_a_tokenizer_that_would_fetch_is_not_taken(name: Any, model: Path) -> None:
    change(model, tokenizer=name, tokenizer_conf={"init_param": "owner"})
    refused(model, "tokenizer .* is not taken; there are CharTokenizer, SentencepiecesTokenizer")


@pytest.mark.parametrize("name", ["S3prlFrontend", "WhisperFrontend", "x"])
def test_a_frontend_of_another_kind_is_not_taken(name: str, model: Path) -> None:
    change(model, frontend=name)
    refused(model, "frontend .* is not taken; there are WavFrontend")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frame_shift", 0),
        ("frame_shift", -10),
        ("frame_length", 0),
        ("fs", 10**9),
        ("fs", 0),
        ("n_mels", 10**9),
        ("n_mels", 0),
        ("lfr_m", 10**9),
        ("lfr_n", 0),
        ("dither", -1),
    ],
)
def test_numbers_that_end_the_process_are_refused(key: str, value: int, model: Path) -> None:
    change(model, frontend_conf={key: value})
    refused(model, f"frontend_conf.{key} is {value}, which is not between")


@pytest.mark.parametrize("window", ["nonsense", "", 3])
def test_a_window_that_the_native_code_does_not_know_is_refused(window: Any, model: Path) -> None:
    change(model, frontend_conf={"window": window})
    refused(model, "frontend_conf.window .* is not taken; there are hamming")


@pytest.mark.parametrize("bias", [10**6, -1, 10**300])
def test_a_bias_that_makes_tokens_without_end_is_refused(bias: int, model: Path) -> None:
    change(model, model_conf={"predictor_bias": bias})
    refused(model, "model_conf.predictor_bias is")


@pytest.mark.parametrize(
    ("section", "key", "value", "kind"),
    [
        ("encoder_conf", "num_blocks", 10**8, SourceError),
        ("encoder_conf", "num_blocks", 9_999, CheckpointError),
        ("decoder_conf", "linear_units", 2**24, CheckpointError),
        ("encoder_conf", "output_size", 2**23, SourceError),
    ],
)
def test_a_model_larger_than_its_weights_is_not_built(
    section: str, key: str, value: int, kind: type[Exception], model: Path
) -> None:
    change(model, **{section: {key: value}})
    refused(model, "num_blocks is|output_size|larger model than the weights belong to", kind)


@pytest.mark.parametrize("value", ["a/b", "..\\x", "x/../y", "http://x"])
@pytest.mark.parametrize(("section", "key"), [("encoder_conf", "input_layer"), ("tokenizer_conf", "unk_symbol")])
def test_a_word_that_may_be_a_path_is_refused_or_left_out(section: str, key: str, value: str, model: Path) -> None:
    change(model, **{section: {key: value}})
    with pytest.raises(SourceError):
        sottovoce.load(model)
        raise SourceError("it was left out")


NUMBER = r"(LearnRateCoef> 0 \[) \S+"


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "",
        lambda text: "hello",
        lambda text: text[: len(text) // 2],
        lambda text: re.sub(NUMBER, r"\1 nan", text),
        lambda text: re.sub(NUMBER, r"\1 inf", text),
        lambda text: re.sub(NUMBER, r"\1 1.0 2.0", text),
        lambda text: text.replace("<Rescale>", "<Other>"),
        lambda text: text.replace("<AddShift>", "<Other>"),
    ],
)
def test_statistics_that_are_not_of_the_features_are_refused(edit: Callable[[str], str], model: Path) -> None:
    path = model / "am.mvn"
    text = path.read_text(encoding="utf-8")
    path.write_text(edit(text), encoding="utf-8")
    refused(model, r"am\.mvn: damaged: <\w+> has not 560 numbers")


@pytest.mark.parametrize("tokens", [[], {}, "abc", [1, 2], None, ["a", None]], ids=str)
def test_tokens_that_are_no_list_of_words_are_refused(tokens: Any, model: Path) -> None:
    (model / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")
    refused(model, r"tokens\.json: damaged: it is not a list of tokens")


def test_tokens_that_are_too_few_do_not_fit(model: Path) -> None:
    path = model / "tokens.json"
    tokens = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tokens[:5] + tokens[6:]), encoding="utf-8")
    refused(model, "misshapen", CheckpointError)


def test_tokens_under_another_name_of_the_directory_are_no_tokens(model: Path) -> None:
    path = model / "configuration.json"
    form = json.loads(path.read_text(encoding="utf-8"))
    form["file_path_metas"]["tokenizer_conf"]["token_list"] = "am.mvn"
    path.write_text(json.dumps(form), encoding="utf-8")
    refused(model, "is not a list of tokens")


@pytest.mark.parametrize("metas", ["abc", ["a"], 3])
def test_a_description_of_files_that_is_none_is_named(metas: Any, model: Path) -> None:
    path = model / "configuration.json"
    path.write_text(json.dumps({"file_path_metas": metas}), encoding="utf-8")
    refused(model, r"file_path_metas must be a mapping")


def test_lists_of_tokens_elsewhere_are_left_out_and_said(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    change(model, token_lists=["/etc/passwd"], tokenizer_conf={"token_lists": ["/etc/passwd", "../x"]})
    sottovoce.load(model)
    assert "left out of config.yaml: " in caplog.text
    assert "tokenizer_conf.token_lists" in caplog.text


@pytest.mark.parametrize("kind", ["vad", "punc"])
def test_an_option_that_a_model_beside_would_ignore_is_refused(kind: str) -> None:
    options: dict[str, Any] = {f"{kind}_model": "x", f"{kind}_kwargs": {"max_single_segment_tme": 30_000}}
    problem = f"in {kind}_kwargs, has no such option: .*did you mean max_single_segment_time"
    with pytest.raises(UsageError, match=problem):
        sottovoce.load(MODEL, **options)
    with pytest.raises(UsageError, match=f"{kind}_kwargs must be a mapping, not str"):
        sottovoce.load(MODEL, **{f"{kind}_kwargs": "x"})
