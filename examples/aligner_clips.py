"""Clips for training an aligner: one or more utterances of the bundled speech, in a recording condition, with times."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import Qwen3ASRProcessor

from sottovoce.training.augmentation import SAMPLE_RATE, Condition, Waveform, change_speed, degrade, draw_condition
from speech_features import Row, read_manifest, read_speech

LONGEST = 12.0  # seconds of a clip
FRAME, CHUNK, CHUNK_TOKENS, TOKEN = 0.01, 100, 13, 0.08  # seconds, frames, tokens, seconds: the audio tower's
NO_WORD = 0  # among the targets of audio tokens; words are numbered from 1


@dataclass(frozen=True)
class Clip:
    """A clip ready for training.

    Attributes:
        features: Log-mel energies `[mels, frames]`, the frames filled up to whole chunks; half precision saves memory.
        frames: Frames that hold audio.
        words: Number of every word in the list of characters.
        times: Start and end of every word in seconds, `[2 * words]`.
    """

    features: npt.NDArray[np.float16]
    frames: int
    words: list[int]
    times: npt.NDArray[np.float32]

    @property
    def tokens(self) -> int:
        """Tokens that the audio tower makes of the clip."""
        return self.frames // CHUNK * CHUNK_TOKENS + -(-(self.frames % CHUNK) // 8)


def extract(processor: Qwen3ASRProcessor, samples: Waveform) -> tuple[npt.NDArray[np.float16], int]:
    """Return the processor's features of a clip and the number of frames that hold audio."""
    inputs = processor.feature_extractor(samples, sampling_rate=SAMPLE_RATE, padding=True, return_attention_mask=True)
    return inputs["input_features"][0].numpy().astype(np.float16), int(inputs["attention_mask"].sum())


class ClipMaker:
    """Makes clips of a split's utterances."""

    def __init__(self, manifest: Path, processor: Qwen3ASRProcessor, characters: list[str], seed: int) -> None:
        """Read the split.

        Args:
            manifest: Manifest of clean speech with words.
            processor: Its feature extractor makes the features.
            characters: The words that the model knows.
            seed: Seed of everything drawn.
        """
        self.rows, self.speech = read_manifest(manifest), read_speech(manifest)
        self.processor, self.seed = processor, seed
        self.number = {character: index for index, character in enumerate(characters)}

    def single(self, row: Row, clean: Waveform) -> Clip:
        """Make a clip of one utterance in its own recording condition, at normal speed."""
        generator = np.random.default_rng([self.seed, zlib.crc32(row["key"].encode())])
        return self.record([(row, clean, 100)], [0.0], draw_condition(generator), generator)

    def record(
        self,
        parts: list[tuple[Row, Waveform, int]],
        pauses: list[float],
        condition: Condition,
        generator: np.random.Generator,
    ) -> Clip:
        """Join utterances, each at a speed in percent and after a pause in seconds, and records them together."""
        pieces: list[Waveform] = []
        words: list[int] = []
        times: list[float] = []
        for (row, clean, percent), pause in zip(parts, pauses, strict=True):
            pieces.append(np.zeros(int(pause * SAMPLE_RATE), np.float32))
            shift = sum(piece.size for piece in pieces) / SAMPLE_RATE
            pieces.append(change_speed(clean, percent))
            for word in row["words"]:
                words.append(self.number[word["text"]])
                times += [shift + word[side] * 100 / percent for side in ("start", "end")]
        samples = degrade(np.concatenate(pieces), condition, self.speech, generator)
        features, frames = extract(self.processor, samples)
        return Clip(features, frames, words, np.array(times, np.float32))

    def dev_clips(self) -> list[Clip]:
        """Every utterance as a clip."""
        pairs = zip(self.rows, self.speech, strict=True)
        return [self.single(row, clean) for row, clean in tqdm(pairs, "dev clips", len(self.rows), unit="clip")]

    def training_copy(self, copy: int, join: float) -> list[Clip]:
        """All utterances once, in random order; a share of the clips joins two to four of them, up to 12 seconds."""
        generator = np.random.default_rng([self.seed, copy])
        order, clips = [int(index) for index in generator.permutation(len(self.rows))], []
        with tqdm(total=len(order), desc=f"clips, copy {copy + 1}", unit="utterance") as bar:
            while order:
                parts, pauses, seconds = [], [], 0.0
                count = int(generator.integers(2, 5)) if generator.random() < join else 1
                while order and len(parts) < count:
                    clean, percent = self.speech[order[-1]], int(generator.integers(88, 113))
                    pause = float(generator.uniform(0, 0.8)) * float(generator.random() < 0.7)
                    seconds += pause + clean.size / SAMPLE_RATE * 100 / percent
                    if parts and seconds > LONGEST:
                        break
                    parts.append((self.rows[order.pop()], clean, percent))
                    pauses.append(pause)
                clips.append(self.record(parts, pauses, draw_condition(generator, (5.0, 25.0)), generator))
                bar.update(len(parts))
        return clips


