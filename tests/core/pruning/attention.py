"""A toy family of attentions: with a bias and a head a group, and without one where query heads share their values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import sottovoce
from core.toy import LETTERS, make_architecture, make_host
from sottovoce import Architecture, Heads, LoadOptions, Model, Prediction, Sample, Samples, Shape, Source
from sottovoce.checkpoint import load_strictly_, read_config, read_tensors, write_tensors
from sottovoce.formats import compressed_tensors

WIDTH, HEAD = 24, 8
SIZES = {"heads": 4, "queries": 8, "shared": 4, "pairs": 2}


class Attention(nn.Module):
    def __init__(self, queries: int, shared: int, bias: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, queries * HEAD)
        self.k_proj = nn.Linear(WIDTH, shared * HEAD)
        self.v_proj = nn.Linear(WIDTH, shared * HEAD)
        self.o_proj = nn.Linear(queries * HEAD, WIDTH, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            layer(x).view(len(x), -1, HEAD).transpose(0, 1) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        context = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        return x + self.o_proj(context.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]


class Net(nn.Module):
    def __init__(self, heads: int, queries: int, shared: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), WIDTH)
        self.position = nn.Embedding(64, WIDTH)
        self.plain = nn.ModuleList(Attention(heads, heads, bias=True) for _ in range(2))
        self.grouped = nn.ModuleList([Attention(queries, shared, bias=False)])
        self.head = nn.Linear(WIDTH, len(LETTERS))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position(torch.arange(len(ids)))
        for block in (*self.plain, *self.grouped):
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


def forward(model: Model, sample: Sample) -> Tensor:
    return model.module(torch.tensor([LETTERS.index(letter) for letter in sample.text or ""]))  # type: ignore[no-any-return]


def count(attention: Any) -> int:
    return int(attention.k_proj.out_features) // HEAD


def heads(part: str, keys: tuple[str, ...], **changes: Any) -> Heads:
    facts: dict[str, Any] = {"rows": ("q_proj", "k_proj", "v_proj"), "output": "o_proj", "groups": count}
    return Heads(part=part, modules=rf"re:{part}\.\d+", keys=keys, **(facts | changes))


SHAPE = Shape(
    heads=(
        heads("plain", ("sizes.heads",), own_class="its own class counts otherwise"),
        heads("grouped", ("sizes.queries", "sizes.shared"), pruned=False),
    )
)
COARSE = Shape(heads=(heads("plain", ("sizes.heads", "sizes.pairs")),))
"""A configuration that counts heads in pairs."""


class NetPlugin:
    """Loads and saves :class:`Net`; its configuration is that of an object with sections."""

    def __init__(self, shape: Shape = SHAPE) -> None:
        self.facts = make_architecture(
            name="net",
            matches=("Net",),
            targets=(r"re:(plain|grouped)\.\d+\.[qkvo]_proj",),
            ignore={"head": "output layer"},
            blocks=(r"re:(plain|grouped)\.\d+",),
            parts={"plain": "re:plain.*", "grouped": "re:grouped.*"},
            shape=shape,
            task="transcription",
            inputs=("text",),
            forward=forward,
            predict=lambda model, sample: Prediction(text=str(forward(model, sample).argmax(-1).tolist())),
            probe=lambda model: Sample(key="probe", text=LETTERS),
            min_coverage=0.0,
        )

    @sottovoce.hookimpl
    def sottovoce_architectures(self) -> Iterable[Architecture]:
        return [self.facts]

    @sottovoce.hookimpl
    def sottovoce_load(self, source: Source, architecture: Architecture, options: LoadOptions) -> Model:
        facts = read_config(source.directory / "config.yaml")
        sizes = facts["sizes"]
        module = Net(sizes["heads"], sizes["queries"], sizes["shared"])
        if config := facts.get("quantization_config"):
            compressed_tensors.prepare_(module, config)
        weights = source.directory / "model.safetensors"
        load_strictly_(module, read_tensors(weights), str(weights), options.allow_unexpected)
        native = SimpleNamespace(config=SimpleNamespace(sizes=SimpleNamespace(**sizes)))
        return Model(module=module.eval(), native=native, architecture=architecture, source=source)

    @sottovoce.hookimpl
    def sottovoce_export(self, model: Model, format: str, directory: Path) -> Path | None:
        if format != "native":
            return None
        return write(model.module, vars(model.native.config.sizes), directory)


def write(module: Any, sizes: dict[str, int], directory: Path) -> Path:
    import yaml

    directory.mkdir(exist_ok=True, parents=True)
    config = {"model": "Net", "sizes": sizes, "quantization_config": compressed_tensors.describe(module)}
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_tensors(module, directory / "model.safetensors")
    return directory


def make_model(directory: Path) -> Path:
    """Write a model whose last heads are nearly the first ones again, so that these can stand in for them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Net(SIZES["heads"], SIZES["queries"], SIZES["shared"])
        with torch.no_grad():
            for name, layer in module.named_modules():
                if name.endswith(("q_proj", "k_proj", "v_proj")) and isinstance(layer, nn.Linear):
                    half = layer.out_features // 2
                    layer.weight.mul_(3)
                    layer.weight[half:] = layer.weight[:half] + 0.05 * torch.randn(half, WIDTH)
                    layer.bias[half:] = layer.bias[:half]
    return write(module, SIZES, directory)


def make_samples(number: int = 20, length: int = 24) -> Samples:
    letters = torch.randint(0, len(LETTERS), (number, length), generator=torch.Generator().manual_seed(3))
    texts = ("".join(LETTERS[int(letter)] for letter in row) for row in letters)
    return Samples(tuple(Sample(key=f"sample-{index}", text=text) for index, text in enumerate(texts)))


HOST = make_host(NetPlugin())
SAMPLES = make_samples()
