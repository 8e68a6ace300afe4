"""What several processes do together in test_several_processes.py: the same work that one process does there."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

import sottovoce
from sottovoce import Model, Samples, SottovoceError
from sottovoce.system import distributed
from sottovoce.system.interpreter import end_quickly

ROOT = Path(__file__).parents[2]
PARAFORMER, OMNI = ROOT / "examples/models/tiny-paraformer", ROOT / "examples/models/tiny-omni"
WIDTH_AND_INT4 = {
    "steps": [
        {"step": "prune_width", "keep": 0.75, "decoder": False},
        {"step": "quantize", "bits": 4, "method": "gptaq", "ignore": ["re:decoder.*"]},
    ]
}
EXPERTS = {"steps": [{"step": "prune_experts", "keep": 0.5}]}


def speech() -> Samples:
    return sottovoce.read_samples(ROOT / "tests/calibration.jsonl")


def conversations() -> Samples:
    """Five samples, so that one process has one more than the other."""
    return sottovoce.read_samples(ROOT / "examples/data/omni-tasks/calibration.jsonl").choose(5)


def compress_and_measure() -> dict[str, Any]:
    """Compress both models and measure one; return digests, reports and measurements."""
    original, small = sottovoce.load(PARAFORMER), sottovoce.load(PARAFORMER)
    paraformer = compressed(small, WIDTH_AND_INT4, speech())
    evaluation = sottovoce.evaluate(small, speech().choose(3), original).to_dict()
    return {
        "paraformer": paraformer,
        "omni": compressed(sottovoce.load(OMNI), EXPERTS, conversations()),
        "evaluation": evaluation,
    }


def compressed(model: Model, recipe: dict[str, Any], samples: Samples) -> dict[str, Any]:
    """Compress a model; return the digests of its tensors, and what the report says of each step."""
    report = sottovoce.compress(model, recipe, samples).to_dict()
    tensors = {
        name: hashlib.sha256(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in model.module.state_dict().items()
        if tensor.numel()
    }
    steps = [{key: step.get(key) for key in ("targets", "notes", "coverage", "details")} for step in report["steps"]]
    return {"tensors": tensors, "steps": steps, "samples": report["samples"]}


def refuse_other_samples() -> str:
    """Give each process other samples, and return the error."""
    samples = speech()
    own = Samples(samples.items[distributed.rank() :], samples.path)
    try:
        sottovoce.compress(sottovoce.load(PARAFORMER), WIDTH_AND_INT4, own)
    except SottovoceError as error:
        return str(error)
    return "no error"


def fail_in_one() -> None:
    """Fail in one process, at a block that the other processes wait for it at."""

    def progress(task: str, done: int, total: int) -> None:
        if distributed.rank() == 1 and done:
            raise SottovoceError("the second process failed")

    sottovoce.compress(sottovoce.load(PARAFORMER), WIDTH_AND_INT4, speech(), progress=progress)


if __name__ == "__main__":
    end_quickly()
    folder = Path(sys.argv[1])
    facts = {**compress_and_measure(), "refusal": refuse_other_samples()}
    (folder / f"process-{distributed.rank()}.json").write_text(json.dumps(facts))
    fail_in_one()
    (folder / f"survivor-{distributed.rank()}").touch()
