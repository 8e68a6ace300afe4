"""The description of quantized layers: read as it was written, and refused when it is not ours or damaged."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.drawn import FLOAT8, MULTIPLIED, PACKED, SCHEMES, linear, name_of, normal, quantized
from sottovoce.errors import SourceError
from sottovoce.formats import compressed_tensors
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.layers import QUANTIZED, replace_


class Net(nn.Module):
    """A table, some layers of one size, and a head that stays."""

    def __init__(self, count: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 64)
        self.layers = nn.ModuleList(linear(64, 64, number % 2 == 0) for number in range(count))
        self.head = linear(64, 3)
        self.to(dtype)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)  # type: ignore[no-any-return]


def compressed(schemes: list[Scheme], *, table: bool = False, dtype: torch.dtype = torch.float32) -> Net:
    """A net whose layers have these schemes."""
    from core.drawn import rounded
    from sottovoce.runtime.layers import from_quantized

    net = Net(len(schemes), dtype)
    for number, scheme in enumerate(schemes):
        layer = net.layers[number]
        assert isinstance(layer, nn.Linear)
        replace_(net, f"layers.{number}", from_quantized(layer, *rounded(layer, scheme)))
    if table:
        replace_(net, "table", Int8Embedding.from_float(net.table))
    return net.eval()


def described(net: Net) -> dict[str, Any]:
    """The description, through the JSON that it is stored as."""
    config = json.loads(json.dumps(compressed_tensors.describe(net)))
    assert isinstance(config, dict)
    return config


def reloaded(net: Net, config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Net:
    made = Net(len(net.layers), dtype)
    with torch.device("meta"):
        made = made.to("meta")
    compressed_tensors.prepare_(made, config)
    made.load_state_dict(net.state_dict(), strict=True, assign=True)
    return made.eval()


MIXES = [*([scheme] for scheme in SCHEMES), [PACKED[2], MULTIPLIED[0], PACKED[2], FLOAT8], SCHEMES]


@pytest.mark.parametrize("schemes", MIXES, ids=lambda schemes: "+".join(map(name_of, schemes))[:60])
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_description_is_read_as_it_was_written(schemes: list[Scheme], table: bool, dtype: torch.dtype) -> None:
    net = compressed(schemes, table=table, dtype=dtype)
    config = described(net)
    assert compressed_tensors.is_own(config)
    again = reloaded(net, config, dtype)
    assert [type(layer) for layer in again.modules()] == [type(layer) for layer in net.modules()]
    assert [layer.scheme for layer in again.layers] == schemes
    assert described(again) == config
    with torch.inference_mode():
        assert again(torch.arange(5)).equal(net(torch.arange(5)))


def test_each_scheme_has_one_group() -> None:
    net = compressed([PACKED[2], MULTIPLIED[0], PACKED[2]], table=True)
    config = described(net)
    targets = {name: group["targets"] for name, group in config["config_groups"].items()}
    assert targets == {"group_0": ["table"], "group_1": ["layers.0", "layers.2"], "group_2": ["layers.1"]}
    assert [group["format"] for group in config["config_groups"].values()] == [
        "int-quantized",
        "pack-quantized",
        "int-quantized",
    ]
    assert config["format"] == "mixed-precision"
    assert config["quant_method"] == "compressed-tensors"
    assert config["quantization_status"] == "compressed"


@pytest.mark.parametrize(
    ("scheme", "format"),
    [
        (PACKED[0], "pack-quantized"),
        (MULTIPLIED[0], "int-quantized"),
        (FLOAT8, "naive-quantized"),
    ],
    ids=str,
)
def test_one_format_is_the_format_of_all(scheme: Scheme, format: str) -> None:
    assert described(compressed([scheme, scheme]))["format"] == format


def test_a_float_model_has_no_description() -> None:
    assert compressed_tensors.describe(Net()) is None
    assert not list(compressed_tensors.quantized_layers(Net()))


def test_the_layers_are_named_with_their_schemes() -> None:
    net = compressed([PACKED[0], FLOAT8], table=True)
    assert list(compressed_tensors.quantized_layers(net)) == [
        ("table", Scheme(), "int-quantized"),
        ("layers.0", PACKED[0], "pack-quantized"),
        ("layers.1", FLOAT8, "naive-quantized"),
    ]
    assert sum(isinstance(child, QUANTIZED) for child in net.modules()) == 3


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_the_library_that_defined_it_reads_it(scheme: Scheme) -> None:
    library = pytest.importorskip("compressed_tensors.quantization")
    config = library.QuantizationConfig.model_validate(described(compressed([scheme], table=True)))
    group = config.config_groups["group_1"]
    assert group.targets == ["layers.0"]
    assert group.weights.num_bits == scheme.bits
    assert group.weights.group_size == scheme.group_size
    assert (group.input_activations is None) == (scheme.activations == "none")


def foreign(**change: Any) -> dict[str, Any]:
    """A description with something else in its first group."""
    config = described(compressed([PACKED[2]]))
    config["config_groups"]["group_0"] |= change
    return config


@pytest.mark.parametrize("targets", [["Linear"], ["re:.*layers.*"], ["layers.0", "Embedding"]], ids=str)
def test_descriptions_by_pattern_are_not_our_own(targets: list[str]) -> None:
    config = foreign(targets=targets)
    assert not compressed_tensors.is_own(config)
    with pytest.raises(SourceError, match="names layers by pattern"):
        compressed_tensors.prepare_(Net(), config)


@pytest.mark.parametrize(
    "target",
    [
        r"re:(a+)+$",
        r"re:(([a-z0-9_.]+)+)+\.experts\.\d+\.never!",
        r"re:layers\.(x|y)*\.experts\.\d+\.w",
        r"re:layers\.\d+\d+\d+\.experts\.\d+\.w",
        r"re:.*\.experts\.\d+\.w",
        r"re:l\.[0-9]+\.experts\.\d+\.w",
        r"re:layers.0.experts\.\d+\.w",
        r"re:(layers|other)\.0\.w(?=x)",
        r"re:\.experts\.\d+",
        "re:",
        "re:layers",
    ],
)
def test_a_pattern_that_is_not_written_here_is_never_matched(target: str) -> None:
    config = foreign(targets=[target])
    assert not compressed_tensors.is_own(config)
    with pytest.raises(SourceError, match="names layers by pattern"):
        compressed_tensors.prepare_(Net(), config)


@given(st.text(r"re:()|\.d+*?[]a-1^$", max_size=30))
def test_no_text_as_a_pattern_takes_long(text: str) -> None:
    config = foreign(targets=[f"re:{text}.experts.\\d+"])
    begin = time.process_time()
    with contextlib.suppress(SourceError):
        compressed_tensors.prepare_(Net(), config)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        "compressed-tensors",
        {},
        {"quant_method": "awq"},
        {"quant_method": "gptq", "bits": 4},
    ],
    ids=repr,
)
def test_other_methods_are_not_our_own(config: Any) -> None:
    assert not compressed_tensors.is_own(config)
    if isinstance(config, dict):
        with pytest.raises(SourceError, match="is not of the kind compressed-tensors"):
            compressed_tensors.prepare_(Net(), config)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"targets": ["layers.7"]}, "names the layer 'layers.7', which the model does not have"),
        ({"targets": ["nowhere.at.all"]}, "names the layer 'nowhere.at.all'"),
        ({"targets": ["layers"]}, "names 'layers', which is a ModuleList, not a linear layer"),
        ({"targets": ["layers.0.weight"]}, "names the layer 'layers.0.weight'"),
        ({"targets": ["layers.0", "layers.0"]}, "names 'layers.0', which is a PackedLinear"),
        ({"targets": None}, "no list of target layers"),
        ({"targets": "layers.0"}, "no list of target layers"),
        ({"targets": 5}, "no list of target layers"),
        ({"targets": [5]}, "no list of target layers"),
        ({"format": "marlin-24"}, "stored as 'marlin-24', which is not read here"),
        ({"format": ["pack-quantized"]}, "which is not read here"),
        ({"weights": None}, "a group has no weights"),
        ({"weights": {"num_bits": 5}}, "quantized weights {.*} are not supported"),
        ({"input_activations": 8}, "a group has no weights"),
    ],
    ids=str,
)
def test_damaged_descriptions_are_refused(change: dict[str, Any], problem: str) -> None:
    config = foreign(**change)
    assert isinstance(compressed_tensors.is_own(config), bool)
    with pytest.raises(SourceError, match=problem):
        compressed_tensors.prepare_(Net(), config)


@pytest.mark.parametrize("groups", [None, [], {}, 3, {"group_0": None}, {"group_0": []}], ids=repr)
def test_descriptions_without_groups_are_refused(groups: Any) -> None:
    config = foreign() | {"config_groups": groups}
    assert isinstance(compressed_tensors.is_own(config), bool)
    with pytest.raises(SourceError, match="quantization_config"):
        compressed_tensors.prepare_(Net(), config)


def test_a_group_size_that_does_not_divide_the_inputs_is_refused() -> None:
    config = foreign(weights=Scheme(bits=4, group_size=48).weights())
    with pytest.raises(SourceError, match=r"groups of 48 .* 64 inputs of 'layers\.0'"):
        compressed_tensors.prepare_(Net(), config)


def test_a_format_for_all_need_not_stand_in_every_group() -> None:
    config = foreign()
    del config["config_groups"]["group_0"]["format"]
    assert compressed_tensors.prepare_(Net(), config) == ("layers.0",)


def test_reading_changes_neither_the_description_nor_other_layers() -> None:
    config, net = foreign(), Net(2)
    before = copy.deepcopy(config)
    assert compressed_tensors.prepare_(net, config) == ("layers.0",)
    assert config == before
    assert isinstance(net.layers[1], nn.Linear)
    assert quantized(PACKED[2])(normal(2, 64)).shape == (2, 48)
