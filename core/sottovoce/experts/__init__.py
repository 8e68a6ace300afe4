"""Mixtures of experts: fewer of them, or fewer that run."""
