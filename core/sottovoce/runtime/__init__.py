"""Layers that run compressed weights, and the engines and kernels under them; public for plugins."""
