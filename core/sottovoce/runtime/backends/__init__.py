"""Engines that multiply int8 matrices."""
