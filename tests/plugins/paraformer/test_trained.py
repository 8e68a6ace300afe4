"""What FunASR's own training leaves is a model: it is read, its missing files are told at once, nothing is followed."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import sottovoce
from plugins.paraformer.tiny import load, make_model
from plugins.paraformer.trained import checkpoint, complete, make_trained
from sottovoce.entrypoints.save import probe
from sottovoce.errors import CheckpointError, SourceError, UsageError

ELSEWHERE = ["/home/ann/base", "/mnt/资料/base model", r"C:\Users\ann\base", "../base", "~/base"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return make_trained(tmp_path / "outputs", "/home/ann/base", checkpoints=("best", "avg10", "ep3"))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("sottovoce")]


@pytest.mark.parametrize("base", ELSEWHERE)
def test_files_that_are_missing_are_told_at_once_with_where_the_trainer_had_them(base: str, tmp_path: Path) -> None:
    directory = make_trained(tmp_path / "outputs", base)
    with pytest.raises(SourceError) as caught:
        sottovoce.load(directory)
    message = str(caught.value)
    assert "3 of the model's files are missing: " in message
    for name in ("am.mvn", "tokens.json", "seg_dict"):
        assert name in message
    assert f"(config.yaml has it in {base!r})" in message
    assert message.endswith("; copy them there")
    assert "\n" not in message


@pytest.mark.parametrize("base", ELSEWHERE)
@pytest.mark.parametrize("described", [True, False])
def test_with_its_files_beside_it_is_loaded_as_it_is(
    base: str, described: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = complete(make_trained(tmp_path / "outputs", base))
    if not described:
        (directory / "configuration.json").unlink()
    with caplog.at_level(logging.WARNING):
        model = sottovoce.load(directory)
    assert probe(model).equal(probe(sottovoce.load(tmp_path / "base")))
    [line] = warnings_of(caplog)
    assert line.startswith(f"{directory}: left out of config.yaml: init_param, config, is_training, ")
    for key in ("model_path", "hub", "train_conf", "dataset_conf", "train_data_set_list", "output_dir", "device"):
        assert key in line


def test_stock_funasr_gives_the_same(tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    directory = complete(make_trained(tmp_path / "outputs", base))
    stock = load(directory)
    ours = sottovoce.load(directory)
    expected = stock.model.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in ours.module.state_dict().items())


@pytest.mark.parametrize("key", ["remote_code", "trust_remote_code"])
def test_what_asks_for_code_stays_refused(key: str, trained: Path) -> None:
    complete(trained)
    config = yaml.safe_load((trained / "config.yaml").read_text())
    (trained / "config.yaml").write_text(yaml.safe_dump({**config, key: "./model.py"}))
    with pytest.raises(SourceError, match=f"{key} is refused"):
        sottovoce.load(trained)


def test_the_checkpoint_that_is_taken_is_said(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    complete(trained)
    with caplog.at_level(logging.WARNING):
        sottovoce.load(trained)
    assert any(
        line.endswith(
            "of its weights model.pt is taken; --weights (weights=) takes another of "
            "model.pt.avg10, model.pt.best, model.pt.ep3"
        )
        for line in warnings_of(caplog)
    )


@pytest.mark.parametrize(("name", "shift"), [("model.pt", 0.0), ("model.pt.best", 0.01), ("model.pt.ep3", 0.03)])
def test_weights_are_chosen_by_name(
    name: str, shift: float, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    complete(trained)
    with caplog.at_level(logging.WARNING):
        model = sottovoce.load(trained, weights=name)
    assert not any("is taken" in line for line in warnings_of(caplog))
    expected = load_file(tmp_path / "base" / "model.safetensors")["decoder.output_layer.bias"] + shift
    found = model.module.state_dict()["decoder.output_layer.bias"]
    assert torch.allclose(found, expected)
    sottovoce.compress(model, "int8")
    sottovoce.save(model, tmp_path / "small")
    source = json.loads((tmp_path / "small" / "compression.json").read_text())["source"]
    assert source["weights"] == name


@pytest.mark.parametrize("name", ["best", "model.pt.avg5"])
def test_weights_that_there_are_not_list_those_that_there_are(name: str, trained: Path) -> None:
    listed = "model.pt, model.pt.avg10, model.pt.best, model.pt.ep3"
    with pytest.raises(UsageError, match=f"has no weights {name!r}; there are: {listed}"):
        sottovoce.load(complete(trained), weights=name)


def test_weights_outside_the_directory_are_refused(trained: Path) -> None:
    with pytest.raises(SourceError, match="leaves the model's directory"):
        sottovoce.load(complete(trained), weights="../base/model.safetensors")


def test_one_checkpoint_of_another_name_is_taken(trained: Path) -> None:
    complete(trained)
    for name in ("model.pt", "model.pt.best", "model.pt.ep3"):
        (trained / name).unlink()
    assert sottovoce.load(trained).module is not None


def test_several_checkpoints_of_other_names_must_be_chosen_from(trained: Path) -> None:
    complete(trained)
    (trained / "model.pt").unlink()
    with pytest.raises(
        SourceError, match=r"no model\.pt, but model\.pt\.avg10, model\.pt\.best, model\.pt\.ep3; choose"
    ):
        sottovoce.load(trained)
    assert sottovoce.load(trained, weights="model.pt.best").source.weights == "model.pt.best"


@pytest.mark.parametrize("base", ELSEWHERE)
def test_what_is_written_of_it_says_nothing_of_the_trainer(base: str, tmp_path: Path) -> None:
    model = sottovoce.load(complete(make_trained(tmp_path / "outputs", base)))
    sottovoce.compress(model, "int8")
    written = sottovoce.save(model, tmp_path / "small")
    config = yaml.safe_load((written / "config.yaml").read_text())
    assert not {
        "config",
        "train_data_set_list",
        "valid_data_set_list",
        "device",
        "train_conf",
        "init_param",
        "dataset_conf",
        "is_training",
        "model_path",
        "hub",
        "output_dir",
    } & set(config)
    for path in written.iterdir():
        if path.suffix != ".safetensors":
            assert base not in path.read_text(encoding="utf-8").replace("\\\\", "\\")


def test_a_path_that_would_be_written_all_the_same_is_refused_with_file_and_key(tmp_path: Path) -> None:
    directory = complete(make_trained(tmp_path / "outputs", "/home/ann/base"))
    description = json.loads((directory / "configuration.json").read_text())
    description["trained"] = {"by": ["ann", f"{tmp_path}/train.py"]}
    (directory / "configuration.json").write_text(json.dumps(description))
    model = sottovoce.load(directory)
    with pytest.raises(
        SourceError, match=r"configuration\.json: trained\.by\.1 holds '.*/train\.py', a path of a mach"
    ):
        sottovoce.save(model, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_what_modelscope_reads_is_kept_or_said_in_its_words(tmp_path: Path) -> None:
    directory = complete(make_trained(tmp_path / "outputs", "/home/ann/base"))
    description = json.loads((directory / "configuration.json").read_text())
    kept = {"task": "auto-speech-recognition", "pipeline": {"type": "my-pipeline"}, "model_name_in_hub": {"ms": "a/b"}}
    for source in (description | kept, {"file_path_metas": description["file_path_metas"]}):
        (directory / "configuration.json").write_text(json.dumps(source))
        model = sottovoce.load(directory)
        written = sottovoce.save(model, tmp_path / "out", overwrite=True)
        found = json.loads((written / "configuration.json").read_text())
        assert found["task"] == "auto-speech-recognition"
        assert found["pipeline"] == source.get("pipeline", {"type": "funasr-pipeline"})
        assert found.get("model_name_in_hub") == source.get("model_name_in_hub")
        assert found["file_path_metas"]["init_param"] == "model.safetensors"


LORA = {"lora_list": ["q", "v", "o"], "lora_rank": 4, "lora_alpha": 12, "lora_dropout": 0.1}


def with_low_rank(directory: Path, **change: object) -> Path:
    """A model that FunASR built with low-rank layers, and whose low-rank weights are not zero."""
    make_model(directory, encoder_conf=LORA | change, decoder_conf=LORA | change)
    weights = load_file(directory / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, tensor in weights.items():
        if "lora_" in name:
            weights[name] = torch.randn(tensor.shape, generator=generator) * 0.2
    (directory / "model.safetensors").unlink()
    torch.save(checkpoint(weights), directory / "model.pt")
    text = (directory / "configuration.json").read_text().replace("model.safetensors", "model.pt")
    (directory / "configuration.json").write_text(text)
    return directory


@pytest.mark.parametrize("letters", ["qvo", "q", "kv", "qkv", "o", ["k", "o"]])
def test_low_rank_layers_are_merged_to_what_stock_funasr_computes(letters: object, tmp_path: Path) -> None:
    directory = with_low_rank(tmp_path / "outputs", lora_list=letters)
    stock, ours = load(directory), sottovoce.load(directory)
    assert not [name for name in ours.module.state_dict() if "lora_" in name]
    speech = torch.randn(1, 30, 560, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = stock.model.encoder(speech, torch.tensor([30]))[0]
        found = ours.module.encoder(speech, torch.tensor([30]))[0]
        plain = sottovoce.load(make_model(tmp_path / "plain")).module.encoder(speech, torch.tensor([30]))[0]
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2)


def test_a_merged_model_is_written_without_low_rank_layers(tmp_path: Path) -> None:
    model = sottovoce.load(with_low_rank(tmp_path / "outputs"))
    sottovoce.compress(model, "int8")
    written = sottovoce.save(model, tmp_path / "small")
    assert "lora" not in (written / "config.yaml").read_text()
    assert not [name for name in load_file(written / "model.safetensors") if "lora" in name]


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"lora_list": None}, "no lora_list"), ({"lora_rank": 3}, "do not fit"), ({"lora_list": "qkvo"}, "do not fit")],
)
def test_low_rank_layers_that_cannot_be_merged_are_refused(
    change: dict[str, object], problem: str, tmp_path: Path
) -> None:
    directory = with_low_rank(tmp_path / "outputs")
    config = yaml.safe_load((directory / "config.yaml").read_text())
    config["encoder_conf"] |= change
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(CheckpointError, match=rf"the LoRA of encoder\..* cannot be merged: .*{problem}") as caught:
        sottovoce.load(directory)
    assert "\n" not in str(caught.value)


def test_low_rank_weights_alone_are_refused(tmp_path: Path) -> None:
    directory = with_low_rank(tmp_path / "outputs")
    weights = torch.load(directory / "model.pt", weights_only=False)["state_dict"]
    torch.save({name: tensor for name, tensor in weights.items() if "lora_" in name}, directory / "model.pt")
    with pytest.raises(CheckpointError, match="holds LoRA's tensors alone"):
        sottovoce.load(directory)
