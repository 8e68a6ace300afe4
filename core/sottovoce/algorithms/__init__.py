"""Compression algorithms, one file a method; each is a plugin of the host's own."""
