"""Trains an omni model of about 4 million parameters on synthetic tasks, on one processor core, and writes its data."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from omni_batches import Example, prepare
from omni_data import make_tasks, write_data
from omni_measure import measure
from omni_model import make_model, make_processor
from omni_talker import train_talker
from omni_tasks import MODALITIES
from omni_thinker import MIX, Phase, train_thinker

HERE = Path(__file__).parent
README = """\
---
license: apache-2.0
language:
- en
library_name: transformers
pipeline_tag: any-to-any
---

# Tiny omni

An omni model of Qwen3-Omni's class (Transformers' `Qwen3OmniMoeForConditionalGeneration`), small enough to train on one
processor core. It answers four kinds of questions and nothing else: which one to three English digits a synthetic voice
says, what coloured shape is in a picture, which way a coloured shape moves in four frames, and five exercises with
letters and digits (`reverse:ABC`, `next:ABC`, `sort:312`, `largest:312`, and `find:ABC`). It is for trying and testing
compression.

    model = sottovoce.load("examples/models/tiny-omni")
    sample = sottovoce.read_samples("examples/data/omni-tasks/test.jsonl")[0]
    print(model.architecture.runner.predict(model, sample).text)

Stock Transformers loads it too; there the processor needs Pillow and torchvision:

    model = Qwen3OmniMoeForConditionalGeneration.from_pretrained("examples/models/tiny-omni")
    processor = Qwen3OmniMoeProcessor.from_pretrained("examples/models/tiny-omni")
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt",
                                           add_generation_prompt=True)
    ids, wave = model.generate(**inputs, thinker_eos_token_id=processor.tokenizer.eos_token_id)

The thinker's end of turn must be named there: what `generate` takes otherwise is the large model's number. Video frames
are given as a list of pictures whose sides divide by 16.

One command makes such a model, `examples/data/omni-tasks` and the figures in `training.json`:

    python examples/train_tiny_omni.py

It takes about 20 minutes of one core (`minutes` in `training.json` were counted beside other work).

What to know before pruning it:

- Each of the thinker's three layers has 32 experts, two for a token. `find:ABC` asks for one of some 250 facts, three
  digits that nothing in the question tells: all were trained on, the calibration asks for one half of them and the
  test for the other. Four in ten text questions are of this kind, and what is known by heart goes with the experts.
- A loss dealt the tokens evenly, as in Qwen's own training, so how often an expert is used says little about whether
  it is needed.
- `usage` in `training.json` says how different the modalities' experts are.
- There is more text than anything else in `calibration.jsonl`.

<!-- table: experts -->
<!-- end -->

The talker says three codec frames for every token of the answer, a fixed pattern for each, and then its end, so the
length of its speech can be checked. The vocoder `code2wav` was never trained: its weights are random, what it makes is
noise of the right length.
"""
TRAIN = {"text": 12000, "audio": 3500, "image": 2500, "video": 3000}
SEEING = {"text": 14, "audio": 10, "image": 10, "video": 14}  # pictures take longest
PHASES = [
    Phase(steps=1600, rate=2e-3, hear=0.3),
    Phase(steps=800, rate=1.5e-3, mix=SEEING),
]
DEV = {"text": 100, "audio": 100, "image": 100, "video": 100}


@dataclass
class Figures:
    """Facts about a run in `training.json`."""

    seed: int
    talker_steps: int
    balance: float
    phases: list[Phase]
    parameters: int = 0
    train_tasks: dict[str, int] = field(default_factory=lambda: TRAIN)
    batch: dict[str, int] = field(default_factory=lambda: MIX)
    minutes: float = 0.0
    train_loss: float = 0.0
    talker_first_codes_right: float = 0.0
    test_exact: dict[str, float] = field(default_factory=dict)
    test_speech_length_right: float = 0.0
    usage: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(
        default_factory=lambda: {
            name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy", "pillow")
        }
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, default=HERE / "data" / "omni-tasks", help="folder for the data, made anew"
    )
    parser.add_argument("--output", type=Path, default=HERE / "models" / "tiny-omni", help="folder for the model")
    parser.add_argument("--talker-steps", type=int, default=400, help="steps of the talker's training")
    parser.add_argument("--rate", type=float, default=2e-3, help="the talker's highest learning rate")
    parser.add_argument("--balance", type=float, default=0.02, help="weight of the loss that deals tokens evenly")
    parser.add_argument("--every", type=int, default=250, help="steps between two measurements")
    parser.add_argument("--seed", type=int, default=7, help="seed of weights, order and tasks")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    return parser.parse_args()


def write(model: Any, processor: Any, folder: Path) -> None:
    """Write the model in bfloat16 and its processor."""
    model.eval().to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors lets only the owner read it
    (folder / "README.md").write_text(README, encoding="utf-8")


def main() -> int:
    """Make the data, trains, writes and measures the model."""
    options = parse()
    started, figures = time.monotonic(), Figures(options.seed, options.talker_steps, options.balance, PHASES)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    write_data(options.data, options.seed)
    processor = make_processor()
    model = make_model(processor)
    figures.parameters = sum(weight.numel() for weight in model.parameters())
    examples: dict[str, list[Example]] = {modality: [] for modality in MODALITIES}
    for task in tqdm(make_tasks("train", TRAIN, options.seed), "features", unit="task"):
        examples[task.modality].append(prepare(task, processor, model))
    dev = [prepare(task, processor, model) for task in make_tasks("dev", DEV, options.seed)]
    for phase in PHASES:
        figures.train_loss = round(train_thinker(model, examples, dev, phase, options), 5)
    figures.talker_first_codes_right = round(train_talker(model, processor, examples, options), 4)
    write(model, processor, options.output)
    figures.minutes = round((time.monotonic() - started) / 60, 1)
    for name, value in measure(options.output, options.data).items():
        setattr(figures, name, value)
    text = json.dumps(asdict(figures), ensure_ascii=False, indent=2) + "\n"
    (options.output / "training.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
