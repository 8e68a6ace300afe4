"""``quantization_config``: other tools' methods, and our own with numbers that nothing can have."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from attack import settings
from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.settings import changed, with_value

KIND = "quantization"

METHODS = (
    "awq",
    "gptq",
    "bitsandbytes",
    "bitsandbytes_4bit",
    "aqlm",
    "quanto",
    "quark",
    "fp_quant",
    "eetq",
    "higgs",
    "hqq",
    "fbgemm_fp8",
    "torchao",
    "bitnet",
    "vptq",
    "spqr",
    "fp8",
    "gguf",
    "nvfp4",
    "mxfp8",
    "auto-round",
    "mxfp4",
    "metal",
    "sinq",
    "gemma",
    "modelopt",
    "nonsense",
    "",
    "\x1b[31m\u202e",
)

FOREIGN: Mapping[str, Any] = {
    "no method": {},
    "a number for a method": {"quant_method": 5},
    "a list for a method": {"quant_method": ["awq"]},
    "null for a method": {"quant_method": None},
    "a text": "int8",
    "a list": [1],
    "load_in_4bit": {"load_in_4bit": True, "quant_method": "bitsandbytes"},
    "load_in_8bit": {"load_in_8bit": True},
    "modules": {"quant_method": "awq", "modules_to_not_convert": ["os.system"], "backend": "evil-owner/evil"},
    "groups of nothing": {"quant_method": "compressed-tensors", "config_groups": {}},
    "no groups": {"quant_method": "compressed-tensors"},
    "a list of groups": {"quant_method": "compressed-tensors", "config_groups": []},
    "groups null": {"quant_method": "compressed-tensors", "config_groups": None},
    "a scheme by name": {"quant_method": "compressed-tensors", "config_groups": {"W8A8": ["Linear"]}},
    "sparse": {"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24", "targets": ["Linear"]}},
    "transforms": {
        "quant_method": "compressed-tensors",
        "transform_config": {"config_groups": {"u": {"type": "hadamard"}}},
    },
}
"""By name, another tool's settings."""

_ENDLESS = r"re:(([a-z0-9_.]+)+)+\.experts\.\d+\.never!"

TARGETS: Mapping[str, Any] = {
    "a pattern without end": [_ENDLESS],
    "another without end": ["re:^(a|b|ab|[a-z._0-9])*$!"],
    "a third": ["re:" + "(.*)*" * 12 + "!"],
    "no pattern": ["re:((("],
    "repeated": ["re:(.{1,999}){1,999}x"],
    "a long pattern": ["re:" + "a?" * 5_000 + "a" * 5_000],
    "many": [f"layer{number}" for number in range(100_000)],
    "everything": ["re:.*"],
    "nothing": [],
    "the class": ["Linear"],
    "escapes": ["\x1b[31m\u202e"],
    "a text": "Linear",
    "numbers": [7],
    "null": None,
    "mappings": [{"a": 1}],
}
"""What the targets, or what is left out, may say."""

GROUP: Mapping[str, tuple[Any, ...]] = {
    "num_bits": (0, 1, 3, 5, 7, 16, 64, -8, 10**9, "8", 8.5, None, [8], True),
    "group_size": (0, -1, 1, 7, 33, 10**9, "32", 3.5, None),
    "symmetric": (False, True, "x", None),
    "strategy": ("tensor", "channel", "group", "block", "token", "nonsense", None, 7),
    "type": ("float", "int", "nonsense", None),
    "dynamic": (True, False, "local", None),
    "actorder": ("group", "weight", "nonsense", True),
    "observer": ("evil", "mse", 7),
    "observer_kwargs": ({"x": "y"}, 7),
    "block_structure": ([1, 2], "x", [10**9, 10**9]),
    "scale_dtype": ("torch.float8_e4m3fn", "x"),
    "zp_dtype": ("torch.int8", "x"),
}
"""By key, what a group's weights may say of themselves."""

