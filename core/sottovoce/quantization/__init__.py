"""Quantization of weights and activations."""
