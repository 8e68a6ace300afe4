"""Qwen3-Omni's facts hold on the real class: every target is there, and what stays has a reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sottovoce.formats.experts import unfuse_
from sottovoce.host import Host
from sottovoce.selection import OTHER_REASON, select_layers

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


def real_model() -> Any:
    """The published configuration, without memory for its weights."""
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    config = Qwen3OmniMoeConfig(enable_audio_output=True)
    # The published configuration names these; the defaults of the class do not.
    text, talker = config.thinker_config.text_config, config.talker_config
    for name, value in {
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "vocab_size": 152064,
        "head_dim": 128,
    }.items():
        setattr(text, name, value)
    config.thinker_config.audio_config.output_dim = config.thinker_config.vision_config.out_hidden_size = 2048
    talker.text_config.shared_expert_intermediate_size, talker.spatial_merge_size = 768, 2
    with torch.device("meta"):
        return Qwen3OmniMoeForConditionalGeneration(config)


def test_targets_and_what_is_kept() -> None:
    module = real_model()
    facts = Host().architectures["qwen3-omni-moe"]
    assert type(module).__name__ in facts.matches
    assert len(unfuse_(module, facts.experts)) == 48 + 20
    selection = select_layers(module, facts)
    names = [target.name for target in selection.targets]
    assert sum(name.startswith("thinker.model.") for name in names) == 48 * (4 + 3 * 128)
    assert sum(name.startswith("talker.model.") for name in names) == 20 * (4 + 3 * 128)
    assert not [name for name in names if "code_predictor" in name or "audio_tower" in name]
    assert not [kept.name for kept in selection.kept if kept.reason.startswith(OTHER_REASON)]
    assert selection.coverage.ratio > 0.9
    assert 34e9 < selection.coverage.parameters < 37e9
