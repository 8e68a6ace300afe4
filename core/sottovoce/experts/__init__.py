"""Pruning and skipping of the experts of a mixture."""
