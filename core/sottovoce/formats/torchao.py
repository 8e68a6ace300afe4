"""torchao: a checkpoint that stock transformers loads by its torchao configuration, with the model's own integers.

It is meant for GPUs, where torchao has kernels and ``torch.compile`` fuses around them. torchao lays out every weight
by its own code; then the values and scales of the compressed layer take the place of those that it rounded itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, UsageError, reason
from sottovoce.formats.format import Format
from sottovoce.system.process_state import ignored_warnings
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.architecture import Architecture
    from sottovoce.model import Model
    from sottovoce.runtime.quantized_linear import QuantizedLinear


class TorchAO(Format):
    """Safetensors and a configuration that transformers loads as torchao's tensors.

    int8, int8 weights alone and fp8 keep their size. Fewer bits take 8: so has the tensor that torchao runs everywhere.
    Tables in int8 become float.
    """

    name = "torchao"
    label = Text(
        en="a checkpoint for transformers with torchao's int8, int4 or fp8 tensors, for GPUs",
        zh="供 transformers 加载的 torchao 检查点（int8、int4 或 fp8 张量），用于 GPU",
    )

    def is_for(self, architecture: Architecture) -> bool:
        """Return whether transformers loads models of the family."""
        return architecture.card.library_name == "transformers"

    def refuse(self, model: Model) -> None:
        """Refuse what torchao has no tensors for."""
        _refuse_schemes(_quantized_layers(model))

    def write(self, model: Model, directory: Path) -> None:
        """Write a compressed model.

        Raises:
            UsageError: It is not compressed, or in a way that torchao has no tensors for.
            OutputError: torchao is not installed.
        """
        layers = _quantized_layers(model)
        configurations = _configurations(layers)
        with ignored_warnings():
            native = _stock(model, layers, configurations)
            native.save_pretrained(directory)
        if model.processor is not None:
            model.processor.save_pretrained(directory)

    def check(self, directory: Path) -> None:
        """Load it by stock transformers, and run every quantized layer on random inputs."""
        import torch

        from sottovoce.checkpoint.model_class import class_name

        _require_torchao()
        kind = _stock_class(class_name(directory))
        with ignored_warnings(), torch.inference_mode():
            try:
                native = kind.from_pretrained(directory, dtype="auto", local_files_only=True)
            except Exception as error:  # What a library raises on files that it wrote has no common base.
                raise OutputError(f"transformers does not load what was written ({reason(error)})") from error
            layers = {name: layer for name, layer in native.named_modules() if _is_torchao(layer)}
            if not layers:
                raise OutputError("transformers loaded no layer of torchao's; are the versions those that wrote it?")
            for name, layer in layers.items():
                inputs = torch.randn(2, layer.in_features, generator=torch.Generator().manual_seed(0))
                if not torch.isfinite(layer(inputs.to(native.dtype))).all():
                    raise OutputError(f"{name}: gives numbers that are not finite; is a weight damaged?")


def _quantized_layers(model: Model) -> dict[str, QuantizedLinear]:
    from sottovoce.runtime.layers import is_quantized
    from sottovoce.runtime.quantized_linear import QuantizedLinear

    if not is_quantized(model.module):
        raise UsageError("the format torchao holds quantized weights: compress the model first, for example to int8")
    if model.architecture.experts:
        raise UsageError("torchao has no tensors for experts that transformers loads; use the format native")
    return {name: child for name, child in model.module.named_modules() if isinstance(child, QuantizedLinear)}


def _configurations(layers: dict[str, QuantizedLinear]) -> dict[str, Any]:
    """Return torchao's configuration for each layer."""
    _refuse_schemes(layers)
    return {name: _configuration(layer) for name, layer in layers.items()}


def _refuse_schemes(layers: dict[str, QuantizedLinear]) -> None:
    for name, layer in layers.items():
        scheme = layer.scheme
        by_tensor = scheme.activations == "dynamic" and scheme.strategy == "tensor"
        if not scheme.symmetric or scheme.activations == "static" or by_tensor:
            raise UsageError(
                "the format torchao has symmetric weights, and inputs that are float or quantized by row, which "
                f"{name!r} has not; use int8, int8-weight, int4 without zero points, or fp8"
            )


