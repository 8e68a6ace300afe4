"""A toy family of residual layers: a part with a layer before it, and one without that a gated layer begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import sottovoce
from core.drawn import normal
from core.toy import LETTERS, make_architecture, make_host
from sottovoce import Architecture, Depth, LoadOptions, Model, Prediction, Sample, Samples, Shape, Source
from sottovoce.checkpoint import load_strictly_, read_config, read_tensors, write_tensors
from sottovoce.formats import compressed_tensors

WIDTH, UNITS = 16, 48


class Layer(nn.Module):
    def __init__(self, layer_idx: int, bias: bool) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.w_1 = nn.Linear(WIDTH, UNITS)
        self.w_2 = nn.Linear(UNITS, WIDTH, bias=bias)

    def forward(self, x: Tensor, mask: Any = None) -> tuple[Tensor, Any]:
        return x + self.w_2(torch.relu(self.w_1(x))), mask


class Layers(nn.Module):
    def __init__(self, count: int, bias: bool) -> None:
        super().__init__()
        self.count = count
        self.layers = nn.ModuleList(Layer(number, bias) for number in range(count))


class Net(nn.Module):
    def __init__(self, encoder: int = 6, decoder: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), WIDTH)
        self.position = nn.Embedding(64, WIDTH)
        self.first = Layer(0, True)
        self.encoder = Layers(encoder, True)
        self.decoder = Layers(decoder, False)
        self.head = nn.Linear(WIDTH, len(LETTERS))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position(torch.arange(len(ids)))
        mask = None
        for layer in (self.first, *self.encoder.layers, *self.decoder.layers):
            x, mask = layer(x, mask)
        return self.head(x)  # type: ignore[no-any-return]


def forward(model: Model, sample: Sample) -> Tensor:
    return model.module(torch.tensor([LETTERS.index(letter) for letter in sample.text or ""]))  # type: ignore[no-any-return]


SHAPE = Shape(
    depths=(
        Depth(
            part="encoder",
            layers="encoder.layers",
            before="first",
            output="w_2",
            keys=("encoder.count",),
            lists=("encoder.kinds",),
            positions=("encoder.read_at", "encoder.reads"),
            number_attributes=("layer_idx",),
            keep={-1: "the decoder reads what leaves it"},
        ),
        Depth(
            part="decoder",
            layers="decoder.layers",
            output="w_2",
            keys=("decoder.count",),
            keep=lambda model: {3: "it is the last of four"},
            pruned=False,
        ),
    )
)


def architecture(**changes: Any) -> Architecture:
    facts: dict[str, Any] = {
        "name": "layered",
        "matches": ("Net",),
        "targets": (r"re:(encoder|decoder)\.layers\.\d+\.w_[12]",),
        "ignore": {"head": "output layer"},
        "blocks": (r"re:(encoder|decoder)\.layers\.\d+",),
        "parts": {"encoder": "re:encoder.*", "decoder": "re:decoder.*"},
        "shape": SHAPE,
        "task": "transcription",
        "inputs": ("text",),
        "forward": forward,
        "predict": lambda model, sample: Prediction(text=str(forward(model, sample).argmax(-1).tolist())),
        "probe": lambda model: Sample(key="probe", text=LETTERS),
        "min_coverage": 0.0,
    }
    return make_architecture(**(facts | changes))


class NetPlugin:
    """Loads and saves :class:`Net`; its configuration is a dictionary of sections."""

    def __init__(self, **changes: Any) -> None:
        self.facts = architecture(**changes)

    @sottovoce.hookimpl
    def sottovoce_architectures(self) -> Iterable[Architecture]:
        return [self.facts]

    @sottovoce.hookimpl
    def sottovoce_load(self, source: Source, architecture: Architecture, options: LoadOptions) -> Model:
        facts = read_config(source.directory / "config.yaml")
        sizes = facts["sizes"]
        module = Net(sizes["encoder"]["count"], sizes["decoder"]["count"])
        if config := facts.get("quantization_config"):
            compressed_tensors.prepare_(module, config)
        weights = source.directory / "model.safetensors"
        load_strictly_(module, read_tensors(weights), str(weights), options.allow_unexpected)
        native = SimpleNamespace(config=sizes)
        return Model(module=module.eval(), native=native, architecture=architecture, source=source)

    @sottovoce.hookimpl
    def sottovoce_export(self, model: Model, format: str, directory: Path) -> Path | None:
        return write(model.module, model.native.config, directory) if format == "native" else None


def write(module: Any, sizes: dict[str, Any], directory: Path) -> Path:
    import yaml

    directory.mkdir(exist_ok=True, parents=True)
    config = {"model": "Net", "sizes": sizes, "quantization_config": compressed_tensors.describe(module)}
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_tensors(module, directory / "model.safetensors")
    return directory


def make_model(directory: Path) -> Path:
    """Write a model in which layers 1 and 4 of the encoder, and 2 of the decoder, add next to nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Net()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("w_2.weight"):
                parameter.copy_(0.3 * normal(*parameter.shape, seed=sum(map(ord, name))))
        for layer, size in ((module.encoder.layers[1], 0.03), (module.encoder.layers[4], 0.01)):
            layer.w_2.weight.mul_(size)  # type: ignore[operator, union-attr]
        module.decoder.layers[2].w_2.weight.mul_(0.01)  # type: ignore[operator, union-attr]
    sizes = {
        "encoder": {"count": 6, "kinds": list("abcdef"), "read_at": 5, "reads": [0, 2, 5]},
        "decoder": {"count": 4},
    }
    return write(module, sizes, directory)


def make_samples(count: int = 20, length: int = 24) -> Samples:
    letters = torch.randint(0, len(LETTERS), (count, length), generator=torch.Generator().manual_seed(3))
    texts = ("".join(LETTERS[int(letter)] for letter in row) for row in letters)
    return Samples(tuple(Sample(key=f"sample-{number}", text=text) for number, text in enumerate(texts)))


HOST = make_host(NetPlugin())
SAMPLES = make_samples()
