"""Trains a forced aligner of about 3 million parameters on the bundled Mandarin commands, on one processor core."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import soundfile
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import AutoProcessor, Qwen3ASRForTokenClassification

from aligner_clips import TOKEN, Clip, ClipMaker, Collator, batches
from aligner_model import make_model, make_processor
from sottovoce.training.augmentation import SAMPLE_RATE
from speech_features import read_manifest

HERE = Path(__file__).parent
Tensors = dict[str, torch.Tensor]
README = """\
---
license: apache-2.0
language:
- zh
library_name: transformers
pipeline_tag: audio-token-classification
---

# Tiny aligner

A forced aligner of Qwen3-ForcedAligner's class (Transformers' `Qwen3ASRForTokenClassification`) for the synthetic
Mandarin commands in `examples/data/mandarin-commands`, small enough to train on one processor core. It knows the
characters of that corpus and nothing else: it is for trying and testing compression, not for aligning people's speech.
Use it on one command at a time. Its bins of 80 ms reach 20 seconds and it has seen clips of up to 12, but it is much
worse where several commands follow each other (`dev_joined_mean_shift_ms`).

It was made with one command, which also wrote the figures in `training.json`:

    python examples/train_tiny_aligner.py

The mean shift there is the mean distance of all predicted starts and ends of words from the true ones. Bins of 80 ms
alone cost 20 ms of it. Any Transformers of version 5.23 or later loads the model:

    Qwen3ASRForTokenClassification.from_pretrained("examples/models/tiny-aligner")
    AutoProcessor.from_pretrained("examples/models/tiny-aligner")
"""


@dataclass
class Figures:
    """Facts about a run in `training.json`; shifts are in milliseconds."""

    seed: int
    epochs: int
    parameters: int = 0
    characters: int = 0
    train_utterances: int = 0
    train_clips: int = 0
    steps: int = 0
    minutes: float = 0.0
    best_epoch: int = 0
    train_loss: float = math.inf
    dev_mean_shift_ms: float = math.inf
    dev_within_one_bin: float = 0.0
    dev_joined_mean_shift_ms: float = math.inf
    test_mean_shift_ms: float = math.inf
    test_within_one_bin: float = 0.0
    versions: dict[str, str] = field(
        default_factory=lambda: {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    )


def soft_cross_entropy(logits: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Cross entropy against times in seconds, each shared between the two bins that it lies between."""
    place = (times / TOKEN).clamp(0, logits.shape[-1] - 1.001)
    lower, share = place.long(), place.frac()
    scores = logits.float().log_softmax(-1)
    near, far = (scores.gather(-1, (lower + step)[:, None])[:, 0] for step in (0, 1))
    return -((1 - share) * near + share * far).mean()


