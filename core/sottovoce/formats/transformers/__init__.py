"""Checkpoints of the transformers library: loading and writing."""
