"""Packed words bit for bit: against integers of Python, and against the library that defined the format."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sottovoce.runtime.packing import pack, unpack, words

BITS = st.sampled_from([2, 3, 4, 8])
SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 999)


def draw(rows: int, columns: int, bits: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    return torch.randint(low, high, (rows, columns), generator=generator, dtype=torch.int8)


def plain(row: list[int], bits: int) -> list[int]:
    """One row's words as signed integers: values moved to zero, end to end from the lowest bit on."""
    total = sum((step + 2 ** (bits - 1)) << (bits * place) for place, step in enumerate(row))
    count = -(-len(row) * bits // 32)
    return [
        int.from_bytes((total >> (32 * word) & 0xFFFFFFFF).to_bytes(4, "little"), "little", signed=False)
        - (1 << 32 if total >> (32 * word + 31) & 1 else 0)
        for word in range(count)
    ]


@given(rows=SIZES, columns=SIZES, bits=BITS, seed=SEEDS)
def test_words_are_those_of_plain_integers(rows: int, columns: int, bits: int, seed: int) -> None:
    qweight = draw(rows, columns, bits, seed)
    packed = pack(qweight, bits)
    assert packed.dtype == torch.int32
    assert packed.shape == (rows, words(columns, bits))
    assert packed.tolist() == [plain(row, bits) for row in qweight.tolist()]


@given(rows=SIZES, columns=SIZES, bits=BITS, seed=SEEDS)
def test_unpacking_gives_the_values_back(rows: int, columns: int, bits: int, seed: int) -> None:
    qweight = draw(rows, columns, bits, seed)
    found = unpack(pack(qweight, bits), bits, columns)
    assert found.dtype == torch.int8
    assert found.equal(qweight)
    # Zero points lie along the outputs, so what is packed and unpacked is transposed.
    assert unpack(pack(qweight.t(), bits), bits, rows).t().equal(qweight)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_value_has_bits_of_its_own(bits: int) -> None:
    qweight = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).to(torch.int8)[None]
    packed = pack(qweight, bits)
    first = {2: b"\xe4\x00\x00\x00", 3: b"\x88\xc6\xfa\x00", 4: b"\x10\x32\x54\x76", 8: b"\x00\x01\x02\x03"}
    assert bytes(packed.view(torch.uint8).flatten().tolist()[:4]) == first[bits]
    assert unpack(packed, bits, qweight.shape[1]).equal(qweight)


@pytest.mark.parametrize(
    ("columns", "bits", "count"),
    [
        (1, 4, 1),
        (8, 4, 1),
        (9, 4, 2),
        (4, 8, 1),
        (5, 8, 2),
        (64, 4, 8),
        (16, 2, 1),
        (17, 2, 2),
        (10, 3, 1),
        (11, 3, 2),
        (32, 3, 3),
    ],
)
def test_rows_are_whole_words(columns: int, bits: int, count: int) -> None:
    assert words(columns, bits) == count


@given(rows=SIZES, columns=SIZES, bits=BITS, seed=SEEDS)
def test_compressed_tensors_packs_the_same_words(rows: int, columns: int, bits: int, seed: int) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    qweight = draw(rows, columns, bits, seed)
    packed = pack(qweight, bits)
    assert helpers.pack_to_int32(qweight, bits).equal(packed)
    assert helpers.unpack_from_int32(packed, bits, torch.Size((rows, columns))).equal(qweight)
    along_rows = helpers.pack_to_int32(qweight, bits, packed_dim=0)
    assert along_rows.equal(pack(qweight.t(), bits).t())
