"""Quantization: round weights to few bits, with or without calibration samples."""
