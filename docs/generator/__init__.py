"""Parts of docs/generate.py: what the code says, as Markdown."""
