"""Metrics, one file each, which declares them; every file is a plugin of the host."""
