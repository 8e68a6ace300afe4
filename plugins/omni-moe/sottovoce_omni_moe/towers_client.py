#!/usr/bin/env python3
"""Run exported towers on what the model's processor gives; needs onnxruntime and numpy alone.

Towers(directory).hear(input_features, feature_attention_mask)  # embeddings [audio tokens, width]
Towers(directory).see(pixel_values, image_grid_thw)  # those of picture tokens, and of every depth that is read
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[Mapping[str, Any]], Sequence[Any]]
Load = Callable[[Path], Run]
AUDIO, VISION = "audio_tower", "vision_tower"


class Towers:
    """The towers of a directory, each of which is loaded when it is first asked for."""

    def __init__(self, directory: Path, load: Load | None = None, quantized: bool | None = None) -> None:
        """Read the settings.

        Args:
            directory: What export wrote.
            load: Loads a graph, and returns what runs it: inputs by name to a list of outputs; onnxruntime by default.
            quantized: If true, the graphs in int8 or int4, where a tower has one; by default these too.
        """
        self.directory, self._load = directory, load or onnx_run
        self.settings: dict[str, Any] = json.loads((directory / "towers.json").read_text(encoding="utf-8"))
        self._quantized, self._loaded = quantized is not False, dict[str, Run]()

    def path(self, tower: str) -> Path:
        """Return the file of a tower."""
        if tower not in self.settings:
            raise ValueError(f"{self.directory.name}: the model has no {tower.replace('_', ' ')}")
        path = self.directory / f"{tower}_quant.onnx"
        return path if self._quantized and path.is_file() else self.directory / f"{tower}.onnx"

    def hear(self, features: Any, mask: Any) -> Any:
        """Return the embeddings of audio tokens ``[tokens, width]``, one audio after the other.

        Args:
            features: Log-mel features ``[audios, mels, frames]``.
            mask: Which frames are real ``[audios, frames]``; they come first.
        """
        frames = np.asarray(mask).astype(bool).sum(axis=1)
        audios = [audio[:, :count] for audio, count in zip(features, frames, strict=True)]
        return self.hear_frames(np.concatenate(audios, axis=1), frames)

    def hear_frames(self, features: Any, frames: Any) -> Any:
        """Do the same for the real frames alone ``[mels, frames]`` of audios of so many frames each."""
        run = self._tower(AUDIO)
        chunks, lengths = audio_windows(np.asarray(features), [int(count) for count in frames], self.settings[AUDIO])
        return _real(run({"chunks": chunks, "lengths": lengths})[0], lengths)

    def see(self, patches: Any, grids: Any) -> list[Any]:
        """Return the embeddings of picture tokens ``[tokens, width]``, then those of every depth that is read.

        Args:
            patches: Values ``[patches, values]`` of all pictures or videos.
            grids: Frames, rows and columns ``[pictures, 3]`` of each.
        """
        run, settings = self._tower(VISION), self.settings[VISION]
        inputs = vision_frames(np.asarray(patches), [[int(size) for size in grid] for grid in grids], settings)
        return [_real(output, inputs["lengths"] // settings["merge"] ** 2) for output in run(inputs)]

    def _tower(self, name: str) -> Run:
        if name not in self._loaded:
            self._loaded[name] = self._load(self.path(name))
        return self._loaded[name]


def onnx_run(path: Path) -> Run:
    """Return what runs a graph in onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))


def audio_windows(features: Any, frames: Sequence[int], settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return audios as windows of chunks ``[windows, chunks, mels, frames]``, and the real positions of each window.

    Args:
        features: Real frames ``[mels, frames]`` of all audios, one after the other.
        frames: Number of frames of each.
        settings: Those of the audio tower: frames of a chunk, and chunks of a window.
    """
    if not frames or min(frames) < 1 or sum(frames) != features.shape[1]:
        raise ValueError(
            f"the lengths of audios {list(frames)} do not add up to the length of the features, {features.shape[1]}"
        )
    # Chunks are as long as the longest: a single short audio is not filled up, as in training.
    size, most = min(max(frames), settings["chunk_frames"]), settings["window_chunks"]
    windows = []
    for audio in np.split(features, np.cumsum(frames)[:-1], axis=1):
        for begin in range(0, audio.shape[1], most * settings["chunk_frames"]):
            windows.append(audio[:, begin : begin + most * settings["chunk_frames"]])
    count = max(-(-window.shape[1] // size) for window in windows)
    chunks = np.zeros((len(windows), features.shape[0], count * size), np.float32)
    for number, window in enumerate(windows):
        chunks[number, :, : window.shape[1]] = window
    chunks = chunks.reshape(len(windows), features.shape[0], count, size).transpose(0, 2, 1, 3)
    # Three convolutions halve each chunk.
    lengths = [window.shape[1] // size * -(-size // 8) + -(-(window.shape[1] % size) // 8) for window in windows]
    return np.ascontiguousarray(chunks), np.array(lengths, np.int64)


def vision_frames(patches: Any, grids: Sequence[Sequence[int]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of the vision tower: each frame of each picture or video, filled up to the largest."""
    counts = [rows * columns for times, rows, columns in grids for _ in range(times)]
    if not counts or min(counts) < 1 or sum(counts) != len(patches):
        raise ValueError(
            f"the sizes of pictures {[list(grid) for grid in grids]} do not add up to as many patches: {len(patches)}"
        )
    inputs = {
        "patches": np.zeros((len(counts), max(counts), patches.shape[1]), np.float32),
        "places": np.zeros((len(counts), max(counts), 4), np.int64),
        "shares": np.zeros((len(counts), max(counts), 4), np.float32),
        "positions": np.zeros((len(counts), max(counts), 2), np.int64),
    }
    number = begin = 0
    for times, rows, columns in grids:
        positions = _positions(rows, columns, settings["merge"])
        places, shares = _interpolation(positions, (rows, columns), settings["table_side"])
        for _ in range(times):
            count = rows * columns
            values = (patches[begin : begin + count], places, shares, positions)
            for array, value in zip(inputs.values(), values, strict=True):
                array[number, :count] = value
            number, begin = number + 1, begin + count
    return {**inputs, "lengths": np.array(counts, np.int64)}


def _positions(rows: int, columns: int, merge: int) -> Any:
    """Return row and column ``[patches, 2]`` of patches, square after square."""
    if rows % merge or columns % merge:
        raise ValueError(f"a picture of {rows} x {columns} patches does not divide into squares of {merge}")
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
    blocks = grid.reshape(rows // merge, merge, columns // merge, merge, 2)
    return blocks.transpose(0, 2, 1, 3, 4).reshape(-1, 2)


def _interpolation(positions: Any, sizes: Sequence[int], side: int) -> tuple[Any, Any]:
    """Return the four entries of a square table around each position ``[patches, 4]``, and their weights."""
    places, shares = [], []
    for axis, size in enumerate(sizes):
        exact = positions[:, axis].astype(np.float32) * np.float32(side - 1) / np.float32(max(size - 1, 1))
        low = np.floor(exact).astype(np.int64)
        share = exact - low
        places.append(np.stack([low, np.minimum(low + 1, side - 1)], axis=1))
        shares.append(np.stack([1 - share, share], axis=1).astype(np.float32))
    flat = (places[0][:, :, None] * side + places[1][:, None]).reshape(-1, 4)
    return flat, (shares[0][:, :, None] * shares[1][:, None]).reshape(-1, 4)


def _real(outputs: Any, lengths: Any) -> Any:
    """Return what is real of ``[windows, positions, width]``, one window after the other."""
    return np.concatenate([output[:length] for output, length in zip(outputs, lengths, strict=True)])
