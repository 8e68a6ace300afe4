"""Structured pruning with error compensation, and pruning of single weights."""
