"""Tokens of the user, which must neither be shown nor published."""

from __future__ import annotations

import contextlib
import os

VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "MODELSCOPE_SDK_TOKEN")


def own_tokens(*given: str | None) -> frozenset[str]:
    """Return the given tokens, those in the environment, and those that the clients have saved."""
    tokens = {*given, *(os.environ.get(name) for name in VARIABLES)}
    # A client that is not installed has saved no token, and one that cannot read its file uses none.
    with contextlib.suppress(Exception):
        from huggingface_hub import get_token

        tokens.add(get_token())
    with contextlib.suppress(Exception):
        from modelscope_hub.config import get_default_config

        tokens.add(get_default_config().token)
    return frozenset(token.strip() for token in tokens if token and token.strip())
