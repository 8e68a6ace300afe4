"""Settings that are no property of a model: they ask for code, files, addresses or other ways to compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from attack.case import Case, Expect
from attack.model import HonestModel
from attack.settings import Keys, with_value

KIND = "foreign keys"

_REPOSITORY = "evil-owner/evil-model"

KEYS: Mapping[str, tuple[Any, ...]] = {
    "trust_remote_code": (True, "yes", 1),
    "remote_code": ("./model.py", True),
    "auto_map": (
        {
            "AutoConfig": "model.Config",
            "AutoModel": "model.Model",
            "AutoProcessor": "model.P",
            "AutoTokenizer": ["model.T", None],
        },
        "model.Model",
        {"AutoConfig": f"{_REPOSITORY}--model.Config"},
    ),
    "custom_pipelines": ({"x": {"impl": "model.P"}},),
    "attn_implementation": (
        "evil-owner/evil-kernel",
        "kernels-community/flash-attn",
        "flash_attention_2",
        "flex_attention",
        "eager",
        "paged|sdpa",
        "nonsense",
        {"": "evil-owner/evil-kernel"},
        7,
    ),
    "_attn_implementation": ("evil-owner/evil-kernel", "flash_attention_3", "nonsense"),
    "_attn_implementation_internal": ("evil-owner/evil-kernel",),
    "experts_implementation": ("evil-owner/evil-kernel", "grouped_mm", "nonsense"),
    "_experts_implementation": ("evil-owner/evil-kernel", "nonsense"),
    "use_kernels": (True,),
    "kernel_config": ({"RMSNorm": "evil-owner/evil-kernel:RMSNorm"},),
    "transformers_weights": ("other.safetensors", "/etc/passwd", "../../x/secret.txt", "\x1b[31m", 7, ["a"]),
    "base_model_name_or_path": (_REPOSITORY,),
    "_name_or_path": (_REPOSITORY, "/etc/passwd", "\x1b[31m\u202e"),
    "name_or_path": (_REPOSITORY,),
    "_commit_hash": ("\x1b[31m", 7),
    "device_map": ("auto", {"": "disk"}),
    "tp_plan": ("auto",),
    "gguf_file": ("evil.gguf",),
    "subfolder": ("../../x",),
    "adapter_kwargs": ({"token": "x"},),
    "architectures": (["os.system"], ["Qwen2ForCausalLM"], ["\x1b[31m"], "x", [7], []),
    "model_type": ("bert", "llama", "../x", ["x"], ""),
    "torch_dtype": ("float8_e4m3fn", "int8", "load", "nonsense", 7),
    "dtype": ("float16", "int8", "load", "torch.float64", {"": "int8"}),
    "output_attentions": (True,),
    "output_hidden_states": (True,),
    "return_dict": (False,),
    "use_return_dict": (False,),
    "torchscript": (True,),
    "is_encoder_decoder": (True,),
    "is_decoder": (True,),
    "pruned_heads": ({"0": [0, 1]}, {"x": "y"}),
    "chunk_size_feed_forward": (-1, 3),
    "problem_type": ("nonsense",),
    "num_labels": (0, 10**9, "x"),
    "sub_configs": ({"x": "y"},),
    "rope_scaling": ({"rope_type": "dynamic", "factor": 1e30}, {"type": "yarn", "factor": -1}, "x"),
    "rope_parameters": ({"rope_type": "nonsense", "rope_theta": 1.0}, {"rope_type": "longrope"}, {}),
    "layer_types": (["nonsense"], [], ["sliding_attention"] * 1000),
    "tie_word_embeddings": (True,),
    "tokenizer_class": ("os.system", "LlamaTokenizer", "MistralCommonBackend"),
    "processor_class": ("os.system", "WhisperProcessor"),
    "feature_extractor_type": ("os.system", "EncodecFeatureExtractor"),
    "image_processor_type": ("os.system", "CLIPImageProcessor"),
    "video_processor_type": ("os.system", "LlavaOnevisionVideoProcessor"),
    "audio_tokenizer": ({"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": _REPOSITORY},),
    "chat_template": ("{{ 'a' * 6000000000 }}", {"x": "y"}, 7, "/etc/passwd"),
    "generation_config": ({"max_new_tokens": -1}, 7),
    "compression_config": ({"quant_method": "compressed-tensors"},),
    "hub_kwargs": ({"token": "x"},),
    "local_files_only": (False,),
    "cache_dir": ("../../x",),
    "save_directory": ("../../x",),
    "__class__": ("x",),
    "to_dict": ("x",),
    "from_pretrained": ("x",),
}
"""By key, values of a hostile one."""

DESCRIBES = (
    "architectures",
    "torch_dtype",
    "dtype",
    "rope_scaling",
    "rope_parameters",
    "layer_types",
    "num_labels",
    "tie_word_embeddings",
    "model_type",
    "generation_config",
    "chat_template",
    "is_decoder",
    "attn_implementation",
)
"""Keys that do say something of a model: what comes of another value is as described."""

SECTIONS: Mapping[str, Mapping[str, tuple[Keys, ...]]] = {
    "paraformer": {
        "config.yaml": ((), ("model_conf",), ("encoder_conf",), ("tokenizer_conf",), ("frontend_conf",)),
        "configuration.json": ((), ("model",), ("file_path_metas",)),
    },
    "aligner": {
        "config.json": ((), ("text_config",), ("audio_config",), ("thinker_config",)),
        "processor_config.json": ((), ("feature_extractor",)),
        "preprocessor_config.json": ((),),
        "tokenizer_config.json": ((),),
    },
    "omni": {
        "config.json": ((), ("thinker_config", "text_config"), ("talker_config",), ("code2wav_config",)),
        "processor_config.json": ((), ("feature_extractor",), ("image_processor",), ("video_processor",)),
        "tokenizer_config.json": ((),),
        "generation_config.json": ((),),
    },
}
"""By family and file, where they are put."""

_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "use_kernels", "kernel_config")


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield a case for every file, section, key and value; those of kernels with and without the package."""
    for name, sections in SECTIONS[model.family].items():
        if not (model.directory / name).is_file():
            continue
        for section in sections:
            for key, values in KEYS.items():
                yield from _cases(model, name, section, key, values)


def _cases(model: HonestModel, name: str, section: Keys, key: str, values: tuple[Any, ...]) -> Iterator[Case]:
    place = ".".join(map(str, (*section, key)))
    for number, value in enumerate(values):
        for kernels in (False, True) if key.strip("_") in _KERNELS and name == "config.json" else (False,):
            yield Case(
                kind=KIND,
                name=f"{name}/{place}/{number}{'/kernels' if kernels else ''}",
                model=model.name,
                change=with_value(name, (*section, key), value),
                kernels=kernels,
                expect=Expect.UNKNOWABLE if key in DESCRIBES else Expect.SAME,
                reported=not section
                and number == 0
                and model.name == "aligner"
                and key in (*_KERNELS[:1], "transformers_weights", "trust_remote_code", "auto_map"),
            )