def batches(clips: list[Clip], seconds: float, source: random.Random | None) -> Iterator[list[Clip]]:
    """Group clips of like length into batches of about so many seconds; shuffled if a source is given."""
    order = sorted(clips, key=lambda clip: clip.frames + (source.uniform(0, 80) if source else 0))
    groups: list[list[Clip]] = [[]]
    for clip in order:
        if groups[-1] and (len(groups[-1]) + 1) * clip.frames * FRAME > seconds:
            groups.append([])
        groups[-1].append(clip)
    if source:
        source.shuffle(groups)
    yield from groups


def token_times(clip: Clip) -> torch.Tensor:
    """Return the time in seconds at the middle of the audio of every audio token."""
    index = torch.arange(clip.tokens)
    return index // CHUNK_TOKENS * (CHUNK * FRAME) + index % CHUNK_TOKENS * TOKEN


def token_words(clip: Clip) -> torch.Tensor:
    """Return the word that is spoken in the middle of every audio token, or `NO_WORD`."""
    middle, words = token_times(clip), torch.full((clip.tokens,), NO_WORD)
    for word, (start, end) in zip(clip.words, clip.times.reshape(-1, 2), strict=True):
        words[(middle >= float(start)) & (middle < float(end))] = word + 1
    return words


class Collator:
    """Makes padded tensors of a batch, the same that the processor makes of the audio and its words."""

    def __init__(self, processor: Qwen3ASRProcessor, characters: list[str], marker: int) -> None:
        """Keep the numbers of the tokens."""
        tokenizer = processor.tokenizer
        self.words = tokenizer.convert_tokens_to_ids([tokenizer.tokenize(word)[0] for word in characters])
        self.bounds, self.pad = (processor.audio_bos_token_id, processor.audio_eos_token_id), tokenizer.pad_token_id
        self.audio, self.marker = processor.audio_token_id, marker

    def ids(self, clip: Clip) -> list[int]:
        """Return the tokens of a clip: its audio, then every word with a marker for its start and one for its end."""
        text = [token for word in clip.words for token in (self.words[word], self.marker, self.marker)]
        return [self.bounds[0], *[self.audio] * clip.tokens, self.bounds[1], *text]

    def __call__(self, clips: list[Clip]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Make the arguments of the model's forward pass and what it should find."""
        longest = max(clip.features.shape[1] for clip in clips)
        features = torch.zeros(len(clips), clips[0].features.shape[0], longest)
        mask = torch.zeros(len(clips), longest, dtype=torch.long)
        for index, clip in enumerate(clips):
            features[index, :, : clip.features.shape[1]] = torch.from_numpy(clip.features).float()
            mask[index, : clip.frames] = 1
        ids = [torch.tensor(self.ids(clip)) for clip in clips]
        arguments = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad),
            "attention_mask": pad_sequence([torch.ones_like(item) for item in ids], batch_first=True),
            "input_features": features,
            "input_features_mask": mask,
        }
        targets = {
            "times": torch.cat([torch.from_numpy(clip.times) for clip in clips]),
            "token_times": torch.cat([token_times(clip) for clip in clips]),
            "token_words": torch.cat([token_words(clip) for clip in clips]),
        }
        return arguments, targets