TOP: Mapping[str, tuple[Any, ...]] = {
    "format": (
        "int-quantized",
        "pack-quantized",
        "dense",
        "float-quantized",
        "marlin-24",
        "nonsense",
        None,
        7,
        "\x1b[31m",
    ),
    "quantization_status": ("frozen", "initialized", "nonsense", 7),
    "kv_cache_scheme": ({"num_bits": 8}, "x", 7),
    "global_compression_ratio": (-1, "x", 1e30),
    "ignore": ([], "x", None, [_ENDLESS], ["re:((("], ["re:.*"], [7]),
    "config_groups": ({}, None, [], {"group_0": 7}, {"group_0": {}}, {f"g{number}": {} for number in range(10_000)}),
    "version": ("\x1b[31m", 7),
    "run_compressed": (False,),
    "sparsity_config": ({"format": "nonsense"}, 7),
    "transform_config": ({"config_groups": {"x": {}}}, 7),
    "quant_method": ("awq", "fp8", None, 7, "compressed_tensors"),
    "sottovoce": ({"x": 1}, 7),
}
"""By key, what a description says beside its groups."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield foreign settings for every model, and wrong ones of our own for the compressed."""
    name = model.config
    for method in METHODS:
        value = {
            "quant_method": method,
            "bits": 4,
            "group_size": 128,
            "weights": "int8",
            "quant_type": "int4_weight_only",
        }
        value |= {"load_in_4bit": True} if "bitsandbytes" in method else {}
        # The weights are no other tool's: a plain model may be taken for what it is, or be refused.
        yield _case(
            model,
            f"method/{method!a}",
            with_value(name, ("quantization_config",), value),
            model.name == "aligner" and method in ("awq", "fp8", "mxfp4", "hqq"),
        )
    for what, value in FOREIGN.items():
        yield _case(model, f"foreign/{what}", with_value(name, ("quantization_config",), value))
    for what, targets in TARGETS.items():
        yield _case(
            model,
            f"planted/{what}",
            with_value(name, ("quantization_config",), _planted(targets)),
            what == "a pattern without end",
        )
    if model.compressed:
        yield from _own(model, name)


def _own(model: HonestModel, name: str) -> Iterator[Case]:
    form = settings.read(model.directory / name)["quantization_config"]
    for key, values in TOP.items():
        for number, value in enumerate(values):
            yield _case(model, f"top/{key}/{number}", with_value(name, ("quantization_config", key), value))
    for group in form["config_groups"]:
        place = ("quantization_config", "config_groups", group)
        for what, targets in TARGETS.items():
            yield _case(model, f"targets/{group}/{what}", with_value(name, (*place, "targets"), targets))
        for part in ("weights", "input_activations"):
            for key, values in GROUP.items():
                for number, value in enumerate(values):
                    yield _case(model, f"{group}/{part}/{key}/{number}", _scheme(name, group, part, key, value))
            yield _case(model, f"{group}/{part}/null", with_value(name, (*place, part), None))
        yield _case(model, f"{group}/missing", changed(name, lambda config, place=place: settings.drop(config, place)))
    yield _case(model, "missing", changed(name, lambda config: settings.drop(config, ("quantization_config",))))


def _scheme(name: str, group: str, part: str, key: str, value: Any) -> Change:
    def change(config: dict[str, Any]) -> None:
        scheme = config["quantization_config"]["config_groups"][group]
        scheme[part] = {**(scheme.get(part) or {}), key: copy.deepcopy(value)}

    return changed(name, change)


def _planted(targets: Any) -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": targets, "weights": weights, "input_activations": None}},
        "ignore": [],
    }


def _case(model: HonestModel, name: str, change: Change, reported: bool = False) -> Case:
    # How inputs are rounded stands in the settings alone.
    expect = Expect.UNKNOWABLE if "input_activations" in name else Expect.SAME
    return Case(kind=KIND, name=name, model=model.name, change=change, expect=expect, signed=True, reported=reported)
