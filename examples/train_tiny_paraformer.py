"""Trains a Paraformer of about 3 million parameters on the bundled Mandarin commands, on one core of a processor."""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import funasr
import jiwer
import torch
import yaml
from funasr.models.paraformer.model import Paraformer
from safetensors.torch import save_file
from tqdm import tqdm

from speech_features import (
    Collator,
    Example,
    Row,
    batches,
    degraded_features,
    examples_of,
    moments,
    read_manifest,
    training_copies,
    write_cmvn,
)

HERE = Path(__file__).parent
CONFIG = HERE / "tiny_paraformer.yaml"
CONFIGURATION = {
    "framework": "pytorch",
    "task": "auto-speech-recognition",
    "model": {"type": "funasr"},
    "file_path_metas": {
        "init_param": "model.safetensors",
        "config": "config.yaml",
        "tokenizer_conf": {"token_list": "tokens.json"},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    },
}
README = """\
---
license: apache-2.0
language:
- zh
library_name: funasr
pipeline_tag: automatic-speech-recognition
---

# Tiny Paraformer

A Paraformer (FunASR's own class) for the synthetic Mandarin commands in `examples/data/mandarin-commands`, small
enough to train on one processor core. It knows the characters of that corpus and nothing else: it is for trying
and testing compression, not for recognising people.

It was made with one command, which also wrote the figures in `training.json`:

    python examples/train_tiny_paraformer.py

and any FunASR loads it:

    AutoModel(model="examples/models/tiny-paraformer", disable_update=True)
"""


@dataclass
class Figures:
    """Facts about a run in `training.json`."""

    seed: int
    epochs: int
    parameters: int = 0
    characters: int = 0
    train_utterances: int = 0
    steps: int = 0
    minutes: float = 0.0
    best_epoch: int = 0
    train_loss: float = math.inf
    dev_loss: float = math.inf
    dev_cer: float = math.inf
    test_cer: float = math.inf
    versions: dict[str, str] = field(
        default_factory=lambda: {name: version(name) for name in ("torch", "funasr", "kaldi-native-fbank", "numpy")}
    )


def token_list(rows: list[Row]) -> list[str]:
    """Return the vocabulary, in the order of FunASR's models."""
    characters = sorted({character for row in rows for character in row["target"]})
    return ["<blank>", "<s>", "</s>", *characters, "<unk>"]


def hypotheses(model: Paraformer, arguments: dict[str, torch.Tensor]) -> list[list[int]]:
    """Recognises a batch as the model's own inference does, without its special tokens."""
    encoded, lengths = model.encode(arguments["speech"], arguments["speech_lengths"])
    embeds, counts, *_ = model.calc_predictor(encoded, lengths)
    counts = counts.round().long()
    if counts.max() < 1:
        return [[] for _ in counts]
    scores, _ = model.cal_decoder_with_predictor(encoded, lengths, embeds, counts)
    best = scores.argmax(-1)
    return [[token for token in row[:count].tolist() if token > 2] for row, count in zip(best, counts, strict=True)]


@torch.no_grad()
def evaluate(model: Paraformer, examples: list[Example], collate: Collator) -> tuple[float, float]:
    """Loss and character error rate."""
    model.eval()
    losses, references, texts = [], [], []
    for batch in batches(examples, 32, None):
        arguments = collate(batch)
        losses.append(float(model(**arguments)[0]))
        references += ["".join(chr(token + 0x4E00) for token in tokens.tolist()) for tokens, _ in batch]
        texts += ["".join(chr(token + 0x4E00) for token in row) for row in hypotheses(model, arguments)]
    return sum(losses) / len(losses), jiwer.cer(references, texts)