def loss_of(model: Qwen3ASRForTokenClassification, words: list[int], arguments: Tensors, targets: Tensors) -> Tensors:
    """Compute the aligner's own loss, and two auxiliary losses that help it to learn where to look.

    Args:
        model: The aligner.
        words: Token of every character.
        arguments: Arguments of the forward pass.
        targets: Times of the words, and times and words of the audio tokens.

    Returns:
        `align`: the times at the markers. `place`: the middle layer should know the time of every audio token.
        `word`: the audio tower should make of every audio token something like the token of the word spoken there.
    """
    outputs = model.model(**arguments, output_hidden_states=True, use_cache=False)
    ids, base = arguments["input_ids"], model.model.language_model
    marked = model.score(model.dropout(outputs.last_hidden_state[ids == model.config.timestamp_token_id]))
    middle = outputs.hidden_states[len(base.layers) // 2][ids == model.config.audio_token_id]
    table = base.embed_tokens.weight[[model.config.audio_token_id, *words]]
    return {
        "align": soft_cross_entropy(marked, targets["times"]),
        "place": soft_cross_entropy(model.score(base.norm(middle)), targets["token_times"]),
        "word": cross_entropy(outputs.audio_hidden_states @ table.T, targets["token_words"]),
    }


@torch.no_grad()
def mean_shift(model: Qwen3ASRForTokenClassification, clips: list[Clip], collate: Collator) -> float:
    """Mean shift over clips in milliseconds, without the processor's repair of times that go back."""
    model.eval()
    shifts = []
    for batch in batches(clips, 48, None):
        arguments, targets = collate(batch)
        logits = model(**arguments, use_cache=False).logits[arguments["input_ids"] == model.config.timestamp_token_id]
        shifts.append((logits.argmax(-1) * TOKEN - targets["times"]).abs())
    return float(torch.cat(shifts).mean()) * 1000


def singles(copies: int) -> int:
    """Return the number of copies of the training speech with one utterance a clip; the others join several."""
    return max(1, copies // 2)


def train(
    model: Qwen3ASRForTokenClassification,
    copies: list[list[Clip]],
    dev: list[Clip],
    collate: Collator,
    options: argparse.Namespace,
    figures: Figures,
) -> Tensors:
    """Trains the model and returns the weights of the epoch that is best on the dev set."""
    source, best = random.Random(options.seed), {}
    # Where to look is learned from short clips; those that join utterances come in the second half.
    half, single = options.epochs // 2, singles(len(copies))
    turns = [epoch % (single if epoch < half else len(copies)) for epoch in range(options.epochs)]
    plan = [list(batches(copies[turn], options.batch, source)) for turn in turns]
    total = sum(len(epoch) for epoch in plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    warmup = min(200, total // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / total, 1)))
    )
    with tqdm(total=total, desc="training", unit="step") as bar:
        for epoch, groups in enumerate(plan, 1):
            model.train()
            sums = dict.fromkeys(("align", "place", "word"), 0.0)
            for batch in groups:
                optimizer.zero_grad()
                losses = loss_of(model, collate.words, *collate(batch))
                (losses["align"] + options.aid * (losses["place"] + losses["word"])).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                for name, loss in losses.items():
                    sums[name] += loss.item() / len(groups)
                bar.update()
            shift = mean_shift(model, dev, collate)
            bar.set_postfix(epoch=epoch, dev_ms=round(shift, 1), **{name: round(sums[name], 3) for name in sums})
            if shift < figures.dev_mean_shift_ms:
                best = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
                figures.dev_mean_shift_ms, figures.best_epoch, figures.train_loss = shift, epoch, sums["align"]
    figures.steps = total
    return best


@torch.no_grad()
def measure(folder: Path, manifest: Path) -> tuple[float, float]:
    """Mean shift in milliseconds and share of boundaries within one bin of the written model, by stock Transformers."""
    model, processor = Qwen3ASRForTokenClassification.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    shifts: list[float] = []
    for row in tqdm(read_manifest(manifest), f"measuring on {manifest.stem}", unit="utterance"):
        span = {side: round(row[side] * SAMPLE_RATE) for side in ("start", "end") if side in row}
        audio, _ = soundfile.read(
            manifest.parent / row["source"], start=span.get("start", 0), stop=span.get("end"), dtype="float32"
        )
        inputs, words = processor.prepare_forced_aligner_inputs(audio=[audio], transcript=[row["target"]])
        words_found = processor.decode_forced_alignment(
            model(**inputs).logits, inputs["input_ids"], words, model.config.timestamp_token_id
        )[0]
        for item, word in zip(words_found, row["words"], strict=True):
            shifts += [abs(item[f"{side}_time"] - word[side]) for side in ("start", "end")]
    within = sum(shift <= TOKEN for shift in shifts) / len(shifts)
    return round(sum(shifts) / len(shifts) * 1000, 2), round(within, 4)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE / "data" / "mandarin-commands", help="the speech")
    parser.add_argument("--output", type=Path, default=HERE / "models" / "tiny-aligner", help="folder to write")
    parser.add_argument("--epochs", type=int, default=22, help="passes over the training speech")
    parser.add_argument("--batch", type=float, default=32, help="seconds of audio in a batch")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="highest learning rate")
    parser.add_argument("--copies", type=int, default=4, help="recording conditions of every training utterance")
    parser.add_argument("--join", type=float, default=0.3, help="share of the later clips that join utterances")
    parser.add_argument("--aid", type=float, default=0.3, help="weight of the two helping losses")
    parser.add_argument("--seed", type=int, default=7, help="seed of weights, order and recording conditions")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    return parser.parse_args()


def main() -> int:
    """Trains, writes and measures the model."""
    options = parse()
    started, figures = time.monotonic(), Figures(options.seed, options.epochs)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rows = read_manifest(options.data / "train.jsonl")
    characters = sorted({character for row in rows for character in row["target"]})
    processor = make_processor(characters)
    model = make_model(processor)
    figures.parameters = sum(weight.numel() for weight in model.parameters())
    figures.characters, figures.train_utterances = len(characters), len(rows)
    maker = ClipMaker(options.data / "train.jsonl", processor, characters, options.seed)
    joins = [0.0 if copy < singles(options.copies) else options.join for copy in range(options.copies)]
    copies = [maker.training_copy(copy, join) for copy, join in enumerate(joins)]
    figures.train_clips = sum(len(copy) for copy in copies)
    listener = ClipMaker(options.data / "dev.jsonl", processor, characters, options.seed)
    dev = listener.dev_clips()
    collate = Collator(processor, characters, model.config.timestamp_token_id)
    model.load_state_dict(train(model, copies, dev, collate, options, figures))
    figures.dev_joined_mean_shift_ms = round(mean_shift(model, listener.training_copy(0, 1.0), collate), 2)
    model.eval().save_pretrained(options.output)
    processor.save_pretrained(options.output)
    (options.output / "model.safetensors").chmod(0o644)  # safetensors lets only the owner read it
    (options.output / "README.md").write_text(README, encoding="utf-8")
    figures.minutes = round((time.monotonic() - started) / 60, 1)
    figures.dev_mean_shift_ms, figures.dev_within_one_bin = measure(options.output, options.data / "dev.jsonl")
    figures.test_mean_shift_ms, figures.test_within_one_bin = measure(options.output, options.data / "test.jsonl")
    text = json.dumps(asdict(figures), ensure_ascii=False, indent=2) + "\n"
    (options.output / "training.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
