"""Addresses of models on the hubs."""

from __future__ import annotations

from urllib.parse import quote

SITES = {"hf": "https://huggingface.co", "modelscope": "https://modelscope.cn/models"}
"""Addresses of the hubs' models."""
DEFAULT_BRANCH = {"hf": "main", "modelscope": "master"}
NAMES = {"hf": "Hugging Face Hub", "modelscope": "ModelScope"}


def page(repository: str, hub: str, revision: str | None = None) -> str:
    """Return the page of a model, at a branch or a commit if given."""
    name = quote(revision, safe="") if revision else ""
    at = "" if not name else f"/tree/{name}" if hub == "hf" else f"/files?version={name}"
    return f"{SITES[hub]}/{repository}{at}"
