"""One way to run Paraformer-large, in a process of its own: answers requests, one JSON object a line.

``python benchmarks/paths.py torch|products|funasr|onnxruntime MODEL [--threads N]``. The first line of the answer says
how long the model took to load. After that ``{"seconds": [20.0]}`` runs a batch of clips of that many seconds each. It
is answered with the time it took, how many tokens came out, and the peak memory of the process so far.
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

import numpy

FRAMES_A_SECOND = 100 / 6
"""After the front end has put 6 frames of 10 ms into one."""
TOKENS_A_SECOND = 4
"""That the model of random weights finds."""
FEATURES = 560

Array = numpy.ndarray[Any, Any]
Batch = Callable[[Array, Array], list[int]]
"""Features and lengths in, numbers of tokens out."""


def features(seconds: tuple[float, ...]) -> tuple[Array, Array]:
    """Return random inputs of a batch, padded with zeros.

    Returns:
        float32 ``[batch, frames, 560]`` and int32 lengths ``[batch]``.
    """
    lengths = numpy.array([round(length * FRAMES_A_SECOND) for length in seconds], dtype=numpy.int32)
    shape = len(lengths), int(lengths.max()), FEATURES
    values = numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)
    values[numpy.arange(shape[1]) >= lengths[:, None]] = 0
    return values, lengths


def load_torch(model: Path, threads: int) -> Batch:
    """Load the model with ``sottovoce.load``, compressed or not."""
    import torch

    import sottovoce

    torch.set_num_threads(threads)
    module: Any = sottovoce.load(str(model)).module

    @torch.inference_mode()
    def run(speech: Array, lengths: Array) -> list[int]:
        encoded, encoded_lengths = module.encode(torch.from_numpy(speech), torch.from_numpy(lengths))
        embeddings, counts, _, _ = module.calc_predictor(encoded, encoded_lengths)
        counts = counts.round().long()
        scores, _ = module.cal_decoder_with_predictor(encoded, encoded_lengths, embeddings, counts)
        scores.argmax(-1)
        return counts.tolist()  # type: ignore[no-any-return]

    return run


def load_products(model: Path, threads: int) -> Batch:
    """Load an int8 model to run its linear layers alone, on inputs that are quantized already.

    Layers of the decoder run on tokens, all others on frames.
    """
    import torch

    import sottovoce
    from sottovoce.runtime.backends import onednn
    from sottovoce.runtime.int8_linear import Int8Linear

    torch.set_num_threads(threads)
    linears = {
        name: layer
        for name, layer in sottovoce.load(str(model)).module.named_modules()
        if isinstance(layer, Int8Linear)
    }

    @functools.cache
    def inputs(rows: int, columns: int) -> onednn.QuantizedActivations | None:
        return onednn.quantize(torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)))

    @torch.inference_mode()
    def run(speech: Array, lengths: Array) -> list[int]:
        frames = int(lengths.sum())
        counts = [round(length / FRAMES_A_SECOND * TOKENS_A_SECOND) for length in lengths.tolist()]
        for name, layer in linears.items():
            is_token = name.startswith("decoder.") and not name.endswith("linear_k_v")
            x, packed = inputs(sum(counts) if is_token else frames, layer.in_features), layer.packed()
            assert x is not None and packed is not None
            onednn.linear(x, packed)
        return counts

    return run


def load_onnxruntime(model: Path, threads: int) -> Batch:
    """Load a graph of FunASR's exporter with onnxruntime's default options."""
    from sottovoce.system import telemetry

    telemetry.forbid()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(speech: Array, lengths: Array) -> list[int]:
        scores, counts = session.run(None, dict(zip(names, (speech, lengths), strict=True)))[:2]
        scores.argmax(-1)
        return counts.tolist()  # type: ignore[no-any-return]

    return run


def export(model: Path, directory: Path) -> None:
    """FunASR's own int8 export: ``model_quant.onnx`` beside the float ``model.onnx``.

    PyTorch's default exporter follows no branch that depends on data, and CIF has one, so the older one is asked for.
    """
    import torch
    from funasr import AutoModel

    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    native = AutoModel(model=str(model), device="cpu", disable_update=True, log_level="ERROR")
    native.export(type="onnx", quantize=True, output_dir=str(directory))


def serve(load: Callable[[], Batch], libraries: tuple[str, ...]) -> None:
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
        batch = features(tuple(json.loads(line)["seconds"]))
        begin = time.perf_counter()
        tokens = run(*batch)
        seconds = time.perf_counter() - begin
        answer = {"seconds": seconds, "tokens": tokens, "peak_memory_bytes": peak_memory()}
        print(json.dumps(answer), file=answers, flush=True)


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", choices=(*_PATHS, "export"))
    parser.add_argument("model", type=Path)
    parser.add_argument("directory", type=Path, nargs="?", help="where `export` writes")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.path == "export":
        export(given.model, given.directory)
    else:
        load, libraries = _PATHS[given.path]
        serve(functools.partial(load, given.model, given.threads), libraries)


# Sottovoce imports only what it needs of FunASR; a program that imports FunASR itself has all of its models.
_PATHS: dict[str, tuple[Callable[[Path, int], Batch], tuple[str, ...]]] = {
    "torch": (load_torch, ("torch", "sottovoce", "sottovoce_paraformer.auto_model")),
    "products": (load_products, ("torch", "sottovoce", "sottovoce_paraformer.auto_model")),
    "funasr": (load_torch, ("torch", "funasr", "sottovoce")),
    "onnxruntime": (load_onnxruntime, ("onnxruntime",)),
}

if __name__ == "__main__":
    main()
