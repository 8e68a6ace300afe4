"""What FunASR's trainer leaves of a fine-tuning: ``funasr.bin.train_ds`` of FunASR 1.4, file by file and key by key."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

from plugins.paraformer.tiny import make_model

FILES = {"tokenizer_conf": {"token_list": "tokens.json"}, "frontend_conf": {"cmvn_file": "am.mvn"}}


def make_trained(directory: Path, base: str, kind: str = "SeacoParaformer", checkpoints: tuple[str, ...] = ()) -> Path:
    """Write the output directory of a training.

    Args:
        directory: Made when it is missing. No ``am.mvn``, ``tokens.json`` or ``seg_dict`` lies in it.
        base: Where the model that was trained lay on the trainer's machine.
        kind: The class of the model.
        checkpoints: Endings of more checkpoints than ``model.pt``, such as ``best``; each has weights of its own.
    """
    make_model(directory, kind)
    separator = "\\" if "\\" in base else "/"

    def there(name: str) -> str:
        return f"{base}{separator}{name}"

    config = yaml.safe_load((directory / "config.yaml").read_text())
    for section, files in FILES.items():
        config[section] |= {key: there(name) for key, name in files.items()}
    if (directory / "seg_dict").exists():
        config["tokenizer_conf"]["seg_dict_file"] = there("seg_dict")
    config |= {
        "init_param": there("model.pt"),
        "config": there("config.yaml"),
        "is_training": True,
        "disable_update": True,
        "device": "cpu",
        "hub": "ms",
        "train_data_set_list": there("train.jsonl"),
        "valid_data_set_list": there("val.jsonl"),
        "dataset": "AudioDatasetHotword",
        "dataset_conf": {"index_ds": "IndexDSJsonl", "batch_size": 4000, "sos": "${model_conf.predictor_bias}"},
        "train_conf": {"max_epoch": 2, "use_deepspeed": False, "deepspeed_config": there("ds_stage1.json")},
        "optim": "adam",
        "optim_conf": {"lr": 0.0002},
        "scheduler": "warmuplr",
        "output_dir": there("outputs"),
        "model_path": base,
        "input_size": 560,
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    description = (directory / "configuration.json").read_text().replace("model.safetensors", "model.pt")
    (directory / "configuration.json").write_text(description, encoding="utf-8")
    weights = load_file(directory / "model.safetensors")
    for number, name in enumerate(("model.pt", *(f"model.pt.{ending}" for ending in checkpoints))):
        changed = {key: tensor + 0.01 * number for key, tensor in weights.items()}
        torch.save(checkpoint(changed), directory / name)
    for name in ("model.safetensors", "am.mvn", "tokens.json", "seg_dict"):
        (directory / name).unlink(missing_ok=True)
    (directory / "tensorboard").mkdir()
    return directory


def checkpoint(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A trainer's state: the weights among counters, and the optimizer's tensors."""
    loss = {"model.pt.ep1": 3.5, "model.pt.ep2": 2.5}
    return {
        "epoch": 2,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.0002}]},
        "scheduler": {"last_epoch": 2},
        "val_loss_step_or_epoch": loss,
        "best_step_or_epoch": "model.pt.ep2",
        "step": None,
        "train_acc_avg": 0,
        "state_dict": OrderedDict(weights),
    }


def complete(directory: Path, kind: str = "SeacoParaformer") -> Path:
    """Copy the files of the model that was trained beside the configuration, as the error tells to."""
    base = make_model(directory.parent / "base", kind)
    for name in ("am.mvn", "tokens.json", "seg_dict"):
        if (base / name).exists():
            shutil.copyfile(base / name, directory / name)
    return directory
