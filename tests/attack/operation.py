"""What is done with a directory that is said to hold a model, and what comes of it."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack.model import EXAMPLES, MANIFEST, digests

_SPEECH = EXAMPLES / "data" / "mandarin-commands" / "test.jsonl"
_TASKS = EXAMPLES / "data" / "omni-tasks" / "test.jsonl"


@dataclass(frozen=True)
class Result:
    """What an operation gave."""

    digest: str
    """Of all that it gave: equal outputs have equal ones."""
    shown: str
    """A few words of it, for the report."""
    finite: bool = True


def inspect(directory: str, out: Path) -> Result:
    """Say what would be compressed."""
    import sottovoce

    facts = sottovoce.inspect(directory, None if Path(directory, MANIFEST).exists() else "int8")
    facts.pop("source")
    return Result(_digest(json.dumps(facts, sort_keys=True, default=str)), str(facts["size_bytes"]))


def predict(directory: str, out: Path) -> Result:
    """Load the model and use it on one sample; beside the answer its logits count."""
    import sottovoce

    return _used(sottovoce.load(directory))


def compress(directory: str, out: Path) -> Result:
    """Compress to int8 and write the result, with the proof that it loads again."""
    import sottovoce

    model = sottovoce.load(directory)
    sottovoce.compress(model, "int8")
    return _written(sottovoce.save(model, out))


def save(directory: str, out: Path) -> Result:
    """Write the model again as it is."""
    import sottovoce

    return _written(sottovoce.save(sottovoce.load(directory), out))


def evaluate(directory: str, out: Path) -> Result:
    """Measure the model, for which another process is started."""
    import sottovoce

    task = sottovoce.load(directory).architecture.task
    report = sottovoce.evaluate(directory, sottovoce.Samples((_sample(task),)))
    names = " ".join(sorted(report.metrics))  # their values are times, mostly
    return Result(_digest(names), names)


def resume(directory: str, out: Path) -> Result:
    """Compress on samples; finished blocks are kept beside the output, and taken from there."""
    import sottovoce

    model = sottovoce.load(directory)
    samples = sottovoce.Samples(tuple(sottovoce.read_samples(_SPEECH))[:5])
    sottovoce.compress(model, "int8-gptq", samples, resume=out.parents[1] / "w")
    return _written(sottovoce.save(model, out))


def together(directory: str, out: Path) -> Result:
    """Load the model in two threads at once, and use the second one's."""
    import sottovoce

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        _, model = (future.result() for future in [pool.submit(sottovoce.load, directory) for _ in range(2)])
    return _used(model)


OPERATIONS: Mapping[str, Callable[[str, Path], Result]] = {
    "predict": predict,
    "inspect": inspect,
    "compress": compress,
    "save": save,
    "evaluate": evaluate,
    "resume": resume,
    "together": together,
}


def _sample(task: str) -> Any:
    import sottovoce

    if task != "conversation":
        return sottovoce.read_samples(_SPEECH)[0]
    return next(sample for sample in sottovoce.read_samples(_TASKS) if "audio" in sample.key)


def _used(model: Any) -> Result:
    import torch

    sample = _sample(model.architecture.task)
    answer = model.architecture.runner.predict(model, sample)
    with torch.inference_mode():
        logits = model.architecture.runner.forward(model, sample)
    numbers = logits.contiguous().numpy().tobytes()
    shown = f"{answer.text} {' '.join(answer.tokens)} {list(answer.timestamps)}"
    return Result(_digest(shown, numbers), shown[:80], bool(torch.isfinite(logits).all()))


def _written(directory: Path) -> Result:
    written = digests(directory)
    weights = {name: digest for name, digest in written.items() if name.endswith(".safetensors")}
    return Result(_digest(json.dumps(weights, sort_keys=True)), ", ".join(written))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