def train(
    model: Paraformer,
    train_set: list[Example],
    dev_set: list[Example],
    collate: Collator,
    options: argparse.Namespace,
    figures: Figures,
) -> dict[str, torch.Tensor]:
    """Trains the model and returns the weights of the epoch that is best on the dev set."""
    total = options.epochs * math.ceil(len(train_set) / options.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    warmup = min(500, total // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1)))
    )
    source, best = random.Random(options.seed), {}
    with tqdm(total=total, desc="training", unit="step") as bar:
        for epoch in range(1, options.epochs + 1):
            model.train()
            losses = []
            for batch in batches(train_set, options.batch, source):
                optimizer.zero_grad()
                loss = model(**collate(batch))[0]
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
            dev_loss, dev_cer = evaluate(model, dev_set, collate)
            train_loss = sum(losses) / len(losses)
            bar.set_postfix(epoch=epoch, loss=f"{train_loss:.3f}", dev_loss=f"{dev_loss:.3f}", dev_cer=f"{dev_cer:.2%}")
            if (dev_cer, dev_loss) < (figures.dev_cer, figures.dev_loss):
                best = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
                figures.dev_cer, figures.dev_loss, figures.best_epoch = dev_cer, dev_loss, epoch
                figures.train_loss = train_loss
    figures.steps = total
    return best


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def measure(model: Path, manifest: Path, threads: int) -> float:
    """Character error rate of the written model over a manifest, through FunASR's own AutoModel."""
    rows = read_manifest(manifest)
    recogniser = funasr.AutoModel(model=str(model), device="cpu", disable_update=True, disable_pbar=True, ncpu=threads)
    results = recogniser.generate(input=[str(manifest.parent / row["source"]) for row in rows])
    texts = {result["key"]: result["text"] for result in results}
    return jiwer.cer([row["target"] for row in rows], [texts.get(Path(row["source"]).stem, "") for row in rows])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE / "data" / "mandarin-commands", help="the speech")
    parser.add_argument("--output", type=Path, default=HERE / "models" / "tiny-paraformer", help="folder to write")
    parser.add_argument("--epochs", type=int, default=15, help="passes over the training speech")
    parser.add_argument("--batch", type=int, default=16, help="utterances in a batch")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--copies", type=int, default=4, help="recording conditions of every training utterance")
    parser.add_argument("--seed", type=int, default=7, help="seed of weights, order and recording conditions")
    parser.add_argument(
        "--threads", type=int, default=1, help="processor threads; more can be slower on a busy machine"
    )
    return parser.parse_args()


def main() -> int:
    """Trains, writes and measures the model."""
    options = parse()
    started, figures = time.monotonic(), Figures(options.seed, options.epochs)
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    manifests = {split: options.data / f"{split}.jsonl" for split in ("train", "dev", "test")}
    rows = {split: read_manifest(path) for split, path in manifests.items()}
    copies = training_copies(manifests["train"], config["frontend_conf"], options.seed, options.copies)
    dev = degraded_features(0, manifests["dev"], config["frontend_conf"], options.seed, training=False)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokens = token_list(rows["train"])
    mean, deviation = moments(item for copy in copies for item in copy)
    model = Paraformer(**config, **config["model_conf"], input_size=mean.size, vocab_size=len(tokens))
    figures.parameters = sum(weight.numel() for weight in model.parameters())
    figures.characters, figures.train_utterances = len(tokens) - 4, len(rows["train"])
    train_set, dev_set = examples_of(rows["train"], copies, tokens), examples_of(rows["dev"], [dev], tokens)
    weights = train(model, train_set, dev_set, Collator(mean, deviation), options, figures)
    options.output.mkdir(parents=True, exist_ok=True)
    save_file(weights, options.output / "model.safetensors")
    (options.output / "model.safetensors").chmod(0o644)  # safetensors lets only the owner read it
    shutil.copyfile(CONFIG, options.output / "config.yaml")
    write_json(options.output / "configuration.json", CONFIGURATION)
    write_json(options.output / "tokens.json", tokens)
    write_cmvn(options.output / "am.mvn", mean, deviation)
    (options.output / "README.md").write_text(README, encoding="utf-8")
    figures.minutes = round((time.monotonic() - started) / 60, 1)
    figures.test_cer = measure(options.output, manifests["test"], options.threads)
    write_json(options.output / "training.json", asdict(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
