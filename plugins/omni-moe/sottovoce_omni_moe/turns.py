"""Owners of a conversation's tokens: the user, the assistant, or the media."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEADER = 3
"""Tokens that open the assistant's turn: its start, the role, a new line."""


def media_mask(config: Any, ids: Tensor) -> Tensor:
    """Mark the tokens that stand for audio, pictures or video ``[tokens]``."""
    thinker = config.thinker_config
    return torch.isin(ids, ids.new_tensor([thinker.audio_token_id, thinker.image_token_id, thinker.video_token_id]))


def users_mask(config: Any, prompt: Tensor) -> Tensor:
    """Mark the tokens of the user's turns, with those that open and end them ``[tokens]``."""
    places = torch.arange(len(prompt), device=prompt.device)
    starts = torch.where(prompt == config.im_start_token_id, places, -1).cummax(0).values.clamp(min=0)
    roles = prompt[(starts + 1).clamp(max=len(prompt) - 1)]
    return roles.eq(config.user_token_id)


def last_turn(config: Any, ids: Tensor, length: int) -> Tensor:
    """Return the assistant's last turn, from where it opens, without the token that ends it."""
    prompt = ids[:length]
    begins = (prompt[:-1] == config.im_start_token_id) & (prompt[1:] == config.assistant_token_id)
    turn = ids[int(begins.nonzero()[-1]) :]
    return turn[:-1] if turn[-1] == config.im_end_token_id else turn
