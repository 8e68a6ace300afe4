"""One way to run the aligner, in a process of its own: answers requests, one JSON object a line.

``python benchmarks/aligner_paths.py transformers|sottovoce MODEL [--threads N]``. The first line of the answer says how
long the model took to load; after that ``{"seconds": 30, "words": 80}`` aligns so many one-letter words (of three
tokens each) in a clip of noise, and is answered with the time it took and the peak memory of the process so far.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paths import peak_memory

Align = Callable[[float, int], None]


def load_transformers(model: Path, threads: int) -> Align:
    """Load the class of transformers as its users do."""
    import torch
    from transformers import AutoProcessor, Qwen3ASRForTokenClassification

    torch.set_num_threads(threads)
    native = Qwen3ASRForTokenClassification.from_pretrained(model, dtype="auto").eval()
    return functools.partial(align, native, AutoProcessor.from_pretrained(model))


def load_sottovoce(model: Path, threads: int) -> Align:
    """Load the model with ``sottovoce.load``."""
    import torch

    import sottovoce

    torch.set_num_threads(threads)
    loaded = sottovoce.load(str(model))
    return functools.partial(align, loaded.native, loaded.processor)


def align(native: Any, processor: Any, seconds: float, words: int) -> None:
    """Run the model once; the features are made outside of the time, as for every path."""
    import torch

    with torch.inference_mode():
        native(**inputs(native.dtype, processor, seconds, words), use_cache=False)


@functools.cache
def inputs(dtype: Any, processor: Any, seconds: float, words: int) -> dict[str, Any]:
    """Return the processor's inputs, in the dtype of the model."""
    import numpy

    audio = 0.1 * numpy.random.default_rng(0).standard_normal(round(seconds * 16000)).astype(numpy.float32)
    text = " ".join("ab"[number % 2] for number in range(words))
    arguments, _ = processor.prepare_forced_aligner_inputs(audio=[audio], transcript=[text], language=["English"])
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in arguments.items()}


def serve(load: Callable[[], Align], libraries: tuple[str, ...]) -> None:
    """Answer requests from standard input until it closes."""
    # Libraries print to standard output; the answers have it for themselves.
    answers, sys.stdout = sys.stdout, sys.stderr
    times = [time.perf_counter()]
    for library in libraries:
        importlib.import_module(library)
    times.append(time.perf_counter())
    run = load()
    times.append(time.perf_counter())
    loaded = {"import_seconds": times[1] - times[0], "load_seconds": times[2] - times[1]}
    print(json.dumps({**loaded, "peak_memory_bytes": peak_memory()}), file=answers, flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        run(**json.loads(line))
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "peak_memory_bytes": peak_memory()}), file=answers, flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", choices=_PATHS)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    load, libraries = _PATHS[given.path]
    serve(functools.partial(load, given.model, given.threads), libraries)


_LIBRARIES = ("torch", "transformers", "transformers.models.qwen3_asr.modeling_qwen3_asr")
"""Both paths import the model's class, which transformers does only when it is asked for."""
_PATHS: dict[str, tuple[Callable[[Path, int], Align], tuple[str, ...]]] = {
    "transformers": (load_transformers, _LIBRARIES),
    "sottovoce": (load_sottovoce, (*_LIBRARIES, "sottovoce")),
}

if __name__ == "__main__":
    main()
