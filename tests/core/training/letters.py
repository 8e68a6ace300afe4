"""The toy family with a training: it is taught which letter comes next in the alphabet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

import sottovoce
from core.toy import LETTERS, ToyPlugin, make_host, make_model
from sottovoce import Match, Model, Sample, Samples, Training, TrainingOutputs
from sottovoce.architecture import UNLABELED
from sottovoce.plugins.host import Host
from sottovoce.report import StepReport


def collate(model: Model, samples: Sequence[Sample]) -> Mapping[str, Any]:
    ids = [torch.tensor([LETTERS.index(letter) for letter in sample.text or ""]) for sample in samples]
    return {
        "ids": pad_sequence(ids, batch_first=True, padding_value=UNLABELED),
        "answers": any(sample.language is None for sample in samples),
    }


def forward(model: Model, batch: Mapping[str, Any], reference: TrainingOutputs | None) -> TrainingOutputs:
    module: Any = model.module
    known = batch["ids"] != UNLABELED
    hidden = module.embed(batch["ids"].clamp_min(0))
    for block in module.blocks:
        hidden = hidden + torch.relu(block(hidden))
    return TrainingOutputs(
        logits=module.head(hidden)[known],
        targets=(batch["ids"][known] + 1) % len(LETTERS) if batch["answers"] else None,
        counts=tuple(known.sum(1).tolist()),
        states={"hidden": hidden[known]},
        losses={"size": hidden.square().mean((1, 2))},
    )


def training(**changes: Any) -> Training:
    facts: dict[str, Any] = {
        "collate": collate,
        "forward": forward,
        "matches": {"logits": Match(distance="kl"), "hidden": Match(distance="squared", weight=0.1)},
        "losses": {"size": 1e-4},
        "labels": "text",
    }
    return Training(**(facts | changes))


def make_training_host(**changes: Any) -> Host:
    return make_host(ToyPlugin(training=training(**changes), inputs=("text",)))


HOST = make_training_host()


def make_samples(count: int = 40, length: int = 12, seed: int = 3, language: str | None = None) -> Samples:
    """Letters at random, of several lengths; with a language they have no labels."""
    source = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, len(LETTERS), (count, length), generator=source).tolist()
    texts = ["".join(LETTERS[letter] for letter in row[: 4 + number % (length - 3)]) for number, row in enumerate(rows)]
    return Samples(
        tuple(Sample(key=f"sample-{number}", text=text, language=language) for number, text in enumerate(texts))
    )


SAMPLES = make_samples()


def make_teacher(directory: Path, **sizes: int) -> Path:
    return make_model(directory, **sizes)


def trained(
    source: Path, samples: Samples | None = SAMPLES, host: Host = HOST, damage: float = 0.3, **settings: Any
) -> tuple[Model, StepReport]:
    """Load a model, damage its first block, and train it by one step."""
    model = damaged(source, host, damage)
    step = {"step": "distill", "steps": 30, "batch": 8, "evaluations": 3, **settings}
    return model, sottovoce.compress(model, {"steps": [step]}, training_samples=samples, host=host).steps[0]


def damaged(source: Path, host: Host = HOST, size: float = 0.3) -> Model:
    model = sottovoce.load(source, host=host)
    with torch.no_grad():
        noise = torch.randn(model.module.blocks[0].weight.shape, generator=torch.Generator().manual_seed(1))
        model.module.blocks[0].weight.add_(size * noise)
    return model
