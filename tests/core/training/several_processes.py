"""What several processes do together in test_several_processes.py: the training that one process does there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

import sottovoce
from core.training.letters import collate, damaged, forward, make_samples, make_training_host
from sottovoce import Model, TrainingOutputs
from sottovoce.system import distributed
from sottovoce.system.interpreter import end_quickly

BATCH = 8
"""Samples of an update, those of all processes."""
WAYS: dict[str, dict[str, Any]] = {"copied": {}, "divided": {"shard": True}}


def trained(source: Path, **settings: Any) -> tuple[Model, dict[str, Any]]:
    """Distill a damaged model; return it, its scores and the shares of the weights that this process held."""
    shares: dict[str, float] = {}

    def watched(model: Model, batch: Any, reference: TrainingOutputs | None) -> TrainingOutputs:
        parameters = list(model.module.blocks.parameters())  # type: ignore[union-attr, operator]
        held = sum(_held(parameter) for parameter in parameters)
        shares["teacher" if reference is None else "student"] = held / sum(
            parameter.numel() for parameter in parameters
        )
        return forward(model, batch, reference)

    host = make_training_host(collate=collate, forward=watched)
    model = damaged(source, host)
    step = {
        "step": "distill",
        "steps": 12,
        "batch": BATCH // distributed.world_size(),
        "evaluations": 3,
        # Nine samples: a process has a batch more of them than the other.
        "held_out": 0.23,
        "learning_rate": 3e-3,
        **settings,
    }
    report = sottovoce.compress(model, {"steps": [step]}, training_samples=make_samples(), host=host).steps[0]
    evaluations = [point["held_out"] for point in report.details["evaluations"]]
    return model, {"evaluations": evaluations, "shares": shares}


def _held(parameter: torch.Tensor) -> int:
    return parameter.to_local().numel() if isinstance(parameter, DTensor) else parameter.numel()


if __name__ == "__main__":
    end_quickly()
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for way, settings in WAYS.items():
        model, facts = trained(source, **settings)
        name = f"{way}-{distributed.rank()}"
        save_file(
            {key: tensor.contiguous() for key, tensor in model.module.state_dict().items()},
            folder / f"{name}.safetensors",
        )
        (folder / f"{name}.json").write_text(json.dumps(facts))
