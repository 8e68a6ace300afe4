"""Service on one machine: an OpenAI-compatible API, and a page to hear and to compare."""