def _configuration(layer: QuantizedLinear) -> Any:
    import torch

    quantization, scheme = _require_torchao(), layer.scheme
    if scheme.type == "float":
        return quantization.Float8WeightOnlyConfig()
    if scheme.group_size is None and scheme.bits == 8:
        dynamic = scheme.activations == "dynamic"
        return quantization.Int8DynamicActivationInt8WeightConfig() if dynamic else quantization.Int8WeightOnlyConfig()
    groups = quantization.PerGroup(layer.in_features // layer.weight_scale.shape[1])
    dtype = getattr(torch, f"int{scheme.bits}")
    return quantization.IntxWeightOnlyConfig(weight_dtype=dtype, granularity=groups)


def _require_torchao() -> Any:
    for name in ("torchao", "torch.utils._pytree"):
        # It says at its import which kernels for GPUs it could not load.
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with ignored_warnings():
            from torchao import quantization
    except ImportError as error:
        raise OutputError(f"the format torchao needs torchao ({error}): pip install 'sottovoce[torchao]'") from None
    return quantization


def _stock(model: Model, layers: dict[str, QuantizedLinear], configurations: dict[str, Any]) -> Any:
    """Return the model as transformers builds it, with torchao's tensors in it; float tensors are shared."""
    import torch
    from transformers import TorchAoConfig
    from transformers.quantizers.quantizer_torchao import TorchAoHfQuantizer

    native = model.native
    kind = _stock_class(type(native).__name__)
    with torch.device("meta"):
        stock = kind(native.config)
    stock.load_state_dict(dict(_floats(native, tuple(f"{name}." for name in layers))), strict=False, assign=True)
    for name, layer in layers.items():
        stock.set_submodule(name, _torchao_linear(layer, configurations[name], native.dtype))
    floats = [
        name for name, child in stock.named_modules() if isinstance(child, torch.nn.Linear) and name not in layers
    ]
    # The file says for every tensor what it is. The configuration has room for one kind: the most frequent.
    kinds = Counter(map(repr, configurations.values()))
    frequent = next(kind for kind in configurations.values() if repr(kind) == kinds.most_common(1)[0][0])
    settings = TorchAoConfig(frequent, modules_to_not_convert=floats)
    stock.config.quantization_config = settings
    stock.hf_quantizer = TorchAoHfQuantizer(settings, pre_quantized=True)
    return stock.eval()


def _floats(native: nn.Module, quantized: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of all other layers; a table of int8 becomes float."""
    from sottovoce.runtime.int8_embedding import Int8Embedding

    for name, child in native.named_modules():
        if isinstance(child, Int8Embedding):
            quantized += (f"{name}.",)
            yield f"{name}.weight", child.dequantize().weight.to(child.weight_scale.dtype)
    for name, tensor in native.state_dict().items():
        if not name.startswith(quantized):
            yield name, tensor


def _stock_class(name: str) -> Any:
    import transformers

    kind = getattr(transformers, name, None)
    if kind is None:
        raise UsageError(f"transformers {transformers.__version__} has no class {name}, which the format torchao needs")
    return kind


def _torchao_linear(layer: QuantizedLinear, config: Any, dtype: Any) -> nn.Linear:
    """Return a linear layer with torchao's tensor, which holds the values and scales of a compressed layer."""
    import torch
    from torchao.quantization import quantize_

    from sottovoce.runtime.packed_linear import PackedLinear

    linear = layer.dequantize().to(dtype)
    quantize_(linear, config)
    weight: Any = linear.weight
    values: Any = layer.qweight() if isinstance(layer, PackedLinear) else layer.weight
    scale = layer.weight_scale.detach().to(weight.scale.dtype)
    if weight.qdata.shape != values.shape or weight.scale.shape != scale.shape:
        raise OutputError(f"torchao lays this weight out as {tuple(weight.qdata.shape)}: use the version of the extra")
    if not torch.equal(scale.float(), layer.weight_scale.float()):
        raise OutputError(f"torchao keeps scales as {scale.dtype}, which loses what the model has: use another version")
    weight.qdata, weight.scale = values.detach().to(weight.qdata.dtype), scale
    return linear


def _is_torchao(layer: Any) -> bool:
    weight = getattr(layer, "weight", None)
    return weight is not None and type(weight).__module__.startswith("torchao.")
