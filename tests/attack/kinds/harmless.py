"""What honest publishers leave in a model's directory: refusing it would be a fault as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attack import settings
from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.settings import changed, replaced, with_values

KIND = "harmless"

CONFIG: Mapping[str, dict[str, Any]] = {
    "a version": {"transformers_version": "4.57.0.dev0"},
    "its name": {"_name_or_path": "Qwen/Qwen3-ForcedAligner-0.6B"},
    "a path of its trainer": {"_name_or_path": "/nfs/somebody/checkpoints/step-2000"},
    "defaults of transformers 4": {
        "torchscript": False,
        "pruned_heads": {},
        "output_attentions": False,
        "output_hidden_states": False,
        "return_dict": True,
        "use_bfloat16": False,
        "tf_legacy_loss": False,
        "add_cross_attention": False,
        "chunk_size_feed_forward": 0,
        "is_decoder": False,
        "is_encoder_decoder": False,
        "finetuning_task": None,
        "task_specific_params": None,
        "problem_type": None,
        "bad_words_ids": None,
        "length_penalty": 1.0,
    },
    "a cache": {"use_cache": True},
    "the usual attention": {"_attn_implementation_autoset": True},
    "a tokenizer": {"tokenizer_class": "Qwen2Tokenizer"},
    "languages": {"support_languages": ["Chinese", "English", "粤语"]},
    "a tool's mark": {"unsloth_version": "2025.1", "unsloth_fixed": True},
    "no quantization": {"quantization_config": None},
    "a note": {"comment": "trained by \u201csomebody\u201d, 50 % of the data\nand more"},
    "a licence": {"license": "apache-2.0", "license_link": "https://www.apache.org/licenses/LICENSE-2.0"},
}
"""By name, keys that a ``config.json`` may have beside its own."""

GENERATION: Mapping[str, dict[str, Any]] = {
    "sampling": {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.0},
    "a version": {"transformers_version": "4.51.3"},
    "several ends": {"eos_token_id": [384, 385]},
    "a length": {"max_new_tokens": 128},
    "a talker's": {"talker_max_new_tokens": 4096, "talker_do_sample": True, "talker_temperature": 0.9},
}

TOKENIZER: Mapping[str, dict[str, Any]] = {
    "usual keys": {"add_bos_token": False, "clean_up_tokenization_spaces": False, "errors": "replace"},
    "a length": {"model_max_length": 131072},
    "no more tokens": {"additional_special_tokens": []},
    "its name": {"name_or_path": "Qwen/Qwen2.5-0.5B"},
    "a side": {"padding_side": "left", "truncation_side": "right"},
}

FUNASR: Mapping[str, dict[str, Any]] = {
    "a trainer's settings": {
        "train_conf": {"accum_grad": 1, "grad_clip": 5, "max_epoch": 150, "keep_nbest_models": 10, "log_interval": 50},
        "optim": "adam",
        "optim_conf": {"lr": 0.0005},
        "scheduler": "warmuplr",
        "scheduler_conf": {"warmup_steps": 9},
        "dataset": "AudioDataset",
        "dataset_conf": {"index_ds": "IndexDSJsonl", "batch_sampler": "DynamicBatchLocalShuffleSampler"},
    },
    "a trainer's paths": {"output_dir": "/nfs/somebody/exp", "train_data_set_list": "/nfs/somebody/train.jsonl"},
    "a loss": {"ctc_conf": {"dropout_rate": 0.0, "ctc_type": "builtin", "reduce": True, "ignore_nan_grad": True}},
    "no normalization": {"normalize": None},
    "log": {"log_interval": 50, "seed": 0},
}

DESCRIPTION: Mapping[str, dict[str, Any]] = {
    "names in hubs": {"model_name_in_hub": {"ms": "iic/speech_paraformer-large", "hf": ""}},
    "a pipeline": {"pipeline": {"type": "funasr-pipeline"}, "framework": "pytorch"},
    "a training": {"train": {"data_dir": "./data"}},
}

FILES: Mapping[str, str] = {
    ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
    ".cache/huggingface/download/config.json.metadata": "0\n1\n2\n",
    ".msc": "x",
    ".mdl": "x",
    "LICENSE": "Apache License, Version 2.0\n",
    "NOTICE.md": "Copyright somebody\n",
    "README_zh.md": "# 模型\n",
    "trainer_state.json": '{"log_history": [{"loss": NaN}], "best_model_checkpoint": "/nfs/x"}',
    "training_args.bin": "nonsense",
    "optimizer.pt": "nonsense",
    "runs/events.out.tfevents.1": "x",
    "fig/struct.png": "x",
    "example/asr_example.wav": "x",
    "example/hotword.txt": "x\n",
    "scripts/run.sh": "echo x\n",
    "requirements.txt": "funasr\n",
    "模型说明.txt": "x",
}
"""By name, what lies beside."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield settings and files that a published model has beside what is read."""
    if model.family == "paraformer":
        tables = {"config.yaml": FUNASR, "configuration.json": DESCRIPTION}
    else:
        tables = {"config.json": CONFIG, "tokenizer_config.json": TOKENIZER, "generation_config.json": GENERATION}
    for name, table in tables.items():
        for what, values in table.items() if name in model.files else ():
            if model.compressed and "quantization_config" in values:
                continue
            yield _case(model, f"{name}/{what}", with_values(name, values))
    for name in model.configurations:
        yield _case(model, f"{name}/written anew", changed(name, lambda form: None))
        if name.endswith(".json"):
            yield _case(model, f"{name}/sorted", changed(name, lambda form: dict(sorted(form.items()))))
    for name, text in FILES.items():
        yield _case(model, f"beside/{name}", _beside(name, text))
    if model.family != "paraformer" and "dtype" in settings.read(model.directory / "config.json"):
        yield _case(model, "config.json/an older key", changed("config.json", _older))


def _older(form: dict[str, Any]) -> None:
    form["torch_dtype"] = form.pop("dtype")


def _beside(name: str, text: str) -> Change:
    def apply(directory: Path) -> None:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        replaced(name, text)(directory)

    return apply


def _case(model: HonestModel, name: str, change: Change) -> Case:
    return Case(kind=KIND, name=name, model=model.name, change=change, expect=Expect.HARMLESS, signed=True)
