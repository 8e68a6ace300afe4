"""Memory as kernels read and write it: numbers at addresses, bfloat16 among them.

A row is a separate array, indexed from zero: numba lets indices count from the end, and only where LLVM sees that
none does so it works on many elements at a time.

A change here needs the folders ``__pycache__`` of the kernels removed: numba keeps what it compiled until the file of
the kernel itself changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
from numba import carray, njit, types
from numba.extending import intrinsic, overload


def _pointer(kind: Any) -> Callable[[Any], Any]:
    """Return a function of an address: the pointer to numbers of a kind."""

    @intrinsic  # type: ignore[untyped-decorator]
    def pointer(context: Any, address: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], target.get_value_type(types.CPointer(kind)))

        return types.CPointer(kind)(types.int64), generate

    return pointer  # type: ignore[no-any-return]


def _same_bits(source: Any, target: Any) -> Callable[[Any], Any]:
    """Return a function of a number: another kind's with the same bits."""

    @intrinsic  # type: ignore[untyped-decorator]
    def cast(context: Any, number: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(machine: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], machine.get_value_type(target))

        return target(source), generate

    return cast  # type: ignore[no-any-return]


float_of_bits = _same_bits(types.uint32, types.float32)
bits_of_float = _same_bits(types.float32, types.uint32)

_16, _1, _7FFF = numpy.uint32(16), numpy.uint32(1), numpy.uint32(0x7FFF)
_bytes, _halves, _words = _pointer(types.uint8), _pointer(types.uint16), _pointer(types.int64)
_floats, _doubles = _pointer(types.float32), _pointer(types.float64)
_thread = types.ExternalFunction("omp_get_thread_num", types.int32())
_threads = types.ExternalFunction("omp_get_num_threads", types.int32())


@njit  # type: ignore[untyped-decorator]
def words(address: Any, count: Any) -> Any:
    """Return ``count`` int64 from ``address`` on: a kernel's arguments."""
    return carray(_words(address), (count,))


@njit  # type: ignore[untyped-decorator]
def doubles(address: Any, count: Any) -> Any:
    """Return ``count`` float64 from ``address`` on: a kernel's arguments, those that are fractions."""
    return carray(_doubles(address), (count,))


@njit  # type: ignore[untyped-decorator]
def floats(address: Any, row: Any, width: Any) -> Any:
    """Return a row of float32."""
    return carray(_floats(address + 4 * row * width), (width,))


@njit  # type: ignore[untyped-decorator]
def halves(address: Any, row: Any, width: Any) -> Any:
    """Return a row of bfloat16, as their bits."""
    return carray(_halves(address + 2 * row * width), (width,))


@njit  # type: ignore[untyped-decorator]
def bytes_(address: Any, row: Any, width: Any) -> Any:
    """Return a row of uint8."""
    return carray(_bytes(address + row * width), (width,))


@njit  # type: ignore[untyped-decorator]
def widen(half: Any) -> Any:
    """Return the float32 whose upper half a bfloat16 is."""
    return float_of_bits(numpy.uint32(numpy.uint32(half) << _16))


@njit  # type: ignore[untyped-decorator]
def narrow(number: Any) -> Any:
    """Return the nearest bfloat16, of two equally near the even one."""
    bits = bits_of_float(number)
    even = numpy.uint32(numpy.uint32(bits >> _16) & _1)
    return numpy.uint16(numpy.uint32(numpy.uint32(bits + _7FFF) + even) >> _16)


@njit  # type: ignore[untyped-decorator]
def share(count: Any) -> Any:
    """Return this thread's part of ``count`` rows: its first and the one after its last."""
    thread, threads = _thread(), _threads()
    return count * thread // threads, count * (thread + 1) // threads


def row_like(row: Any, address: Any, number: Any, width: Any) -> Any:
    """Return another row of the same kind, bfloat16 or float32; only in compiled functions, as the next two."""
    raise NotImplementedError


def read(row: Any, place: Any) -> Any:
    """Return a number of a row as float32."""
    raise NotImplementedError


def write(row: Any, place: Any, number: Any) -> None:
    """Set a number of a row to a float32, rounded to its kind."""
    raise NotImplementedError


@overload(row_like, strict=False)  # type: ignore[untyped-decorator]
def _row_like(row: Any, address: Any, number: Any, width: Any) -> Callable[..., Any]:
    if row.dtype == types.uint16:
        return lambda row, address, number, width: halves(address, number, width)
    return lambda row, address, number, width: floats(address, number, width)


@overload(read, strict=False)  # type: ignore[untyped-decorator]
def _read(row: Any, place: Any) -> Callable[..., Any]:
    if row.dtype == types.uint16:
        return lambda row, place: widen(row[place])
    return lambda row, place: row[place]


@overload(write, strict=False)  # type: ignore[untyped-decorator]
def _write(row: Any, place: Any, number: Any) -> Callable[..., Any]:
    def halved(row: Any, place: Any, number: Any) -> None:
        row[place] = narrow(number)

    def whole(row: Any, place: Any, number: Any) -> None:
        row[place] = number

    return halved if row.dtype == types.uint16 else whole
