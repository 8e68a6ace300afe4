"""A toy family on plain torch, as a plugin: what core does is tested without any model library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sottovoce
from sottovoce import Architecture, CardFacts, Layers, LoadOptions, Model, Prediction, Runner, Sample, Source
from sottovoce.checkpoint import load_strictly_, read_config, read_tensors, write_tensors
from sottovoce.formats import compressed_tensors
from sottovoce.plugins.host import Host

LETTERS = "abcdefgh"


class Toy(nn.Module):
    """Some blocks and a head."""

    def __init__(self, width: int = 32, blocks: int = 2) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(len(LETTERS), width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.head(x)  # type: ignore[no-any-return]


def forward(model: Model, sample: Sample) -> torch.Tensor:
    ids = torch.tensor([LETTERS.index(letter) for letter in sample.text or ""])
    return model.module(ids)  # type: ignore[no-any-return]


def predict(model: Model, sample: Sample) -> Prediction:
    tokens = tuple(LETTERS[index] for index in forward(model, sample).argmax(-1).tolist())
    return Prediction(text="".join(tokens), tokens=tokens)


def architecture(**changes: Any) -> Architecture:
    """The toy's facts, with some changed."""
    facts: dict[str, Any] = {
        "name": "toy",
        "matches": ("Toy",),
        "targets": (r"re:blocks\.\d+",),
        "ignore": {"head": "output layer", "embed": "embedding table"},
        "blocks": (r"re:blocks\.\d+",),
        "parts": {"blocks": r"re:blocks\..*", "embedding": "re:embed.*"},
        "task": "transcription",
        "card": CardFacts(languages=("en",)),
        "forward": forward,
        "predict": predict,
        "probe": lambda model: Sample(key="probe", text=LETTERS),
    }
    return make_architecture(**(facts | changes))


def make_architecture(**facts: Any) -> Architecture:
    """Return an architecture of flat facts: those of ``Layers`` and of ``Runner`` go into their records."""
    records: dict[str, Any] = {}
    for name, record in (("layers", Layers), ("runner", Runner)):
        names = {field.name for field in fields(record)}
        records[name] = record(**{key: facts.pop(key) for key in names & set(facts)})
    return Architecture(**facts, **records)


class ToyPlugin:
    """Loads and saves :class:`Toy` by the same few calls as a real plugin."""

    def __init__(self, **changes: Any) -> None:
        self.facts = architecture(**changes)

    @sottovoce.hookimpl
    def sottovoce_architectures(self) -> Iterable[Architecture]:
        return [self.facts]

    @sottovoce.hookimpl
    def sottovoce_load(self, source: Source, architecture: Architecture, options: LoadOptions) -> Model:
        facts = read_config(source.directory / "config.yaml")
        module = Toy(facts["width"], facts["blocks"])
        if config := facts.get("quantization_config"):
            compressed_tensors.prepare_(module, config)
        weights = source.directory / "model.safetensors"
        load_strictly_(module, read_tensors(weights), str(weights), options.allow_unexpected)
        return Model(module=module.eval(), native=module, architecture=architecture, source=source)

    @sottovoce.hookimpl
    def sottovoce_export(self, model: Model, format: str, directory: Path) -> Path | None:
        if format != "native":
            return None
        write(model.module, directory)
        return directory


def write(module: Any, directory: Path) -> Path:
    """Write a toy's files."""
    import yaml

    directory.mkdir(exist_ok=True, parents=True)
    config = {
        "model": "Toy",
        "width": module.width,
        "blocks": len(module.blocks),
        "quantization_config": compressed_tensors.describe(module),
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_tensors(module, directory / "model.safetensors")
    return directory


def make_model(directory: Path, seed: int = 0, **sizes: int) -> Path:
    """Write a toy with random weights."""
    torch.manual_seed(seed)
    return write(Toy(**sizes), directory)


def make_host(*plugins: object) -> Host:
    """A host with core's own plugins and these; by default the toy's."""
    host = Host(allow=())
    for number, plugin in enumerate(plugins or (ToyPlugin(),)):
        host.register(plugin, f"plugin-{number}")
    return host
