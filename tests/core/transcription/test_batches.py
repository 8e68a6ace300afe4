"""Which pieces are recognized together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sottovoce.transcription.batches import AHEAD, BATCH_SECONDS, WASTE, batches, groups
from sottovoce.transcription.pieces import Piece

LENGTHS = st.lists(st.floats(0.1, 60), max_size=40)


@given(LENGTHS)
def test_every_piece_is_in_one_batch_within_the_bounds(lengths: list[float]) -> None:
    parts = batches(lengths)
    assert sorted(number for part in parts for number in part) == list(range(len(lengths)))
    for part in parts:
        padded = max(lengths[number] for number in part) * len(part)
        assert len(part) == 1 or padded <= BATCH_SECONDS + 1e-6
        assert sum(lengths[number] for number in part) >= (1 - WASTE) * padded - 1e-6


@given(LENGTHS)
def test_groups_are_consecutive_and_no_longer_than_one_waits(lengths: list[float]) -> None:
    parts, start = [], 0
    for length in lengths:
        end = start + round(16000 * length)
        parts.append(Piece(start, end))
        start = end
    joined = list(groups(parts))
    assert [piece for group in joined for piece in group] == parts
    assert all(len(group) == 1 or sum(piece.seconds for piece in group) <= AHEAD for group in joined)


def test_short_pieces_of_like_length_share_a_batch() -> None:
    assert batches([1.0, 5.0, 1.05, 4.9, 12.0]) == [(4,), (1, 3), (2, 0)]
