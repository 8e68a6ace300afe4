"""A toy family of feed-forward blocks: with a bias, with a normalization over the units, and gated without a bias."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import sottovoce
from core.drawn import normal
from core.toy import LETTERS, make_architecture, make_host
from sottovoce import Architecture, LoadOptions, Model, Prediction, Sample, Samples, Shape, Source, Width
from sottovoce.checkpoint import load_strictly_, read_config, read_tensors, write_tensors
from sottovoce.formats import compressed_tensors

WIDTH, UNITS = 16, 80


class Block(nn.Module):
    def __init__(self, units: int, kind: str) -> None:
        super().__init__()
        self.w_1 = nn.Linear(WIDTH, units)
        if kind == "gated":
            self.gate = nn.Linear(WIDTH, units)
        self.w_2 = nn.Linear(units, WIDTH, bias=kind == "plain")
        self.norm = nn.LayerNorm(units) if kind == "normed" else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.w_1(x))
        if hasattr(self, "gate"):
            hidden = self.w_1(x) * functional.silu(self.gate(x))
        if self.norm is not None:
            hidden = self.norm(hidden)
        return x + self.w_2(hidden)  # type: ignore[no-any-return]


class Net(nn.Module):
    def __init__(self, plain: int = UNITS, normed: int = UNITS, gated: int = UNITS) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), WIDTH)
        self.position = nn.Embedding(64, WIDTH)
        self.plain = nn.ModuleList(Block(plain, "plain") for _ in range(2))
        self.normed = nn.ModuleList([Block(normed, "normed")])
        self.gated = nn.ModuleList([Block(gated, "gated")])
        self.head = nn.Linear(WIDTH, len(LETTERS))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position(torch.arange(len(ids)))
        for block in (*self.plain, *self.normed, *self.gated):
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]


def forward(model: Model, sample: Sample) -> Tensor:
    return model.module(torch.tensor([LETTERS.index(letter) for letter in sample.text or ""]))  # type: ignore[no-any-return]


SHAPE = Shape(
    widths=(
        Width(part="plain", modules=r"re:plain\.\d+", inputs=("w_1",), output="w_2", keys=("sizes.plain",)),
        Width(
            part="normed", modules=r"re:normed\.\d+", inputs=("w_1",), output="w_2", norm="norm", keys=("sizes.normed",)
        ),
        Width(
            part="gated",
            modules=r"re:gated\.\d+",
            inputs=("w_1", "gate"),
            output="w_2",
            keys=("sizes.gated",),
            pruned=False,
        ),
    )
)


def architecture(**changes: Any) -> Architecture:
    facts: dict[str, Any] = {
        "name": "net",
        "matches": ("Net",),
        "targets": (r"re:(plain|normed|gated)\.\d+\.w_[12]",),
        "ignore": {"head": "output layer"},
        "blocks": (r"re:(plain|normed|gated)\.\d+",),
        "parts": {"plain": "re:plain.*", "normed": "re:normed.*", "gated": "re:gated.*"},
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
    """Loads and saves :class:`Net`; its configuration is that of an object with sections."""

    def __init__(self, **changes: Any) -> None:
        self.facts = architecture(**changes)

    @sottovoce.hookimpl
    def sottovoce_architectures(self) -> Iterable[Architecture]:
        return [self.facts]

    @sottovoce.hookimpl
    def sottovoce_load(self, source: Source, architecture: Architecture, options: LoadOptions) -> Model:
        facts = read_config(source.directory / "config.yaml")
        module = Net(**facts["sizes"])
        if config := facts.get("quantization_config"):
            compressed_tensors.prepare_(module, config)
        weights = source.directory / "model.safetensors"
        load_strictly_(module, read_tensors(weights), str(weights), options.allow_unexpected)
        native = SimpleNamespace(config=SimpleNamespace(sizes=SimpleNamespace(**facts["sizes"])))
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
    """Write a model whose units overlap: half of them are nearly sums of the others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Net()
    with torch.no_grad():
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Linear) and name.endswith(("w_1", "gate")):
                half = UNITS // 2
                mixing = normal(half, half, seed=len(name)).softmax(-1)
                layer.weight[half:] = mixing @ layer.weight[:half] + 0.01 * normal(half, WIDTH, seed=3)
    return write(module, {"plain": UNITS, "normed": UNITS, "gated": UNITS}, directory)


def make_samples(count: int = 20, length: int = 24) -> Samples:
    letters = torch.randint(0, len(LETTERS), (count, length), generator=torch.Generator().manual_seed(3))
    texts = ("".join(LETTERS[int(letter)] for letter in row) for row in letters)
    return Samples(tuple(Sample(key=f"sample-{number}", text=text) for number, text in enumerate(texts)))


HOST = make_host(NetPlugin())
SAMPLES = make_samples()
