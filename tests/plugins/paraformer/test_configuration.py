"""A FunASR directory is data: all of FunASR's layouts are read, and nothing in one is run or followed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import sottovoce
from plugins.paraformer.tiny import make_model
from sottovoce.entrypoints.save import probe
from sottovoce.errors import CheckpointError, SourceError, UnknownModelError


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def model(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def change(model: Path, changes: dict[str, Any], name: str = "config.yaml") -> None:
    """Merge changes into a configuration, section by section."""
    config = yaml.safe_load((model / name).read_text())
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = {**config[key], **value} if both else value
    text = json.dumps(config) if name.endswith(".json") else yaml.safe_dump(config)
    (model / name).write_text(text)


def refused(model: Path, *parts: str, kind: type[Exception] = SourceError) -> None:
    with pytest.raises(kind) as caught:
        sottovoce.load(model)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("form", ["model.safetensors", "model.pt", "model.pb"])
def test_a_directory_without_configuration_json_is_the_same_model(form: str, pristine: Path, model: Path) -> None:
    (model / "configuration.json").unlink()
    if form != "model.safetensors":
        torch.save({"state_dict": load_file(model / "model.safetensors")}, model / form)
        (model / "model.safetensors").unlink()
    assert probe(sottovoce.load(model)).equal(probe(sottovoce.load(pristine)))


def test_configuration_json_may_name_other_files(pristine: Path, model: Path) -> None:
    (model / "sub").mkdir()
    for old, new in (
        ("config.yaml", "sub/asr.yaml"),
        ("tokens.json", "sub/t.json"),
        ("am.mvn", "cmvn"),
        ("model.safetensors", "sub/w.safetensors"),
    ):
        (model / old).rename(model / new)
    metas = {
        "init_param": "sub/w.safetensors",
        "config": "sub/asr.yaml",
        "tokenizer_conf": {"token_list": "sub/t.json"},
        "frontend_conf": {"cmvn_file": "cmvn"},
    }
    change(model, {"file_path_metas": metas}, "configuration.json")
    assert probe(sottovoce.load(model)).equal(probe(sottovoce.load(pristine)))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"remote_code": "code.py"}, "remote_code"),
        ({"model_conf": {"remote_code": "./code.py"}}, "model_conf.remote_code"),
        ({"frontend_conf": {"window": "${oc.env:HOME}"}}, "frontend_conf.window"),
    ],
)
@pytest.mark.parametrize("described", [True, False])
def test_a_configuration_that_runs_something_is_refused(
    changes: dict[str, Any], key: str, described: bool, model: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    for name in ("code.py", "model.py", "__init__.py"):
        (model / name).write_text(f"open({str(marker)!r}, 'w')\n")
    (model / "requirements.txt").write_text("./nothing-to-install\n")
    if not described:
        (model / "configuration.json").unlink()
    change(model, changes)
    refused(model, key)
    assert not marker.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"vad_model": "fsmn-vad"},
        {"punc_model": "ct-punc"},
        {"spk_model": "cam++"},
        {"lm_file": "/elsewhere/lm.pt"},
        {"hub": "ms"},
        {"model_path": "/elsewhere"},
        {"init_param": "../model.pt"},
        {"init_param": "/elsewhere/model.pt"},
        {"excludes": "decoder"},
        {"scope_map": ["encoder.", "decoder."]},
        {"an_invention_of_the_trainer": "/elsewhere"},
    ],
)
@pytest.mark.parametrize("described", [True, False])
def test_what_leads_elsewhere_is_left_out_and_said(
    changes: dict[str, Any], described: bool, pristine: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not described:
        (model / "configuration.json").unlink()
    change(model, changes)
    loaded = sottovoce.load(model)
    assert probe(loaded).equal(probe(sottovoce.load(pristine)))
    assert [record.getMessage() for record in caplog.records if record.name.startswith("sottovoce")] == [
        f"{model}: left out of config.yaml: {next(iter(changes))}"
    ]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"tokenizer_conf": {"token_list": "../tokens.json"}}, "tokens.json"),
        ({"tokenizer_conf": {"token_list": "/etc/passwd"}}, "passwd"),
        ({"frontend_conf": {"cmvn_file": "C:\\base\\other.mvn"}}, "other.mvn"),
        ({"jieba_usr_dict": "~/words"}, "words"),
    ],
)
def test_a_file_elsewhere_is_looked_for_beside_and_missed(changes: dict[str, Any], name: str, model: Path) -> None:
    (model / "configuration.json").unlink()
    for known in ("tokens.json", "am.mvn"):
        (model / known).rename(model / f"old-{known}")
    change(model, {"tokenizer_conf": {"token_list": "old-tokens.json"}, "frontend_conf": {"cmvn_file": "old-am.mvn"}})
    sottovoce.load(model)
    change(model, changes)
    refused(model, f"a file of the model is missing: {name} (config.yaml ", "copy it there")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"trust_remote_code": True}, "trust_remote_code"),
        ({"file_path_metas": {"init_param": "../model.pt"}}, "file_path_metas.init_param"),
        ({"file_path_metas": {"config": "../config.yaml"}}, "../config.yaml"),
        ({"file_path_metas": {"tokenizer_conf": {"token_list": "../t"}}}, "file_path_metas.tokenizer_conf.token_list"),
        ({"file_path_metas": {"frontend_conf": {"cmvn_file": "~/am.mvn"}}}, "file_path_metas.frontend_conf.cmvn_file"),
    ],
)
def test_a_description_that_leaves_the_directory_is_refused(changes: dict[str, Any], key: str, model: Path) -> None:
    change(model, changes, "configuration.json")
    refused(model, key)


@pytest.mark.parametrize("name", ["tokens.json", "am.mvn", "model.safetensors"])
@pytest.mark.parametrize("described", [True, False])
def test_a_link_to_a_file_elsewhere_is_refused(name: str, described: bool, model: Path, tmp_path: Path) -> None:
    (model / name).rename(tmp_path / "elsewhere")
    (model / name).symlink_to(tmp_path / "elsewhere")
    if not described:
        (model / "configuration.json").unlink()
    refused(model, name, "leaves the model's directory")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def reshape(path: Path) -> None:
    tensors = load_file(path)
    tensors["encoder.after_norm.weight"] = torch.ones(3)
    tensors["decoder.extra"] = torch.ones(1)
    del tensors["decoder.output_layer.bias"]
    save_file(tensors, path)


def garble(path: Path) -> None:
    path.write_text("<Nnet>\n<AddShift> 2 2\n<LearnRateCoef> 0 [ a b ]\n")


@pytest.mark.parametrize(
    ("name", "damage", "parts"),
    [
        ("tokens.json", Path.unlink, ["missing: tokens.json (configuration.json names it); copy it there"]),
        ("tokens.json", truncate, ["tokens.json: damaged: it is not a list of tokens"]),
        ("am.mvn", garble, ["am.mvn: damaged: <AddShift> has not 560 numbers"]),
        ("am.mvn", Path.unlink, ["missing: am.mvn (configuration.json names it); copy it there"]),
        ("config.yaml", Path.unlink, ["not a model directory"]),
        ("configuration.json", truncate, ["configuration.json: cannot be read"]),
        ("model.safetensors", truncate, ["model.safetensors: the weights are damaged"]),
        ("model.safetensors", Path.unlink, ["the weights are missing"]),
        (
            "model.safetensors",
            reshape,
            [
                "1 missing: decoder.output_layer.bias",
                "1 misshapen: encoder.after_norm.weight [3] for [32]",
                "1 unexpected: decoder.extra",
            ],
        ),
    ],
)
def test_a_damaged_file_is_one_line(name: str, damage: Callable[[Path], object], parts: list[str], model: Path) -> None:
    damage(model / name)
    refused(model, *parts)


def test_tokens_that_nothing_names_are_missed(model: Path) -> None:
    (model / "configuration.json").unlink()
    (model / "tokens.json").unlink()
    refused(model, "the tokens are missing (no tokens.json)")


def test_weights_of_another_width_do_not_fit(model: Path) -> None:
    change(model, {"encoder_conf": {"linear_units": 128}})
    refused(
        model, "misshapen: encoder.encoders0.0.feed_forward.w_1.weight [64, 32] for [128, 32]", kind=CheckpointError
    )


@pytest.mark.parametrize("name", ["Whisper", "paraformer", "funasr.models.paraformer.model.Paraformer"])
def test_a_class_that_nobody_knows_is_named(name: str, model: Path) -> None:
    change(model, {"model": name})
    refused(model, repr(name), "known here:", kind=UnknownModelError)


@pytest.mark.parametrize("changes", [{"encoder": "Nothing"}, {"encoder_conf": {"output_size": "x"}}])
def test_a_configuration_that_funasr_cannot_build_is_its_fault(changes: dict[str, Any], model: Path) -> None:
    change(model, changes)
    refused(model, str(model), "FunASR cannot build the model that it describes")
