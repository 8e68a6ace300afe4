"""Passes over tensors on the CPU, each compiled into one where PyTorch's operators take several.

What reads a tensor once and writes one costs what memory costs; five operators in a row cost that five times. numba
compiles the functions here when they are first called and keeps them on disk; PyTorch's own threads run them. Only
:mod:`sottovoce.runtime.kernels.availability` and what it imports need no numba: ask its :func:`takes` first, and do
without where it says no.
"""
