"""Calibration: samples through a model, block by block."""
