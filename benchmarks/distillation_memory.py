"""Computes the memory that distilling Qwen3-Omni-30B-A3B takes: the table of docs/how-to/several-processes.md.

``python benchmarks/distillation_memory.py`` counts the parameters of the published configuration, without weights.
Nothing is measured here.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import torch

from large_omni import TEXT
from markdown_tables import format_table, write_section

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "several-processes.md"
PARAMETERS = 35_259_818_545
"""Of the published model, with talker and vocoder."""
TEACHER, FROZEN, TRAINED = 2, 4, 16
"""Bytes a parameter: bfloat16; float32; float32 with its gradient and AdamW's two moments."""
GPU, ACTIVATIONS = 80e9, 15e9
"""Bytes of a GPU, and those of them that are left for activations and gathered layers."""
PRUNED = 0.4


def count_thinker() -> Counter[str]:
    """Return the numbers of parameters of the thinker, by part."""
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    thinker = {
        "text_config": TEXT | {"num_hidden_layers": 48},
        "audio_config": {"output_dim": 2048},
        "vision_config": {"out_hidden_size": 2048},
    }
    config = Qwen3OmniMoeConfig(thinker_config=thinker, enable_audio_output=False)
    counts: Counter[str] = Counter()
    with torch.device("meta"):
        for name, parameter in Qwen3OmniMoeForConditionalGeneration(config).named_parameters():
            patterns = {"towers": "audio_tower|visual", "experts": r"\.experts", "routers": r"mlp\.gate\."}
            part = next((part for part, pattern in patterns.items() if re.search(pattern, name)), "rest")
            counts[part] += parameter.numel()
    return counts


def rows() -> list[list[str]]:
    """Return a row for each case: what is trained, and the memory and GPUs that it takes."""
    counts = count_thinker()
    kept = round(TEXT["num_experts"] * (1 - PRUNED)) / TEXT["num_experts"]
    talker = PARAMETERS - counts.total()
    smaller = Counter(counts)
    smaller["experts"], smaller["routers"] = round(kept * counts["experts"]), round(kept * counts["routers"])
    return [
        _row("all", PARAMETERS, 0),
        _row("thinker without routers and towers", *_split(counts, talker)),
        _row(f"the same, {PRUNED:.0%} of its experts pruned", *_split(smaller, talker)),
    ]


def _split(counts: Counter[str], talker: int) -> tuple[int, int]:
    """Return the numbers of parameters that are trained and frozen."""
    return counts["experts"] + counts["rest"], counts["routers"] + counts["towers"] + talker


def _row(what: str, trained: int, frozen: int) -> list[str]:
    teacher, student = TEACHER * PARAMETERS, TRAINED * trained + FROZEN * frozen
    total = teacher + student
    gpus = math.ceil(total / (GPU - ACTIVATIONS))
    numbers = [f"{trained / 1e9:.1f} billion", *(f"{size / 1e9:.0f} GB" for size in (teacher, student, total))]
    return [what, *numbers, str(gpus)]


def main() -> None:
    """Write the table."""
    header = ["trained", "parameters", "teacher", "student", "together", "GPUs of 80 GB"]
    write_section(PAGE, "distillation memory", format_table(header, rows()))


if __name__ == "__main__":
    main()
