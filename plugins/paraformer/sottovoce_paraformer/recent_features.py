"""Features of the samples that a model heard last, for work that runs the same few samples again and again."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sottovoce import Sample

CAPACITY = 32
"""Samples that are remembered: as many as a search measures every choice on."""
LONGEST = 500
"""Rows of the longest that is: half a minute, a megabyte."""

Features = tuple[Tensor, Tensor]


class RecentFeatures:
    """Features by sample and front end. Whoever asks gets a copy: FunASR's encoder scales its input in place."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._known: OrderedDict[tuple[int, int], tuple[weakref.ref[Sample], weakref.ref[Any], Features]] = (
            OrderedDict()
        )

    def get(self, sample: Sample, frontend: Any, compute: Callable[[], Features]) -> Features:
        """Return the features of a sample: ``[1, frames, features]`` and their length ``[1]``.

        Args:
            sample: The sample; the very object is recognized, not its name.
            frontend: What computes them.
            compute: Function that does it.
        """
        key = id(sample), id(frontend)
        known = self._known.get(key)
        # An object may have got the number of one that is gone.
        if known is not None and known[0]() is sample and known[1]() is frontend:
            self._known.move_to_end(key)
            speech, lengths = known[2]
            return speech.clone(), lengths.clone()
        speech, lengths = compute()
        if speech.shape[1] <= LONGEST:
            self._known[key] = weakref.ref(sample), weakref.ref(frontend), (speech.clone(), lengths.clone())
            self._known.move_to_end(key)
            while len(self._known) > CAPACITY:
                self._known.popitem(last=False)
        return speech, lengths
