"""Verbs of the Python API: one file each."""
