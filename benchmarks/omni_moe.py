"""Expert pruning and 4 bits for a mixture larger than memory, at Qwen3-Omni-30B-A3B's real widths.

``python benchmarks/omni_moe.py [--layers 2,4,8] [--json FILE] [--threads N] [--work DIRECTORY] [--samples N]``

For every number of thinker layers: ``sottovoce compress --recipe reap50-int4 --max-memory 8GB`` on conversations with
speech, and the same from the saved saliency alone, without samples. Beside it what bounds a layer: its matrix products
at the rate that this machine has for them, and reading and writing it at the disk's rate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from workers import HERE, machine, megabytes, note

LIBRARIES = ("sottovoce", "torch", "transformers", "safetensors")
EXAMPLES = HERE.parent / "examples" / "data" / "mandarin-commands"
WIDTH, INNER, EXPERTS, TOP_K, ATTENTION, KEYS = 2048, 768, 128, 8, 4096, 512
CHARACTERS = 400
"""Of text in a conversation: a token each, with this tokenizer."""


def calibration(directory: Path, count: int) -> Path:
    """Conversations of about 512 tokens: some speech and a page of text."""
    rows = [json.loads(line) for line in (EXAMPLES / "calibration.jsonl").read_text(encoding="utf-8").splitlines()]
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    directory.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        clips = [EXAMPLES / rows[(3 * number + offset) % len(rows)]["source"] for offset in range(3)]
        content = [{"type": "audio", "audio": str(clip.resolve())} for clip in clips]
        page = text[number * CHARACTERS : (number + 1) * CHARACTERS].encode("ascii", "ignore").decode()
        content.append({"type": "text", "text": page})
        lines.append(
            json.dumps({"key": str(number), "messages": [{"role": "user", "content": content}], "target": "Yes."})
        )
    path = directory / "calibration.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def compress(model: Path, recipe: str, output: Path, threads: int, *options: str) -> dict[str, Any]:
    """Run the command and give its report, with the time and the peak memory of the whole process."""
    command = [
        sys.executable,
        "-m",
        "sottovoce",
        "compress",
        str(model),
        "--recipe",
        recipe,
        "--output",
        str(output),
        "--json",
        "--quiet",
        "--overwrite",
        *options,
    ]
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as messages, tempfile.TemporaryFile() as result:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, stdout=result, stderr=messages, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            messages.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{messages.read().decode(errors='replace')[-2000:]}")
        result.seek(0)
        report = json.loads(result.read())
    return {
        "seconds": time.perf_counter() - begin,
        "peak_memory_bytes": usage.ru_maxrss * 1024,
        "size_bytes": sum(path.stat().st_size for path in output.glob("*.safetensors")),
        "timing": [
            {"step": step["step"]["step"], "seconds": step["seconds"], **step["timing"]} for step in report["steps"]
        ],
    }


def rates() -> dict[str, float]:
    """Products and disk traffic that this machine does in a second, each alone."""
    import torch

    def timed(work: Any, amount: float) -> float:
        work()
        spent = []
        for _ in range(3):
            begin = time.perf_counter()
            work()
            spent.append(time.perf_counter() - begin)
        return amount / sorted(spent)[1]

    half, full = (torch.randn(1024, WIDTH).to(kind) for kind in (torch.bfloat16, torch.float32))
    weight = torch.randn(2 * INNER, WIDTH).to(torch.bfloat16)
    cached = torch.ones(1 << 16)
    moments = full.t() @ full / len(full) + torch.eye(WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        path, block = Path(folder) / "block", os.urandom(1 << 28)

        def write() -> None:
            path.write_bytes(block)

        return {
            "bf16_products": timed(lambda: torch.nn.functional.linear(half, weight), 2 * half.numel() * len(weight)),
            "float32_products": timed(lambda: full.t() @ full, 2 * full.numel() * WIDTH),
            "factors": timed(lambda: torch.linalg.cholesky(moments), 1.0),
            "values": timed(lambda: [cached.mul_(1.0) for _ in range(100)], 100 * cached.numel()),
            "written_bytes": timed(write, len(block)),
            "read_bytes": timed(path.read_bytes, len(block)),
        }


def bound(tokens: int, costs: dict[str, float]) -> dict[str, float]:
    """Seconds that a layer cannot be done in less of: what must be computed, and what must be read and written.

    The experts and the attention run twice at least: before the experts are chosen, and what stays once more for what
    comes after. GPTQ needs the second moments of what every expert that stays and the attention are given, a Cholesky
    factor of each, the products that carry the errors, and a few passes over every weight: ten ranges are tried in five
    each, a column is rounded in five, and what both roundings lose is found in five. The report's output errors,
    before and after, are three energies: of the attention under its moments, of an expert's output on 64 tokens.
    """
    expert, inputs = 3 * WIDTH * INNER, WIDTH**2 + INNER**2
    attention = WIDTH * (2 * ATTENTION + 2 * KEYS)
    running = 2 * 2 * tokens * (TOP_K * expert + attention) / costs["bf16_products"]
    moments = 2 * tokens * (TOP_K * inputs + WIDTH**2 + ATTENTION**2) / costs["float32_products"]
    factors = (EXPERTS / 2 * (1 + (INNER / WIDTH) ** 3) + 1 + (ATTENTION / WIDTH) ** 3) / costs["factors"]
    carried = (ATTENTION + 2 * KEYS) * WIDTH**2 + WIDTH * ATTENTION**2
    carrying = (EXPERTS / 2 * (2 * INNER * WIDTH**2 + WIDTH * INNER**2) + carried) / costs["float32_products"]
    errors = 3 * (carried + 2 * 64 * EXPERTS / 2 * expert) / costs["float32_products"]
    passes = (EXPERTS / 2 * expert + attention) * (10 * 5 + 5 + 5) / costs["values"]
    size = 2 * (expert * EXPERTS + attention)
    return {
        "arithmetic": running + moments + factors + carrying + errors + passes,
        **{"running": running, "moments": moments, "factors": factors, "carrying": carrying, "errors": errors},
        "passes": passes,
        "disk": size / costs["read_bytes"] + size / 7.5 / costs["written_bytes"],
    }


def tokens_of(model: Path, data: Path) -> int:
    """Return the number of tokens of the conversations."""
    code = (
        "import sys, sottovoce; from sottovoce.samples import read_samples;"
        "from sottovoce_omni_moe.conversation import inputs;"
        "m = sottovoce.load(sys.argv[1], stream=True);"
        "print(sum(inputs(m, s, answered=True)['input_ids'].shape[1] for s in read_samples(sys.argv[2])))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(model), str(data)], capture_output=True, text=True, check=True
    )
    return int(process.stdout.split()[-1])


def run(work: Path, depths: list[int], threads: int, samples: int) -> dict[str, Any]:
    """Write and compress a model of every depth."""
    data = calibration(work / "data", samples)
    free = {"steps": [{"step": "prune_experts", "keep": 0.5, "scores": ""}, {"step": "quantize", "bits": 4}]}
    results: dict[str, Any] = {}
    load = [os.getloadavg()[0]]
    tokens = 0
    for layers in depths:
        model, output = work / f"omni-{layers}", work / f"omni-{layers}-int4"
        if not (model / "config.json").is_file():
            note(f"writing {layers} layers")
            subprocess.run(
                [sys.executable, str(HERE / "large_omni.py"), str(model), "--layers", str(layers)], check=True
            )
        tokens = tokens or tokens_of(model, data)
        note(f"{layers} layers: reap50-int4")
        runs = {
            "reap50-int4": compress(model, "reap50-int4", output, threads, "--data", str(data), "--max-memory", "8GB")
        }
        free["steps"][0]["scores"] = str(output / "saliency.json")
        recipe = work / "free.json"
        recipe.write_text(json.dumps(free), encoding="utf-8")
        note(f"{layers} layers: the same without samples")
        runs["without samples"] = compress(
            model, str(recipe), work / f"omni-{layers}-free", threads, "--max-memory", "4GB"
        )
        runs["model_bytes"] = sum(path.stat().st_size for path in model.glob("*.safetensors"))
        results[str(layers)] = runs
    load.append(os.getloadavg()[0])
    found_rates = rates()
    return {
        "machine": {**machine(threads, LIBRARIES), "load_average": load},
        "tokens": tokens,
        "layers": results,
        "rates": found_rates,
        "bound": bound(tokens, found_rates),
        "per_layer": per_layer(results),
    }


def per_layer(results: dict[str, Any]) -> dict[str, float]:
    """Seconds that one more layer takes, between the fewest and the most layers."""
    fewest, most = min(results, key=int), max(results, key=int)
    if fewest == most:
        return {}
    return {
        way: (results[most][way]["seconds"] - results[fewest][way]["seconds"]) / (int(most) - int(fewest))
        for way in ("reap50-int4", "without samples")
    }


def table(result: dict[str, Any]) -> str:
    """Return the result as text."""
    lines = [f"{result['tokens']} tokens of calibration"]
    for layers, runs in result["layers"].items():
        for way in ("reap50-int4", "without samples"):
            run = runs[way]
            lines.append(
                f"{layers} layers, {way}: {run['seconds']:.0f} s, peak {megabytes(run['peak_memory_bytes'])}, "
                f"{megabytes(runs['model_bytes'])} -> {megabytes(run['size_bytes'])}; {run['timing']}"
            )
    lines.append(f"one more layer: {json.dumps(result['per_layer'])} s; its bound: {json.dumps(result['bound'])} s")
    return "\n".join(lines)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="2,4,8", help="thinker layers, with , between them")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="directory that keeps the models; what it holds is not made again")
    parser.add_argument("--samples", type=int, default=16)
    given = parser.parse_args()
    depths = [int(depth) for depth in given.layers.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        result = run(work, depths, given.threads, given.samples)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
